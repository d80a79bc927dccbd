"""A stack of runs over one frozen base: their tagger, parameters and optimizers.

What a run needs to go on is its own: a checkpoint holds one run, whatever company it was trained
in, so stacks can be cut again after every interruption and runs can leave one at any time. The
frozen tensors are in memory once. A run that is over becomes a tagger of its own, a second tree of
modules over the same tensors.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from lmsl.config.choices import LoRA
from lmsl.config.config import Config
from lmsl.layers.linears import replace_module
from lmsl.layers.lora import RunParameters, stacked_layers, trainable_parameters
from lmsl.tagger.assemble import Assembled, Operators, Storage, Trained, assemble
from lmsl.tagger.base import Base
from lmsl.tagger.captured import StaticForward
from lmsl.tagger.inference import EagerForward, Forward
from lmsl.tagger.tagger import Tagger
from lmsl.training.captured_step import StaticStep, choose_step
from lmsl.training.checkpoint import load_checkpoint, restore, save_checkpoint
from lmsl.training.eager_step import MicroStep
from lmsl.training.log import Log
from lmsl.training.optim import default_lr, optimizers_of
from lmsl.training.runs import Run
from lmsl.wording import counted


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and how all runs of a command compute."""

    device: torch.device
    dtype: torch.dtype

    @property
    def autocast(self) -> torch.dtype | None:
        return None if self.dtype == torch.float32 else self.dtype


class Stack:
    """Runs that are trained together; all are equally far.

    Args:
        runs: those with progress are put back where their checkpoints left them.
        assembled: a tagger for as many runs, in their order.
        config: what they have in common.
    """

    _compute: MicroStep | None
    _forward: Forward | None

    def __init__(self, runs: Sequence[Run], assembled: Assembled, config: Config) -> None:
        assert len({run.far for run in runs}) == 1, "runs that are not equally far"
        self.runs, self.config = list(runs), config
        self.base, self.tagger, self.clock = assembled.base, assembled.tagger, assembled.clock
        self.notes = assembled.notes
        rate = default_lr(self.tagger.head.hidden, config.tune)
        self.lr = rate if config.lr is None else config.lr
        self._bind()
        if runs[0].progress.begun:
            for run, views, optimizer in zip(
                self.runs, self.parameters.views, self.optimizers, strict=True
            ):
                found = load_checkpoint(run.folder, views, optimizer, run.origin)
                assert found is not None
                run.progress = found
        self.logs = [Log(run.folder / "log.jsonl", run.progress.updates) for run in self.runs]
        self.notes += tuple(
            f"{run.folder / 'log.jsonl'}: {counted(log.damaged, 'damaged line')} dropped"
            for run, log in zip(self.runs, self.logs, strict=True)
            if log.damaged
        )

    @property
    def updates(self) -> int:
        """Made so far."""
        return self.runs[0].progress.updates

    def keep(self, places: Sequence[int]) -> None:
        """Leave only these runs; what the others held is freed."""
        states = [self.optimizers[place].state_dict() for place in places]
        self.tagger.keep(places)
        self.clock.keep(places)
        self.runs = [self.runs[place] for place in places]
        self.logs = [self.logs[place] for place in places]
        self._bind()
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)

    def compute(self, place: Place, say: Callable[[str], None]) -> MicroStep:
        """How micro-batches are computed: the same object as long as the runs are the same."""
        if self._compute is None:
            self._compute = choose_step(
                self.tagger, self.clock, self.config, place.device, place.autocast, say
            )
        return self._compute

    def forward(self, place: Place, say: Callable[[str], None]) -> Forward:
        """How packs of an evaluation are computed: by replay where micro-batches are."""
        if self._forward is None:
            self._forward = EagerForward(self.tagger, place.device, place.autocast)
            step = self.compute(place, say)
            if isinstance(step, StaticStep) and not step.rooms.failed:
                # Of the same graphs: both use the same memory for what they need for a moment.
                self._forward = StaticForward(
                    self._forward, step.graphs, lambda line: say(f"  {line}")
                )
        return self._forward

    def save(self) -> None:
        """Write log and checkpoint of every run."""
        for run, log, views, optimizer in zip(
            self.runs, self.logs, self.parameters.views, self.optimizers, strict=True
        ):
            log.flush()
            save_checkpoint(run.folder, run.progress, views, optimizer, run.origin)

    def _bind(self) -> None:
        # What was captured belongs to parameters that are no more.
        self._compute = self._forward = None
        self.parameters = run_parameters(self.tagger)
        self.optimizers = optimizers_of(self.parameters, self.config, self.lr)


def alone(run: Run, base: Base, classes: int, place: Place) -> Assembled:
    """A run with its selected weights as a tagger of its own, over the same frozen tensors.

    It is assembled and measured like one that is loaded, and stays as it is when the stack trains
    on or another one takes its place on ``base``.
    """
    decoder, causal_lm = shared_copies(base.decoder, base.causal_lm)
    own = replace(base, decoder=decoder, causal_lm=causal_lm)
    assembled = assemble_runs([run], run.config, own, classes, place)
    (views,) = run_parameters(assembled.tagger).views
    restore(views, run.progress.kept_weights)
    return assembled


def run_parameters(tagger: Tagger) -> RunParameters:
    """What is trained, by run."""
    trained = trainable_parameters(tagger)
    adapters = {id(p) for layer in stacked_layers(tagger).values() for p in layer.parameters()}
    heads = {id(p) for p in tagger.head.parameters()}
    whole = [name for name, p in trained.items() if id(p) not in adapters | heads]
    return RunParameters(trained, tagger.head.runs, whole)


def assemble_runs(
    runs: Sequence[Run], config: Config, base: Base, classes: int, place: Place
) -> Assembled:
    """The tagger of some runs over a base that may have served others before, in place; where all
    weights are trained, over a copy of it."""
    if config.tune == "full":
        base = replace(base, decoder=copy.deepcopy(base.decoder))
    strip_lora(base.decoder)
    return assemble(
        base,
        bits=[own for run in runs for own in run.bits],
        seeds=[run.seed for run in runs],
        trained=Trained(
            classes=classes,
            label_at=config.label_at,
            lora=_lora(config),
            head_dropout=config.head_dropout,
        ),
        storage=Storage(
            quantize=config.frozen,
            resident=config.resident,
            device=place.device,
            dtype=place.dtype,
        ),
        operators=Operators(
            attention=config.attention, block=config.block, elementwise=config.elementwise
        ),
        mixed=bool(runs[0].candidates),
        own_head=config.task == "generate",
    )


def _lora(config: Config) -> LoRA | None:
    if config.tune == "full":
        return None
    return LoRA(
        rank=config.lora_rank,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        targets=config.lora_targets,
    )


def strip_lora(decoder: nn.Module) -> None:
    """Take the adapters off again, in place: the frozen layers come back to their places."""
    for name, layer in stacked_layers(decoder).items():
        replace_module(decoder, name, layer.base)


def shared_copies(*models: Any) -> tuple[Any, ...]:
    """Copies of the modules of some models, None among them, that have their tensors in common
    with them; what models share, their copies do."""
    kept = [model for model in models if model is not None]
    memo = {id(t): t for model in kept for t in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(models, memo)
