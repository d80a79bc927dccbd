"""Which models are fine-tuned, as what, and in which order."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.small_scale.pretraining import OBJECTIVES, Objective
from benchmarks.small_scale.settings import Settings
from benchmarks.small_scale.text import BLOCK, SEED
from benchmarks.study.cells import Cell
from benchmarks.study.systems import System

PRETRAINING = "pre-training"
"""Stands as the data of a checkpoint's line."""
_RATIO = 3
"""Tokens of a checkpoint by those of the one before."""


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How a checkpoint is fine-tuned."""

    name: str
    objective: Objective
    unmask: str


MODES = (
    # All layers see to both sides: the string that lmsl calls `full`.
    Mode(name="Encoder", objective="masked", unmask="1111"),
    Mode(name="Decoder masked", objective="causal", unmask="0000"),
    Mode(name="Decoder unmasked", objective="causal", unmask="1111"),
    Mode(name="Decoder 0011", objective="causal", unmask="0011"),
)


def total_updates(settings: Settings) -> int:
    """Of pre-training: so many that the tokens are reached."""
    return -(-settings.tokens // (settings.blocks * BLOCK))


def checkpoints(settings: Settings) -> list[int]:
    """Updates of pre-training after which a model is kept, 0 the first; fewer than asked for
    where there are not enough updates to tell them apart."""
    last, count = total_updates(settings), settings.checkpoints - 1
    found = {max(1, round(last / _RATIO**place)) for place in range(count)}
    return [0, *sorted(found)]


def folder_name(objective: Objective, updates: int, settings: Settings) -> str:
    """Of a checkpoint; both objectives begin with the same model."""
    return f"{objective}-{updates * settings.blocks * BLOCK}" if updates else "initial"


def system_of(mode: Mode, updates: int, settings: Settings) -> System:
    """A mode on a checkpoint, as the training of a cell wants it."""
    model = folder_name(mode.objective, updates, settings)
    return System(
        # Not by its mode: on the initial model two of them are one training.
        name=f"{model} {mode.unmask}",
        said=f"{mode.name}, {model}",
        model=model,
        unmask=mode.unmask,
        flags=("--tune", "full", "--max-length", str(BLOCK)),
        rates=(settings.lr,),
    )


def fine_tunings(settings: Settings) -> dict[Cell, System]:
    """All cells in the order of their turns: a seed of everything before the next seed, so that
    a stopped study is a table all the same."""
    return {cell_of(data, system, seed): system for data, system, seed in _turns(settings)}


def cell_of(data: str, system: System, seed: int) -> Cell:
    return Cell(data=data, system=system.name, lr=system.rates[0], seed=seed)


def checkpoint_cell(objective: Objective, updates: int, settings: Settings) -> Cell:
    """The cell whose line has the losses of a checkpoint."""
    return Cell(
        data=PRETRAINING,
        system=f"{objective} {updates * settings.blocks * BLOCK}",
        lr=settings.pretraining_lr,
        seed=SEED,
    )


def checkpoint_cells(settings: Settings) -> list[Cell]:
    return [
        checkpoint_cell(objective, updates, settings)
        for objective in OBJECTIVES
        for updates in checkpoints(settings)
    ]


def _turns(settings: Settings) -> Iterator[tuple[str, System, int]]:
    for seed in range(1, settings.seeds + 1):
        for data in settings.datasets:
            for updates in checkpoints(settings):
                for mode in MODES:
                    yield data, system_of(mode, updates, settings), seed
