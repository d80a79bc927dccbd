"""The lines of the study: one a cell, appended when it is done or has failed."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.shared.labelled import CPU_PLACE
from benchmarks.shared.machine import machine
from benchmarks.study.cells import Cell, Records, done
from lmsl.data.documents import parse_json
from lmsl.errors import InputError


def read_records(path: Path, same: Mapping[str, Any]) -> dict[Cell, Mapping[str, Any]]:
    """The newest record of every cell.

    A last line without an end was cut while it was written, and is nothing.

    Args:
        same: what the config of a record must say, to be of this study.

    Raises:
        InputError: with file and line, for a line that is no record.
    """
    if not path.exists():
        return {}
    found: dict[Cell, Mapping[str, Any]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
        try:
            record = parse_json(line, f"{path}:{number}")
            cell = Cell(**record["cell"])
            config = record["config"]
            assert record["status"] in ("done", "failed")
        except (InputError, LookupError, TypeError, AssertionError) as error:
            raise InputError(
                f"{path}:{number}: expected a record of a cell; take that line out"
            ) from error
        if all(config.get(key) == value for key, value in same.items()):
            found[cell] = record
    return found


def line_of(cell: Cell, config: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, Any]:
    """What is appended for a cell; not the command, which names folders of this machine.

    Args:
        config: what it was trained with.
        figures: its status, and what came of it.
    """
    named = machine(CPU_PLACE.device)
    where = {key: value for key, value in named.items() if key not in ("command", "threads")}
    return {"cell": vars(cell), "config": config, "machine": where, **figures}


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add a line; one that was cut before it is left behind as what it is, and ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    drop_cut_line(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())


def drop_cut_line(path: Path) -> None:
    """Take a last line without an end away."""
    if path.exists() and (held := path.read_bytes()) and not held.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(held.rfind(b"\n") + 1)


def left(
    plan: Iterable[Cell], records: Records, *, retry: frozenset[Cell] = frozenset()
) -> list[Cell]:
    """The cells that are still to do, those included whose rate is not known yet.

    Args:
        retry: failed cells that are tried again.
    """
    return [cell for cell in plan if cell not in records or cell in retry]


def seconds_left(
    cells: Sequence[Cell], records: Records, words: Mapping[str, int]
) -> float | None:
    """How long they will take, by what such cells took; None where nothing is known.

    What a system took on another data set counts by the words that are read.

    Args:
        words: of each data set.
    """
    known = [(cell, one) for cell, one in records.items() if done(one) and cell.data in words]
    if not known:
        return None
    per_word = [(cell, one["seconds"] / words[cell.data]) for cell, one in known]
    every = fmean(speed for _, speed in per_word)
    total = 0.0
    for cell in cells:
        alike = [speed for other, speed in per_word if other.system == cell.system]
        same = [
            one["seconds"]
            for other, one in known
            if (other.system, other.data) == (cell.system, cell.data)
        ]
        speed = fmean(alike) if alike else every
        total += fmean(same) if same else speed * words[cell.data]
    return total


def say(line: str) -> None:
    """With the time, for logs of days."""
    print(f"{datetime.now(UTC).strftime('%m-%d %H:%M')} {line}", flush=True)


def duration(seconds: float) -> str:
    """For people."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
