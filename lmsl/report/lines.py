"""What has a line or a dot for each string: learning curves, the right context by layer."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any, Literal

from lmsl.data.documents import parse_json
from lmsl.data.tags.metrics import metric_name
from lmsl.errors import InputError
from lmsl.report.figures import Line, PlaneChart, Tone
from lmsl.run_directory.influence import INFLUENCE, read_influence
from lmsl.statistics.analysis import Analysis
from lmsl.statistics.read import FinishedRun
from lmsl.wording import quoted

_BINS = 30
_MOST_NAMES = 6


def tone(analysis: Analysis, index: int) -> Tone:
    if index == analysis.best:
        return "accent"
    return "ink" if index in (analysis.causal, analysis.full) else "muted"


def dots(
    analysis: Analysis,
    places: Sequence[int],
    across: Sequence[float],
    up: Sequence[float],
    also: str | None = None,
) -> tuple[Line, ...]:
    """A dot for each of some strings, in percent; those that a reader looks for are named, with
    the string ``also``, or all where they are few."""
    names = analysis.sweep.names
    shown = {analysis.best, analysis.causal, analysis.full, analysis.middle}
    return tuple(
        Line(
            label=names[place],
            points=((100 * float(x), 100 * float(y)),),
            tone=tone(analysis, place),
            named=place in shown or names[place] == also or len(places) <= _MOST_NAMES,
        )
        for place, x, y in zip(places, across, up, strict=True)
    )


def learning_curves(analysis: Analysis) -> PlaneChart | None:
    """Dev scores; where no run was scored more than once on dev, the training loss."""
    metric = metric_name(analysis.sweep.plain)
    logs = [[_log(run) for run in runs] for runs in analysis.sweep.runs]
    dev = [_mean_curve([_dev_scores(log, metric) for log in each]) for each in logs]
    if max(map(len, dev)) > 1:
        y_axis = f"dev {analysis.sweep.metric}, %"
        note = "Dev score at the end of each epoch, means over seeds."
        curves = dev
    else:
        y_axis, note = "training loss", "Training loss, means over seeds and neighbouring updates."
        curves = [_binned(_mean_curve([_losses(log) for log in each])) for each in logs]
    lines = [_line(analysis, i, points) for i, points in enumerate(curves) if points]
    if max((len(line.points) for line in lines), default=0) < 2:
        return None
    return PlaneChart(
        key="curves",
        title="Learning curves",
        note=note,
        x_axis="updates",
        y_axis=y_axis,
        lines=_named_last(lines),
        kind="lines",
    )


def influence_lines(analysis: Analysis) -> tuple[PlaneChart | None, int]:
    """What the right context moves in each layer, and how many runs did not record it.

    Raises:
        InputError: a file that cannot be read, or seeds of one string that differ in depth.
    """
    lines, lacking = [], 0
    for index, runs in enumerate(analysis.sweep.runs):
        found = [(run.folder, read_influence(run.folder)) for run in runs]
        known = {folder: own.layers for folder, own in found if own is not None}
        lacking += len(runs) - len(known)
        depths = sorted({len(layers) for layers in known.values()})
        if len(depths) > 1:
            raise InputError(
                f"{runs[0].folder.parent}: expected as many layers in the {INFLUENCE} of every "
                f"seed, got {' and '.join(map(str, depths))}; measure anew with lmsl probe RUN "
                "--save"
            )
        means = [fmean(values) for values in zip(*known.values(), strict=True)]
        points = tuple((float(layer), value) for layer, value in enumerate(means, start=1))
        if points:
            lines.append(_line(analysis, index, points))
    if not lines:
        return None, lacking
    chart = PlaneChart(
        key="influence",
        title="Right-context influence by layer",
        note="How far the output of a layer at a word moves when the rest of the sentence is cut "
        "off, as a share of its size; means over words and seeds. Layer 1 is the nearest to the "
        "input; a causal layer passes on what the layers before it saw.",
        x_axis="layer",
        y_axis="influence",
        lines=_named_last(lines),
        kind="lines",
        from_zero=True,
    )
    return chart, lacking


def _named_last(lines: list[Line]) -> tuple[Line, ...]:
    """In the order of drawing: the named ones over the others."""
    return tuple(sorted(lines, key=lambda line: line.named))


def _line(analysis: Analysis, index: int, points: tuple[tuple[float, float], ...]) -> Line:
    dashes: dict[int | None, Literal["solid", "dashed", "dotted"]] = {
        analysis.full: "dotted",
        analysis.causal: "dashed",
        analysis.best: "solid",
    }
    return Line(
        label=analysis.sweep.names[index],
        points=points,
        tone=tone(analysis, index),
        dash=dashes.get(index, "solid"),
        named=tone(analysis, index) != "muted",
    )


def _log(run: FinishedRun) -> list[dict[str, Any]]:
    path = run.folder / "log.jsonl"
    if not path.is_file():
        return []
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        entry = parse_json(line, f"{path}:{number}")
        if not isinstance(entry, dict):
            raise InputError(f"{path}:{number}: not a line of a log: {quoted(entry)}")
        entries.append(entry)
    return entries


def _dev_scores(log: Sequence[dict[str, Any]], metric: str) -> dict[int, float]:
    return {entry["step"]: 100 * entry["dev"][metric] for entry in log if "dev" in entry}


def _losses(log: Sequence[dict[str, Any]]) -> dict[int, float]:
    return {entry["step"]: fmean(entry["loss"]) for entry in log if "loss" in entry}


def _binned(curve: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The curve by means over equal numbers of neighbours."""
    size = max(1, len(curve) // _BINS)
    parts = [curve[start : start + size] for start in range(0, len(curve), size)]
    return tuple((fmean(x for x, _ in part), fmean(y for _, y in part)) for part in parts)


def _mean_curve(curves: Sequence[dict[int, float]]) -> tuple[tuple[float, float], ...]:
    steps = sorted(set().union(*curves))
    return tuple((float(s), fmean(curve[s] for curve in curves if s in curve)) for s in steps)
