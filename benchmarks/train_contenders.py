"""Who is compared in a training benchmark, and the proof that all of them train the same model.

Ours and the peer are built from one configuration and driven over one task, so that a difference
in speed cannot be a difference in work. ``agreements`` holds them against each other before
anything is timed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from benchmarks.padded_peer import build_peer, check_not_repacked, copy_adapters, peer_updates
from lmsl.alignment import Aligner
from lmsl.assemble import Assembled
from lmsl.base import load_base
from lmsl.config import Config
from lmsl.data import Dataset
from lmsl.examples import Example, build_examples
from lmsl.loop import Task, Update, training_updates
from lmsl.lora import RunParameters, stacked_layers, trainable_parameters
from lmsl.optim import build_optimizer, default_lr
from lmsl.runs import Run
from lmsl.stack import Place, assemble_runs
from lmsl.vocabulary import label_vocabulary

CPU = torch.device("cpu")
# Both sides compute in float32; only the order of their sums differs.
TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Loss and gradient norm of one update by ours and by the peer."""

    weights: str
    loss: float
    peer_loss: float
    grad_norm: float
    peer_grad_norm: float
    same_tokens: bool

    @property
    def difference(self) -> float:
        """The larger of the two relative differences."""
        return max(
            abs(self.loss - self.peer_loss) / abs(self.peer_loss),
            abs(self.grad_norm - self.peer_grad_norm) / abs(self.peer_grad_norm),
        )

    @property
    def holds(self) -> bool:
        # Written so that a NaN does not pass.
        return self.same_tokens and self.difference <= TOLERANCE

    def line(self) -> str:
        """For people."""
        return (
            f"gate, {self.weights}: loss {self.loss:.6f}, peer {self.peer_loss:.6f}; "
            f"gradient norm {self.grad_norm:.6f}, peer {self.peer_grad_norm:.6f}; "
            f"differ by {self.difference:.1e}: {'ok' if self.holds else 'FAILED'}"
        )

    def record(self) -> dict[str, object]:
        return asdict(self) | {"difference": self.difference, "holds": self.holds}


def build_task(data: Dataset, config: Config) -> tuple[Task, int]:
    """The sentences as the loops want them, and the number of classes."""
    labels = label_vocabulary([data])
    aligner = Aligner(load_base(config.model).tokenizer)
    built = build_examples(
        data.sentences, aligner, max_length=config.max_length, overflow=config.overflow
    )
    by_sentence: list[list[Example]] = [[] for _ in data.sentences]
    for example in built.examples:
        by_sentence[example.sentence].append(example)
    task = Task(
        examples=by_sentence,
        labels=[labels.ids(sentence.tags or ()) for sentence in data.sentences],
        names=[sentence.where for sentence in data.sentences],
    )
    return task, len(labels)


def build_ours(config: Config, classes: int) -> Assembled:
    """A stack of one run, put together as ``lmsl train`` does it."""
    place = Place(device=CPU, dtype=torch.float32)
    run = Run(config=config, folder=Path())
    return assemble_runs([run], config, load_base(config.model), classes, place)


def our_updates(ours: Assembled, task: Task, config: Config, *, train: bool) -> Iterator[Update]:
    """lmsl's own loop; without ``train`` the gradients are computed and nothing changes."""
    runs = RunParameters(trainable_parameters(ours.tagger), runs=1)
    return training_updates(
        ours.tagger,
        task,
        config,
        clock=ours.clock,
        parameters=runs,
        optimizers=[_optimizer(runs.views[0], config, ours)] if train else [],
        peak_lr=default_lr(ours.tagger.head.hidden),
        device=CPU,
    )


def matching_peer(config: Config, ours: Assembled, classes: int) -> nn.Module:
    """The peer over the same base, with adapters in the same places."""
    return build_peer(
        load_base(config.model).decoder.name_or_path,
        config,
        classes=classes,
        targets=ours.lora.targets,
        seed=config.seed[0],
    )


def our_contender(config: Config, classes: int, task: Task) -> Callable[[], int]:
    """One training update of ours, returning its real tokens."""
    updates = our_updates(build_ours(config, classes), task, config, train=True)
    return lambda: next(updates).tokens


def peer_contender(config: Config, classes: int, task: Task) -> Callable[[], int]:
    """One training update of the peer, returning its real tokens."""
    ours = build_ours(config, classes)
    peer = matching_peer(config, ours, classes)
    optimizer = _optimizer(trainable_parameters(peer), config, ours)
    updates = peer_updates(peer, task, config, seed=config.seed[0], optimizer=optimizer)
    return lambda: next(updates).tokens


def agreements(config: Config, task: Task, classes: int) -> list[Agreement]:
    """Ours, causal, against the peer on one update: NF4 kept dequantised, NF4 and dense weights
    with the fast block, and the first again through transformers' own forward.

    Dropout is off, as the two draw it differently, and adapters and head are copied over.
    """
    return [
        _agreement("NF4 resident", replace(config, resident="yes"), task, classes),
        _agreement("NF4", replace(config, resident="no"), task, classes),
        _agreement("dense", replace(config, quantize="none"), task, classes),
        _agreement(
            "NF4 resident, plain block",
            replace(config, resident="yes", block="plain"),
            task,
            classes,
        ),
    ]


def _agreement(weights: str, config: Config, task: Task, classes: int) -> Agreement:
    config = replace(config, unmask=("causal",), lora_dropout=0.0, head_dropout=0.0)
    ours = build_ours(config, classes)
    generator = torch.Generator().manual_seed(config.seed[0])
    for layer in stacked_layers(ours.tagger.decoder).values():
        # Fresh adapters are zero and would agree whatever the code did.
        layer.lora_B.data.normal_(0.0, 0.05, generator=generator)
    peer = matching_peer(config, ours, classes)
    copy_adapters(ours.tagger, peer)
    mine = next(our_updates(ours, task, config, train=False))
    its = next(peer_updates(peer, task, config, seed=config.seed[0], optimizer=None))
    check_not_repacked(peer)
    return Agreement(
        weights=weights,
        loss=mine.loss[0],
        peer_loss=its.loss,
        grad_norm=mine.grad_norm[0],
        peer_grad_norm=its.grad_norm,
        same_tokens=mine.tokens == its.tokens,
    )


def _optimizer(
    parameters: Mapping[str, torch.Tensor], config: Config, ours: Assembled
) -> torch.optim.Optimizer:
    """The same fused AdamW for everybody."""
    return build_optimizer(
        parameters,
        name="adamw",
        lr=default_lr(ours.tagger.head.hidden),
        beta2=config.beta2,
        epsilon=config.epsilon,
        weight_decay=config.weight_decay,
    )
