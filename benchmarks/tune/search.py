"""Looking for the entries of a table without a GPU: the first candidate that compiles well."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from benchmarks.compile_report.cases import Case, hardest_cases, required_cases
from benchmarks.compile_report.pool import Compiler
from benchmarks.tune.candidates import (
    COMMON,
    LARGE,
    SINGLE,
    TILED,
    Key,
    candidates,
    groups_of,
    keys_of_table,
    single_tiles,
)
from benchmarks.tune.tables import describe, expand, for_plain_calls
from lmsl_kernels.flash.tuning import Tiles

Fits = Callable[[Tiles], bool]


@dataclass(frozen=True, kw_only=True)
class Search:
    """How the tiles of one architecture are looked for."""

    architecture: str
    compilers: Sequence[Compiler]
    screen: bool = False
    """Compile the hardest variants of a candidate alone."""
    models: tuple[Tiles, ...] = ()
    """Entries of another architecture's table, which are tried first."""
    failed_in_turns: set[Tiles] = field(default_factory=set)
    """Tiles, without their group, that failed for a group done in several turns. They fail for
    every other such group too: the number of turns changes next to nothing of the code."""

    def rejection(self, entry: Tiles) -> str | None:
        """Why an entry must not be in the table, or ``None``."""
        for variant, group in hardest_cases(entry) if self.screen else required_cases(entry):
            case = Case(architecture=self.architecture, entry=entry, variant=variant, group=group)
            for compiler in self.compilers:
                fault = compiler.compile(case).fault(
                    self.architecture, may_spill=variant.may_spill, matrix=variant.needs_matrix
                )
                if fault:
                    return f"{fault} ({variant.name}, group {group}, triton {compiler.version})"
        return None

    def fits(self, entry: Tiles) -> bool:
        """Whether an entry may be in the table; says why not."""
        in_turns = entry.kernel in SINGLE and entry.stack < entry.group
        tiles = replace(entry, group=0)
        if in_turns and tiles in self.failed_in_turns:
            return False
        reason = self.rejection(entry)
        if in_turns and reason is not None:
            self.failed_in_turns.add(tiles)
        if reason is not None:
            print(f"{self.architecture} {describe(entry)}: {reason}", flush=True)
        return reason is None

    def serve(self, key: Key) -> list[Tiles]:
        """The entries for one key."""
        options = candidates(self.architecture, key)
        known = [replace(entry, plain=False) for entry in expand(self.models, key)]
        # What failed elsewhere before these were found is hardly worth another try.
        first = [entry for entry in known if entry in options]
        behind = options[options.index(first[0]) :] if first else options
        options = list(dict.fromkeys((*first, *behind)))
        # In regime S elsewhere what fails with window and softcap mostly fails without.
        plain_too = key.kernel in TILED or (key.head_dim in COMMON and self.architecture in LARGE)
        return choose(options, self.fits, plain_too=plain_too)

    def serve_single(self, head_dim: int) -> list[Tiles]:
        """All entries of regime S for a head dim: of a group up to the first length it lacks."""
        found: list[Tiles] = []
        groups = groups_of(self.architecture, head_dim)
        for longest in single_tiles(head_dim, self.architecture):
            for kernel in reversed(SINGLE):
                for group in groups:
                    entries = self.serve(Key(kernel, head_dim, longest, group))
                    if not entries:
                        # Larger groups need more.
                        groups = tuple(other for other in groups if other < group)
                        break
                    found += entries
        return found


def choose(options: Sequence[Tiles], fits: Fits, *, plain_too: bool) -> list[Tiles]:
    """The first candidate for all calls, and one before it that is only for plain calls.

    ``plain_too``: whether to look for the latter.
    """
    plain: list[Tiles] = []
    failed: list[Tiles] = []
    for entry in options:
        if any(_narrower(entry, other) for other in failed):
            continue
        if fits(entry):
            return [*plain, entry]
        failed.append(entry)
        if plain_too and not plain and fits(for_plain_calls(entry)):
            plain = [for_plain_calls(entry)]
    return plain


def _narrower(entry: Tiles, other: Tiles) -> bool:
    """Whether an entry has the tiles of one with 8 warps and fewer warps, so that it spills more.

    (With 2 warps instead of 4, small tiles may lose the one spill they had.)
    """
    return entry.warps < other.warps == 8 and replace(entry, warps=8) == other


def tune_offline(search: Search, head_dim: int, jobs: int) -> list[Tiles]:
    """The entries of a table for one head dim."""
    keys = [key for key in keys_of_table(search.architecture) if key.head_dim == head_dim]
    with ThreadPoolExecutor(jobs) as threads:
        single = threads.submit(search.serve_single, head_dim)
        tiled = list(threads.map(search.serve, (key for key in keys if key.kernel in TILED)))
        return [*single.result(), *(entry for found in tiled for entry in found)]
