"""What is to be trained, in which order, and at which learning rate.

A cell is one training: data set, system, learning rate, seed. Everything at the first rate comes
first, so that a stopped study is a table all the same; then the other rates, more seeds, the other
data sets at the rates found, and last more seeds of the leaders.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks.study.material import LANGUAGES, TUNED_ON
from benchmarks.study.systems import ABROAD, REFERENCE, System, system_of

OWN, BEST = "own", "best"
TUNING_SEED = 1
LEADERS = 3

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training."""

    data: str
    system: str
    lr: float | str
    """A learning rate; `own` where the system has none, `best` where it is not known yet."""
    seed: int

    @property
    def ready(self) -> bool:
        return self.lr != BEST

    def line(self) -> str:
        rate = "" if self.lr == OWN else f", lr {self.lr}"
        return f"{self.data}, {self.system}{rate}, seed {self.seed}"


Records = Mapping[Cell, Record]


def planned(
    systems: Sequence[System],
    datasets: Sequence[str],
    records: Records,
    *,
    seeds: Sequence[int],
    leader_seeds: Sequence[int],
) -> list[Cell]:
    """All cells of some systems and data sets, done or not, in the order of their turns.

    Systems that this checkout cannot train are not among them.
    """
    able = [one for one in systems if one.lacking() is None]
    quick, slow = ([one for one in able if one.slow == late] for late in (False, True))
    first = _all(quick, datasets, records, seeds, leader_seeds)
    cells = dict.fromkeys([*first, *_all(slow, datasets, records, seeds, ())])
    return [
        cell for cell in cells if cell.data in datasets and cell.seed in {*seeds, *leader_seeds}
    ]


def _all(
    systems: Sequence[System],
    datasets: Sequence[str],
    records: Records,
    seeds: Sequence[int],
    leader_seeds: Sequence[int],
) -> Iterator[Cell]:
    for place in range(max((len(system.rates) for system in systems), default=0)):
        for system in systems:
            if place == 0 and not system.rates:
                yield Cell(data=TUNED_ON, system=system.name, lr=OWN, seed=TUNING_SEED)
            elif place < len(system.rates):
                lr = system.rates[place]
                yield Cell(data=TUNED_ON, system=system.name, lr=lr, seed=TUNING_SEED)
    hopeful = [system for system in systems if not _hopeless(system, records)]
    for data in datasets:
        for seed in seeds:
            for system in _on(data, hopeful):
                cell = final(system, data, seed, records)
                # One of those at the three rates; which one is not known yet.
                tuned = not cell.ready and (data, seed) == (TUNED_ON, TUNING_SEED)
                if not tuned and (system.seeded or seed == seeds[0]):
                    yield cell
    for data in datasets:
        for system in leaders(_on(data, hopeful), data, seeds, records):
            for seed in leader_seeds:
                yield final(system, data, seed, records)


def _on(data: str, systems: Sequence[System]) -> list[System]:
    """Those that are trained on a data set."""
    return [one for one in systems if data not in LANGUAGES or one.name in ABROAD]


def final(system: System, data: str, seed: int, records: Records) -> Cell:
    """The cell of a system that stands in the table."""
    lr = best_rate(system, records)
    return Cell(data=data, system=system.name, lr=BEST if lr is None else lr, seed=seed)


def best_rate(system: System, records: Records) -> float | str | None:
    """The rate with the best F1 on dev; None as long as one of them was not tried, or where none
    came to an end."""
    if not system.rates:
        return OWN
    rate, settled = rate_so_far(system, records)
    return rate if settled else None


def rate_so_far(system: System, records: Records) -> tuple[float | None, bool]:
    """The best rate of those tried, the first listed of equal ones, and whether all were tried."""
    tried = {
        lr: records.get(Cell(data=TUNED_ON, system=system.name, lr=lr, seed=TUNING_SEED))
        for lr in system.rates
    }
    scores = {lr: float(one["dev"]["f1"]) for lr, one in tried.items() if one and done(one)}
    return max(scores, key=scores.__getitem__, default=None), None not in tried.values()


def _hopeless(system: System, records: Records) -> bool:
    """Whether it failed at every rate."""
    return bool(system.rates) and rate_so_far(system, records) == (None, True)


def at_an_end(system: System, lr: float | str) -> bool:
    """Whether a chosen rate is the smallest or largest tried, so that a better may lie beyond."""
    return len(system.rates) > 1 and lr in (min(system.rates), max(system.rates))


def leaders(
    systems: Sequence[System], data: str, seeds: Sequence[int], records: Records
) -> list[System]:
    """The reference and those with the best mean on dev, once all seeds of all are done."""
    means = {}
    for system in systems:
        own = [final(system, data, seed, records) for seed in seeds if system.seeded]
        found = [records[cell] for cell in own if cell in records]
        if len(found) < len(own):
            return []
        if own and all(map(done, found)):
            means[system.name] = fmean(one["dev"]["f1"] for one in found)
    best = sorted(means, key=lambda name: -means[name])[:LEADERS]
    return [system_of(name) for name in dict.fromkeys([REFERENCE, *best]) if name in means]


def done(record: Record) -> bool:
    """Whether a cell came to an end and was sane."""
    return bool(record["status"] == "done")
