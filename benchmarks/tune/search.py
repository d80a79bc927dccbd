"""Looking for the entries of a table without a GPU: the first candidate that compiles well."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from benchmarks.compile_report.cases import required_cases
from benchmarks.compile_report.pool import Compiler
from benchmarks.tune.candidates import (
    SINGLE,
    TILED,
    candidates,
    groups_of,
    make_place,
    places_of_table,
    single_tiles,
)
from benchmarks.tune.tables import describe
from lmsl_kernels.flash.tuning import Tiles


@dataclass(frozen=True, kw_only=True)
class Search:
    """How the tiles of one architecture are looked for."""

    architecture: str
    compilers: Sequence[Compiler]

    def fits(self, entry: Tiles) -> bool:
        """Whether an entry may be in the table; says why not."""
        for case in required_cases(self.architecture, entry):
            for compiler in self.compilers:
                if fault := case.fault(compiler.compile(case)):
                    where = f"{case.variant.name}, group {case.group}, triton {compiler.version}"
                    print(f"{case.architecture} {describe(entry)}: {fault} ({where})", flush=True)
                    return False
        return True

    def serve(self, place: Tiles) -> list[Tiles]:
        """The entries for one place."""
        return choose(candidates(self.architecture, place), self.fits)

    def serve_single(self, head_dim: int) -> list[Tiles]:
        """All entries of regime S for a head dim: of a group up to the first length it lacks."""
        found: list[Tiles] = []
        groups = groups_of(self.architecture, head_dim)
        for longest in single_tiles(head_dim, self.architecture):
            for kernel in reversed(SINGLE):
                for group in groups:
                    entries = self.serve(make_place(kernel, head_dim, longest, group))
                    if not entries:
                        # Larger groups need more.
                        groups = tuple(other for other in groups if other < group)
                        break
                    found += entries
        return found


def choose(options: Sequence[Tiles], fits: Callable[[Tiles], bool]) -> list[Tiles]:
    """The first candidate for all calls, and one before it that is only for plain calls."""
    plain: list[Tiles] = []
    for entry in options:
        if fits(entry):
            return [*plain, entry]
        if not plain and fits(replace(entry, plain=True)):
            plain = [replace(entry, plain=True)]
    return plain


def tune_offline(search: Search, head_dim: int, jobs: int) -> list[Tiles]:
    """The entries of a table for one head dim."""
    places = [place for place in places_of_table(search.architecture) if place.kernel in TILED]
    with ThreadPoolExecutor(jobs) as threads:
        single = threads.submit(search.serve_single, head_dim)
        tiled = list(threads.map(search.serve, (p for p in places if p.head_dim == head_dim)))
        return [*single.result(), *(entry for found in tiled for entry in found)]
