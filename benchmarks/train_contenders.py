"""Who is compared in a training benchmark, and the proof that all of them train the same model.

Ours and the peer are built from one configuration and driven over one task, so that a difference
in speed cannot be a difference in work. ``agreements`` holds them against each other before
anything is timed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers.utils import is_flash_attn_2_available

from benchmarks.common import wait
from benchmarks.frozen_products import FrozenProducts, dequantisation_seconds
from benchmarks.labelled import CPU_PLACE
from benchmarks.padded_peer import (
    FLAT,
    PADDED,
    RELEASED,
    Style,
    build_peer,
    check_not_repacked,
    copy_adapters,
)
from benchmarks.peer_steps import peer_updates
from benchmarks.shapes import base_of
from lmsl.alignment import Aligner
from lmsl.assemble import Assembled
from lmsl.base import Base, load_base
from lmsl.config import Config
from lmsl.data import Dataset
from lmsl.examples import Example, build_examples
from lmsl.loop import Task, Update, training_updates
from lmsl.lora import RunParameters, stacked_layers, trainable_parameters
from lmsl.optim import build_optimizer, default_lr
from lmsl.runs import Run
from lmsl.stack import Place, assemble_runs
from lmsl.static_step import choose_step
from lmsl.vocabulary import label_vocabulary

SDPA, GRAPHS = "ours, NF4 resident, sdpa", "ours, NF4 resident, CUDA graphs"
OURS: dict[str, dict[str, Any]] = {
    "ours, NF4 resident": {"resident": "yes"},
    "ours, NF4": {"resident": "no"},
    # What single parts are worth: the same without them.
    "ours, NF4 resident, plain block": {"resident": "yes", "block": "plain"},
    SDPA: {"resident": "yes", "attention": "sdpa"},
    GRAPHS: {"resident": "yes", "cuda_graphs": "on"},
}
BASELINE = "peer, NF4"
PEERS: dict[str, tuple[Style, Literal["nf4", "none"]]] = {
    BASELINE: (PADDED, "nf4"),
    "peer, dense": (PADDED, "none"),
    "peer, released recipe": (RELEASED, "nf4"),
    "peer, end to end": (FLAT, "nf4"),
}
# In float32 only the order of sums differs. In bfloat16 the two round in other places: sums and
# norms are float32 here and there, and an update averages over a few hundred words.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Loss and gradient norm of one update by ours and by the peer."""

    weights: str
    loss: float
    peer_loss: float
    grad_norm: float
    peer_grad_norm: float
    same_tokens: bool
    tolerance: float

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
        return self.same_tokens and self.difference <= self.tolerance

    def line(self) -> str:
        """For people."""
        return (
            f"gate, {self.weights}: loss {self.loss:.6f}, peer {self.peer_loss:.6f}; "
            f"gradient norm {self.grad_norm:.6f}, peer {self.peer_grad_norm:.6f}; "
            f"differ by {self.difference:.1e}: {'ok' if self.holds else 'FAILED'}"
        )

    def record(self) -> dict[str, object]:
        return asdict(self) | {"difference": self.difference, "holds": self.holds}


@dataclass(frozen=True, kw_only=True)
class Work:
    """What everybody does: the same updates of the same model."""

    config: Config
    task: Task
    classes: int
    place: Place = CPU_PLACE

    def base(self) -> Base:
        """A base of one's own, with the same weights for all."""
        return base_of(self.config.model, self.place.device, self.place.dtype)

    def but(self, **changes: Any) -> "Work":
        """The same with other settings."""
        return replace(self, config=replace(self.config, **changes))


def labelled_work(data: Dataset, config: Config, place: Place = CPU_PLACE) -> Work:
    """The sentences as the loops want them."""
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
    return Work(config=config, task=task, classes=len(labels), place=place)


def build_ours(work: Work) -> Assembled:
    """A stack of one run, put together as ``lmsl train`` does it."""
    run = Run(config=work.config, folder=Path())
    return assemble_runs([run], work.config, work.base(), work.classes, work.place)


def our_updates(ours: Assembled, work: Work, *, train: bool) -> Iterator[Update]:
    """lmsl's own loop; without ``train`` the gradients are computed and nothing changes."""
    runs = RunParameters(trainable_parameters(ours.tagger), runs=1)
    return training_updates(
        ours.tagger,
        work.task,
        work.config,
        clock=ours.clock,
        parameters=runs,
        optimizers=[_optimizer(runs.views[0], work.config, ours.tagger.head.hidden)]
        if train
        else [],
        peak_lr=default_lr(ours.tagger.head.hidden),
        device=work.place.device,
        autocast=work.place.autocast,
        compute=choose_step(
            ours.tagger, ours.clock, work.config, work.place.device, work.place.autocast, print
        ),
    )


def offered(work: Work) -> dict[str, str | None]:
    """Every contender by name, and why it cannot run here."""
    cuda = work.place.device.type == "cuda"
    kernel = None if cuda else "ours and sdpa are the same on a CPU"
    released = None if cuda else "gradient checkpointing saves memory that nobody lacks here"
    flat = None if is_flash_attn_2_available() else "needs the package flash-attn and a GPU"
    graphs = None if cuda else "the device is no GPU"
    reasons = {
        SDPA: kernel,
        GRAPHS: graphs,
        "peer, released recipe": released,
        "peer, end to end": flat,
    }
    return {name: reasons.get(name) for name in (*OURS, *PEERS)}


def build(name: str, work: Work) -> Callable[[], int]:
    """One training update of a contender, which returns its real tokens when it is done."""
    step = _ours(work.but(**OURS[name])) if name in OURS else _peer(work, *PEERS[name])

    def awaited() -> int:
        tokens = step()
        wait(work.place.device)
        return tokens

    return awaited


def floor_seconds(work: Work, rows: int) -> float | None:
    """The least that an update of so many rows can take: all products with the frozen weights, and
    one dequantisation of them; None where the layers are not of the shape we know."""
    tagger = build_ours(work.but(resident="yes")).tagger
    if tagger.block is None:
        return None
    products = FrozenProducts(tagger, work.place)
    products.seconds(rows)
    return min(products.seconds(rows)[0] for _ in range(3)) + dequantisation_seconds(tagger)


def _ours(work: Work) -> Callable[[], int]:
    updates = our_updates(build_ours(work), work, train=True)
    return lambda: next(updates).tokens


def _peer(work: Work, style: Style, quantize: Literal["nf4", "none"]) -> Callable[[], int]:
    work, base = work.but(quantize=quantize), work.base()
    hidden = base.decoder.config.hidden_size
    peer = build_peer(base, work.config, classes=work.classes, place=work.place, style=style)
    optimizer = _optimizer(trainable_parameters(peer), work.config, hidden)
    updates = peer_updates(
        peer, work.task, work.config, optimizer=optimizer, place=work.place, style=style
    )
    return lambda: next(updates).tokens


def agreements(work: Work) -> list[Agreement]:
    """Ours, causal, against the peer on one update: NF4 kept dequantised, NF4 and dense weights
    with the fast block, and the first again through transformers' own forward.

    Dropout is off, as the two draw it differently, and adapters and head are copied over.
    """
    return [
        _agreement("NF4 resident", work.but(resident="yes")),
        _agreement("NF4", work.but(resident="no")),
        _agreement("dense", work.but(quantize="none")),
        _agreement("NF4 resident, plain block", work.but(resident="yes", block="plain")),
    ]


def _agreement(weights: str, work: Work) -> Agreement:
    work = work.but(unmask=("causal",), lora_dropout=0.0, head_dropout=0.0)
    ours = build_ours(work)
    generator = torch.Generator().manual_seed(work.config.seed[0])
    for layer in stacked_layers(ours.tagger.decoder).values():
        # Fresh adapters are zero and would agree whatever the code did.
        start = torch.empty(layer.lora_B.shape).normal_(0.0, 0.05, generator=generator)
        layer.lora_B.data.copy_(start)
    peer = build_peer(work.base(), work.config, classes=work.classes, place=work.place)
    copy_adapters(ours.tagger, peer)
    mine = next(our_updates(ours, work, train=False))
    its = next(peer_updates(peer, work.task, work.config, optimizer=None, place=work.place))
    check_not_repacked(peer)
    return Agreement(
        weights=weights,
        loss=mine.loss[0],
        peer_loss=its.loss,
        grad_norm=mine.grad_norm[0],
        peer_grad_norm=its.grad_norm,
        same_tokens=mine.tokens == its.tokens,
        tolerance=TOLERANCES[work.place.dtype],
    )


def _optimizer(
    parameters: Mapping[str, torch.Tensor], config: Config, hidden: int
) -> torch.optim.Optimizer:
    """The same fused AdamW for everybody."""
    return build_optimizer(
        parameters,
        name="adamw",
        lr=default_lr(hidden),
        beta2=config.beta2,
        epsilon=config.epsilon,
        weight_decay=config.weight_decay,
    )
