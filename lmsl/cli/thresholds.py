"""Thresholds on the command line, and the table of what they give."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lmsl.data.tags.operating import ALL, LEVELS, NOTE
from lmsl.data.tags.thresholds import DEFAULT, LEAST, checked, thresholds_of
from lmsl.errors import InputError
from lmsl.run_directory.info import RunInfo
from lmsl.wording import quoted, shortened


def asked_threshold(
    words: Sequence[str], info: RunInfo, say: Callable[[str], None]
) -> Mapping[str, float] | None:
    """The threshold of every type that ``--threshold`` asks for; None where it does not.

    Args:
        words: numbers for all types, at most one, and ``TYPE=number``.
        say: told which types have a default of ours.

    Raises:
        InputError: something else, or a run that has no probabilities of spans.
    """
    if not words:
        return None
    if info.generation is not None:
        raise InputError(
            "--threshold: expected a run that labels words, got one that writes spans"
        )
    if info.labels.plain:
        raise InputError("--threshold: expected a run that finds spans, got plain tags")
    common, own = None, dict[str, float]()
    for word in words:
        kind, equals, number = word.rpartition("=")
        place = f"--threshold {quoted(word)}"
        value = _number(number, place)
        if (kind in own) if equals else (common is not None):
            raise InputError(f"{place}: expected {kind or 'a number'} once, got it again")
        if equals:
            own[kind] = value
        else:
            common = value
    try:
        thresholds_of(own, info.labels)
    except InputError as error:
        raise InputError(f"--{error}") from error
    rest = [kind for kind in info.labels.types if kind not in own]
    if common is None and rest:
        say(f"threshold {DEFAULT} for {shortened(', '.join(rest))}")
    default = DEFAULT if common is None else common
    return {**dict.fromkeys(rest, default), **own}


def _number(text: str, place: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise InputError(
            f"{place}: expected a number from {LEAST} to 1, or TYPE=number; what is read stands "
            "before --threshold"
        ) from None
    return checked(number, place)


def table(points: Mapping[str, Any]) -> Iterator[str]:
    """Lines on operating points: in percent, each with the threshold that gives it."""
    rows = {"all types": points[ALL], **points["per_type"]}
    levels = [f"{100 * float(level):.0f} %" for level in LEVELS]
    yield f"operating points, {NOTE}; percent (threshold)"
    yield from _columns(
        ["best F1", ""], {n: [_cell(own["best_f1"], "f1")] for n, own in rows.items()}
    )
    for asked, given in (("precision", "recall"), ("recall", "precision")):
        cells = {
            name: [_cell(own[f"{asked}_at_{given}"][level], asked) for level in LEVELS]
            for name, own in rows.items()
        }
        yield from _columns([f"{asked} at {given} of", *levels], cells)


def _columns(head: Sequence[str], rows: Mapping[str, Sequence[str]]) -> Iterator[str]:
    lines = [head, *([shortened(name), *cells] for name, cells in rows.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *cells in lines:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        yield f"  {'  '.join([first.ljust(widths[0]), *padded])}"


def _cell(point: Mapping[str, Any] | None, name: str) -> str:
    return "-" if point is None else f"{100 * point[name]:.2f} ({point['threshold']})"
