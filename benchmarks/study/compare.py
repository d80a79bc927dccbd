"""Scores of the systems on one data set, and which differ from the reference.

The differences are those of ``lmsl.statistics``: a hierarchical paired bootstrap over seeds and
sentences, Holm-corrected over the systems of the table. A system that no seed changes stands with
its one result under every seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np

from benchmarks.study.cells import OWN, Record, Records, done, rate_so_far
from benchmarks.study.systems import REFERENCE, System
from lmsl.errors import InputError
from lmsl.statistics.bootstrap import resample
from lmsl.statistics.compare import Difference, differences
from lmsl.statistics.read import Split

_LEAST = 2
"""Seeds of a test."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A system on one data set."""

    system: System
    lr: float | str
    settled: bool
    """Whether all of its rates were tried."""
    runs: Mapping[int, Record]
    """By seed."""

    def scores(self, split: str = "test") -> list[float]:
        return [float(one[split]["f1"]) for one in self.runs.values()]

    @property
    def mean(self) -> float:
        return fmean(self.scores())

    @property
    def deviation(self) -> float | None:
        """Over seeds; None with one."""
        return stdev(self.scores()) if len(self.runs) > 1 else None


def rows_of(systems: Sequence[System], data: str, records: Records) -> list[Row]:
    """The systems that have a result, at the best of the rates tried so far."""
    found = []
    for system in systems:
        rate, settled = rate_so_far(system, records) if system.rates else (OWN, True)
        runs = {
            cell.seed: one
            for cell, one in sorted(records.items(), key=lambda pair: pair[0].seed)
            if (cell.system, cell.data, cell.lr) == (system.name, data, rate) and done(one)
        }
        if runs and rate is not None:
            found.append(Row(system=system, lr=rate, settled=settled, runs=runs))
    return found


def against_reference(rows: Sequence[Row]) -> tuple[dict[str, Difference], list[int]]:
    """Differences to the reference on test by system, and the seeds they are over.

    Those are the seeds that the reference and the most systems have; with fewer than two there is
    nothing to test.
    """
    reference = next((row for row in rows if row.system.name == REFERENCE), None)
    if reference is None:
        return {}, []
    seeds, compared = _complete(rows, list(reference.runs))
    if len(seeds) < _LEAST or len(compared) < 2:
        return {}, []
    table = np.stack([[_counts(row, seed) for seed in seeds] for row in compared])
    if (table[..., 0] != table[0, 0, :, 0]).any():
        raise InputError("study: expected equal gold entities in all records of a data set")
    beyond = {int(one["test_units"]["beyond"]) for row in compared for one in row.runs.values()}
    split = Split.of(table, unit="sentences", sentences=table.shape[2], beyond=beyond.pop())
    index = compared.index(reference)
    generator = np.random.default_rng(0)
    found = differences(resample(split, generator), np.random.default_rng(1), index)
    pairs = zip(compared, found, strict=True)
    return {row.system.name: one for row, one in pairs if one is not None}, seeds


def _complete(rows: Sequence[Row], seeds: list[int]) -> tuple[list[int], list[Row]]:
    """The first seeds of the reference that make the largest table without holes."""
    best: tuple[list[int], list[Row]] = ([], [])
    for count in range(_LEAST, len(seeds) + 1):
        kept = seeds[:count]
        holders = [row for row in rows if not row.system.seeded or set(kept) <= row.runs.keys()]
        if count * len(holders) > len(best[0]) * len(best[1]):
            best = kept, holders
    return best


def _counts(row: Row, seed: int) -> Any:
    """Gold, predicted and correct entities of every sentence, [sentences, 3]."""
    run = row.runs[seed] if row.system.seeded else next(iter(row.runs.values()))
    units = run["test_units"]
    return np.stack([units["gold"], units["predicted"], units["correct"]], axis=1)
