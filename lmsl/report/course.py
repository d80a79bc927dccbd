"""The course of a training, read back from ``log.jsonl``."""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from lmsl.data.documents import parse_json
from lmsl.data.formats.source import read_text, split_lines
from lmsl.errors import InputError
from lmsl.wording import quoted

_BINS = 30

Points = tuple[tuple[float, float], ...]


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; none where it kept none.

    Raises:
        InputError: file and line of what no training writes.
    """
    path = folder / "log.jsonl"
    if not path.is_file() or not path.stat().st_size:
        return []
    entries = []
    for number, line in enumerate(split_lines(read_text(path)), start=1):
        entry = parse_json(line, f"{path}:{number}")
        if not _is_entry(entry):
            raise InputError(f"{path}:{number}: not a line of a log: {quoted(entry)}")
        entries.append(entry)
    return entries


def dev_scores(log: Sequence[Mapping[str, Any]], metric: str) -> dict[int, float]:
    """Scores on dev in percent, by update."""
    return {
        entry["step"]: 100 * entry["dev"][metric]
        for entry in log
        if metric in entry.get("dev", ())
    }


def losses(log: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """The training loss, by update."""
    return {entry["step"]: fmean(entry["loss"]) for entry in log if entry.get("loss")}


def binned(curve: Sequence[tuple[float, float]]) -> Points:
    """The curve by means over equal numbers of neighbours."""
    size = max(1, len(curve) // _BINS)
    parts = [curve[start : start + size] for start in range(0, len(curve), size)]
    return tuple((fmean(x for x, _ in part), fmean(y for _, y in part)) for part in parts)


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
        return False
    dev, loss = entry.get("dev", {}), entry.get("loss", [])
    if not isinstance(dev, dict) or not isinstance(loss, list):
        return False
    scores = (dev[name] for name in ("f1", "accuracy") if name in dev)
    numbers = (*scores, *loss)
    return all(isinstance(value, int | float) and isfinite(value) for value in numbers)
