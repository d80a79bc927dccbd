"""The work of a training benchmark: the same updates of the same model, and ours doing them.

Ours and every peer are built from one configuration and driven over one task, so that a difference
in speed cannot be a difference in work.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.shared.labelled import CPU_PLACE
from benchmarks.shared.shapes import base_of
from lmsl.config.config import Config
from lmsl.data.tags.sentence import Dataset
from lmsl.data.tags.vocabulary import label_vocabulary
from lmsl.layers.lora import RunParameters, trainable_parameters
from lmsl.mask.bits import layer_bits
from lmsl.packs.alignment import Aligner
from lmsl.packs.examples import Example, build_examples
from lmsl.tagger.assemble import Assembled
from lmsl.tagger.base import Base, load_base
from lmsl.training.captured_step import choose_step
from lmsl.training.loop import Task, Update, training_updates
from lmsl.training.optim import build_optimizer, default_lr
from lmsl.training.runs import Run
from lmsl.training.stack import Place, assemble_runs


@dataclass(frozen=True, kw_only=True)
class Work:
    """What everybody does: the same updates of the same model."""

    config: Config
    task: Task
    classes: int
    place: Place = CPU_PLACE
    micro: int | None = None
    """Sentences of one forward of a padded peer; None is the whole update."""

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


def build_ours(work: Work, base: Base | None = None) -> Assembled:
    """A stack of one run, put together as ``lmsl train`` does it.

    Args:
        base: by default one of its own; one that served others before keeps how it is quantised.
    """
    base = base or work.base()
    (string,) = work.config.unmask
    run = Run(config=work.config, folder=Path(), bits=[layer_bits(string, base.depth)])
    return assemble_runs([run], work.config, base, work.classes, work.place)


def our_updates(ours: Assembled, work: Work, *, train: bool) -> Iterator[Update]:
    """lmsl's own loop; without ``train`` the gradients are computed and nothing changes."""
    runs = RunParameters(trainable_parameters(ours.tagger), runs=1)
    return training_updates(
        ours.tagger,
        work.task,
        work.config,
        clock=ours.clock,
        parameters=runs,
        optimizers=[optimizer_of(runs.views[0], work.config, ours.tagger.head.hidden)]
        if train
        else [],
        peak_lr=default_lr(ours.tagger.head.hidden),
        device=work.place.device,
        autocast=work.place.autocast,
        compute=choose_step(
            ours.tagger, ours.clock, work.config, work.place.device, work.place.autocast, print
        ),
    )


def optimizer_of(
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
