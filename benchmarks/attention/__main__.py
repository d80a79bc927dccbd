"""Attention over sentences: ours against every other way to compute it, in one process.

    python -m benchmarks.attention                           # the headline cells, on the GPU
    python -m benchmarks.attention --cells all --seconds 900
    python -m benchmarks.attention --device cpu --quick      # toy sizes: does it run at all

Three tables. *Kernels*: the time that a GPU needs for forward, backward and both, without Python
and launches. *Streams*: the wall time of a step when every batch has new random lengths, which is
what training is; ``layers`` times forward and backward a step, one synchronisation at the end, and
masks and plans made once a step on everybody's own time. First over lengths not seen before (after
a warm-up over as many other batches), then over the same batches again. *Mixes*: what layers under
the string 0011 cost against the mean of 0000 and 1111.

A contender is timed in a cell when it passes the gate there (see ``gate``); one that
does not is shown as wrong, and one that cannot run with its reason. Formulas: ``cells``.

Nothing is imported that GPU machines without a network tend to lack, hence argparse.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.attention import cells as cells_module
from benchmarks.attention.cells import Cell, headline_cells, other_cells, quick_cells, stream_cells
from benchmarks.attention.peers import OURS, Peer, peers
from benchmarks.attention.report import print_table
from benchmarks.attention.runs import Run, kernels_of, mixes_of, streams_of
from benchmarks.shared.flags import at_least, choose_device, status_of
from benchmarks.shared.machine import machine, machine_lines
from benchmarks.shared.plots import draw, require_matplotlib
from benchmarks.shared.record import record_path, told, write_json
from lmsl.errors import InputError

TABLES = ("kernels", "streams", "mixes")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; argparse leaves with status 2 where it is no good."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attention",
        description="Attention over sentences: ours against every other way to compute it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--device", default="auto", help="cuda, cpu, or auto: the GPU where there is one")
    add("--quick", action="store_true", help="toy sizes: to see that it runs, not how fast")
    add("--cells", choices=("headline", "all"), default="headline", help="which shapes")
    add("--tables", nargs="+", choices=TABLES, default=TABLES, help="which tables")
    add("--peers", nargs="+", default=(), help="only contenders whose name contains one of these")
    add("--seconds", type=float, help="begin nothing new after so long; the rest is listed")
    add("--steps", type=int, default=20, help="batches of a stream")
    add("--layers", type=int, default=32, help="attention layers of a step in a stream")
    add("--seed", type=int, default=1, help="of lengths and values")
    add("--plots", action="store_true", help="draw each table into a PNG; needs matplotlib")
    add("--output", type=Path, help="the record; by default in benchmarks/results, by device")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report; 1 when ours is wrong somewhere, 2 for bad input."""
    return status_of(lambda: run(parse(argv)))


def run(settings: argparse.Namespace) -> int:
    """All tables; the record is written after every cell."""
    began = time.monotonic()
    device = choose_device(settings.device)
    contenders = _check(settings)
    found = machine(device)
    print(*machine_lines(found), sep="\n")
    name = found["gpu"]["name"] if device.type == "cuda" else "cpu"
    output = settings.output or record_path("attention", found, settings.quick)
    rates = cells_module.KNOWN_RATES.get(name)
    record: dict[str, Any] = {
        "benchmark": "attention",
        "machine": found,
        "settings": told(settings),
        "formulas": cells_module.__doc__,
        "rates": None if rates is None else asdict(rates),
        "unfinished": [],
    }
    run = Run(
        device=device,
        contenders=contenders,
        rates=rates,
        seed=settings.seed,
        ends=None if settings.seconds is None else began + settings.seconds,
        steps=2 if settings.quick else settings.steps,
        layers=1 if settings.quick else settings.layers,
    )
    _fill(run, {table: _cells(table, settings) for table in settings.tables}, record, output)
    print(f"written: {output}")
    if settings.plots:
        draw(record, output)
    return int(_ours_is_wrong(record))


def _check(settings: argparse.Namespace) -> tuple[Peer, ...]:
    """The contenders; raises ``InputError`` for settings that make no sense."""
    at_least(settings, steps=1, layers=1)
    if settings.seconds is not None and not settings.seconds > 0:
        raise InputError(f"--seconds: expected more than 0, got {settings.seconds}")
    if settings.plots:
        require_matplotlib()
    chosen = tuple(
        peer
        for peer in peers()
        if not settings.peers or any(part in peer.name for part in settings.peers)
    )
    if not chosen:
        known = ", ".join(peer.name for peer in peers())
        raise InputError(f"--peers: expected parts of {known}; got {' '.join(settings.peers)}")
    return chosen


def _cells(table: str, settings: argparse.Namespace) -> list[Cell]:
    if settings.quick:
        return quick_cells()
    if table == "streams":
        return stream_cells()
    if table == "mixes":
        # One flag more or less a layer: the mask of the cell plays no part.
        return [cell for cell in headline_cells() if not cell.is_causal]
    return headline_cells() + (other_cells() if settings.cells == "all" else [])


def _fill(run: Run, cells: dict[str, list[Cell]], record: dict[str, Any], output: Path) -> None:
    """Measure cell by cell, printing and writing each.

    The tables take turns, by the share of their cells that is done: where time runs out, each has
    its most telling cells.
    """
    measures = {"kernels": kernels_of, "streams": streams_of, "mixes": mixes_of}
    turns = [
        (number / len(cells[table]), table, cell)
        for table in cells
        for number, cell in enumerate(cells[table])
    ]
    record |= {table: [] for table in cells}
    for _, table, cell in sorted(turns, key=lambda turn: turn[0]):
        if run.out_of_time:
            record["unfinished"].append(f"{table}: {cell.name}")
            continue
        figures = measures[table](run, cell)
        record[table].append(figures)
        print_table(table, figures)
        write_json(output, record)
    write_json(output, record)


def _ours_is_wrong(record: dict[str, Any]) -> bool:
    return any(
        figures["contenders"].get(OURS, {}).get("status") == "wrong"
        for table in ("kernels", "streams")
        for figures in record.get(table, [])
    )


if __name__ == "__main__":
    sys.exit(main())
