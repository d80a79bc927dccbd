"""What a benchmark leaves: a table for people, and a JSON record."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared.machine import REPOSITORY
from lmsl.run_directory.files import write_whole

RESULTS = REPOSITORY / "benchmarks" / "results"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text: the first to the left, the others, numbers, to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (lines[0], rule, *lines[1:])
    )


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record whole or not at all; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(path, f"{text}\n".encode())


def slug(name: str, quick: bool = False) -> str:
    """A device's name as part of a file's."""
    words = "".join(c if c.isalnum() else " " for c in name.lower()).split()
    return "_".join([*words, *(["quick"] if quick else [])])


def record_path(benchmark: str, found: Mapping[str, Any], quick: bool = False) -> Path:
    """Where a record lies by default: named by the device of the machine that was found."""
    name = found["gpu"]["name"] if "gpu" in found else "cpu"
    return RESULTS / f"{benchmark}_{slug(name, quick)}.json"


def told(settings: Any, *left_out: str) -> dict[str, Any]:
    """The settings of a benchmark for its record, without what is nobody's business."""
    return {k: v for k, v in vars(settings).items() if k not in (*left_out, "output")}
