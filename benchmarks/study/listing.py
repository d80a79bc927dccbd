"""What is planned, done and left, for people."""

from collections.abc import Mapping
from typing import Any

from benchmarks.shared.record import table
from benchmarks.study.cells import OWN, Cell, Records, best_rate, done, planned
from benchmarks.study.material import TUNED_ON
from benchmarks.study.settings import Settings
from benchmarks.study.systems import System, chosen


def plan(settings: Settings, records: Records) -> list[Cell]:
    """The cells that the flags ask for."""
    return planned(
        chosen(settings.systems),
        settings.datasets,
        records,
        seeds=settings.seeds,
        leader_seeds=settings.leader_seeds,
    )


def listing(settings: Settings, records: Records) -> list[str]:
    """Cells done of those planned and the rate, by system; then what is skipped or failed."""
    cells = plan(settings, records)
    systems = chosen(settings.systems)
    rows = [
        [
            system.name,
            *(
                _count([c for c in cells if _is(c, system, data)], records)
                for data in settings.datasets
            ),
            _rate(system, records),
        ]
        for system in systems
        if system.lacking() is None
    ]
    lines = [table(["", *settings.datasets, "rate"], rows)] if rows else []
    return lines + unfinished(settings, records)


def unfinished(settings: Settings, records: Records) -> list[str]:
    """What cannot be trained, and what failed."""
    systems = chosen(settings.systems)
    lines = [f"skipped: {one.name}: {why}" for one in systems if (why := one.lacking())]
    return lines + [
        f"failed: {cell.line()}: {records[cell]['reason']}"
        for cell in plan(settings, records)
        if cell in records and not done(records[cell])
    ]


def _is(cell: Cell, system: System, data: str) -> bool:
    return (cell.system, cell.data) == (system.name, data)


def _count(cells: list[Cell], records: Mapping[Cell, Any]) -> str:
    return f"{sum(cell in records and done(records[cell]) for cell in cells)} of {len(cells)}"


def _rate(system: System, records: Records) -> str:
    lr = best_rate(system, records)
    if lr == OWN:
        return "its own"
    return f"of three, on {TUNED_ON}" if lr is None else f"{lr:g}"
