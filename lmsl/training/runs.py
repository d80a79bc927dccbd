"""The runs that a configuration asks for: which strings and seeds, where each goes, how far it is.

Several strings or seeds make several runs. Each has a directory of its own and could be trained
alone; how they are trained together is the business of ``lmsl.run``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from lmsl.config.config import Config, dump_config
from lmsl.config.strings import RANDOM
from lmsl.console import Console
from lmsl.data.formats.source import read_text
from lmsl.mask.bits import Bits, expand_strings, uneven_line
from lmsl.run_directory.digests import Digests
from lmsl.run_directory.folder import check_output, check_sweep, is_finished, is_pruned
from lmsl.run_directory.info import read_info
from lmsl.training.checkpoint import (
    Origin,
    Progress,
    read_progress,
    refuse_other_origin,
    refuse_other_settings,
)
from lmsl.training.schedule import total_updates
from lmsl.wording import counted


@dataclass(eq=False, kw_only=True)
class Run:
    """One string and one seed."""

    config: Config
    """With this string and this seed alone."""
    folder: Path
    bits: Bits = ()
    """Of its string, or of each candidate: one bit a layer that is kept."""
    number: int = 0
    """Its place among all runs of the command."""
    progress: Progress = field(default_factory=Progress)
    over: bool = False
    """Trained to its end, or stopped by patience."""
    reported: bool = False
    digests: Digests = field(default_factory=Digests)
    """Of the base and the data that it is made of."""
    candidates: tuple[str, ...] = ()
    """Strings of which each sentence draws one in every update: a one-shot run."""

    @property
    def string(self) -> str:
        return self.config.unmask[0]

    @property
    def seed(self) -> int:
        return self.config.seed[0]

    @property
    def name(self) -> str:
        if self.candidates:
            return f"one-shot over {len(self.candidates)} strings, seed {self.seed}"
        if self.config.task == "generate":
            return f"generate, seed {self.seed}"
        return f"unmask {self.string}, seed {self.seed}"

    @property
    def settings(self) -> str:
        """What ``config.yaml`` and the checkpoint say of it."""
        return dump_config(self.config)

    @property
    def origin(self) -> Origin:
        return Origin(config=self.settings, digests=self.digests)

    @property
    def far(self) -> tuple[int, bool]:
        """Updates, and whether the warm-up is over: runs of a stack are equally far."""
        return self.progress.updates, self.progress.warmed

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do according to its folder: finished, or pruned."""
        return is_finished(self.folder) or is_pruned(self.folder)


def planned_runs(
    config: Config, output: Path, depth: int, digests: Digests, console: Console
) -> list[Run]:
    """Every run of a configuration, string by string."""
    ones = [
        (config.of_strings((string,), (seed,)), bits)
        for string, bits in _strings(config, depth, console).items()
        for seed in config.seed
    ]
    if len(ones) == 1:
        ((one, bits),) = ones
        return [Run(config=one, folder=output, bits=(bits,), digests=digests)]
    return [
        Run(
            config=one,
            folder=output / one.unmask[0] / f"seed{one.seed[0]}",
            bits=(bits,),
            digests=digests,
            number=number,
        )
        for number, (one, bits) in enumerate(ones)
    ]


def check_folders(runs: Sequence[Run], output: Path, config: Config) -> None:
    """Refuse, before anything is written, every folder that a run must not go to."""
    if len(runs) > 1:
        check_sweep(output)
    for run in runs:
        check_output(run.folder, overwrite=config.overwrite, resume=config.resume)
        if config.resume and is_finished(run.folder):
            before = read_text(run.folder / "config.yaml")
            refuse_other_settings(run.folder, before, run.settings)
            if (made_of := read_info(run.folder).digests) is not None:
                refuse_other_origin(run.folder, made_of, run.digests)


def find_progress(runs: Sequence[Run], sentences: int, say: Callable[[str], None]) -> None:
    """Fill in how far runs are that an earlier process left unfinished.

    Args:
        sentences: of the training data.
        say: told of checkpoints that cannot be used.
    """
    for run in runs:
        run.progress = read_progress(run.folder, run.origin, say) or Progress()
        last, patience = total_updates(sentences, run.config), run.config.patience
        tired = patience is not None and run.progress.bad_epochs >= patience
        run.over = tired or run.progress.updates >= last


def in_stacks(runs: Sequence[Run], size: int) -> list[list[Run]]:
    """Cut runs into stacks of at most ``size``, as equal as possible.

    Only runs that are equally far go together: after a crash between two checkpoints some are an
    epoch ahead. Runs of one seed are neighbours: they see the same sentences and the same dropout
    masks, which a stack then makes once.
    """
    stacks = []
    for far in sorted({run.far for run in runs}, reverse=True):
        alike = [run for run in runs if run.far == far]
        alike = alike if size == 1 else sorted(alike, key=lambda run: run.seed)
        count = -(-len(alike) // size)
        edges = [round(place * len(alike) / count) for place in range(count + 1)]
        stacks += [alike[first:last] for first, last in pairwise(edges)]
    return stacks


def stacks_line(runs: Sequence[Run], size: int) -> str:
    """How runs are cut, for people."""
    stacks = in_stacks(runs, size)
    largest, count = max(map(len, stacks)), len(stacks)
    even = "" if len(runs) == largest * count else "up to "
    return f"{counted(len(runs), 'run')} in {counted(count, 'stack')} of {even}{largest}"


def _strings(config: Config, depth: int, console: Console) -> dict[str, tuple[bool, ...]]:
    """The strings of all runs with their bits; those that an early exit makes equal are one."""
    chosen: dict[tuple[bool, ...], str] = {}
    strings = expand_strings(config.unmask, depth, config.groups)
    if drawn := [name for name in config.unmask if name.startswith(RANDOM)]:
        console.say(f"unmask {' '.join(drawn)}: {' '.join(strings)}")
    for string, whole in strings.items():
        if (line := uneven_line(string, depth)) is not None:
            console.say(line)
        bits = whole[: config.exit_layer]
        if bits in chosen:
            console.say(f"unmask {string}: the same run as {chosen[bits]}, trained once")
        else:
            chosen[bits] = string
    return {string: bits for bits, string in chosen.items()}
