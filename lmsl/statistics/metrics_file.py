"""``metrics.json`` of a run, read back."""

from math import isfinite
from pathlib import Path
from typing import Any

from lmsl.data.documents import read_object
from lmsl.errors import InputError
from lmsl.wording import quoted

SPLITS = ("dev", "test")

_RATES = ("precision", "recall", "f1")
_COUNTS = ("gold", "predicted", "correct")


def read_metrics(path: Path) -> dict[str, Any]:
    """The scores of each split, with what else a training writes beside them.

    Raises:
        InputError: the file is not what a training writes.
    """
    metrics = read_object(path)
    for split in SPLITS:
        if split in metrics:
            found = metrics[split]
            good = _is_scores(found) and _is_number(found.get("accuracy"))
            types = found.get("per_type") if good else None
            good = isinstance(types, dict) and all(map(_is_scores, types.values()))
            refuse_other(path, split, good, metrics)
    return metrics


def check_seconds(path: Path, metrics: dict[str, Any]) -> None:
    """Refuse a file that does not say how long the training took; InputError."""
    refuse_other(path, "train_seconds", _is_number(metrics.get("train_seconds")), metrics)


def refuse_other(path: Path, key: str, good: bool, values: dict[str, Any]) -> None:
    """Raises ``InputError`` for a part of the file that no training writes."""
    if not good:
        what = quoted(values[key]) if key in values else "none"
        raise InputError(
            f"{path}: {key}: expected what a training writes there, got {what}; copy the run anew "
            "or train it again"
        )


def _is_scores(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and all(_is_number(found.get(name)) for name in _RATES)
        and all(isinstance(found.get(name), int) and found[name] >= 0 for name in _COUNTS)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)
