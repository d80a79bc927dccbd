"""What has a line or a dot for each string: learning curves, the right context by layer."""

from collections.abc import Sequence
from statistics import fmean
from typing import Literal

from lmsl.data.tags.metrics import metric_name
from lmsl.errors import InputError
from lmsl.report.course import Points, binned, dev_scores, losses, read_log
from lmsl.report.figures import Line, PlaneChart, Tone
from lmsl.run_directory.influence import INFLUENCE, read_influence
from lmsl.statistics.analysis import Analysis

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
    logs = [[read_log(run.folder) for run in runs] for runs in analysis.sweep.runs]
    dev = [_mean_curve([dev_scores(log, metric) for log in each]) for each in logs]
    if max(map(len, dev)) > 1:
        y_axis = f"dev {analysis.sweep.metric}, %"
        note = "Dev score at the end of each epoch, means over seeds."
        curves = dev
    else:
        y_axis, note = "training loss", "Training loss, means over seeds and neighbouring updates."
        curves = [binned(_mean_curve([losses(log) for log in each])) for each in logs]
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
    return influence_chart(_named_last(lines), "words and seeds"), lacking


def influence_chart(lines: tuple[Line, ...], over: str) -> PlaneChart:
    """Lines by layer; ``over`` says what they are means over."""
    return PlaneChart(
        key="influence",
        title="Right-context influence by layer",
        note="How far the output of a layer at a word moves when the rest of the sentence is cut "
        f"off, as a share of its size; means over {over}. Layer 1 is the nearest to the "
        "input; a causal layer passes on what the layers before it saw.",
        x_axis="layer",
        y_axis="influence",
        lines=lines,
        kind="lines",
        from_zero=True,
    )


def _named_last(lines: list[Line]) -> tuple[Line, ...]:
    """In the order of drawing: the named ones over the others."""
    return tuple(sorted(lines, key=lambda line: line.named))


def _line(analysis: Analysis, index: int, points: Points) -> Line:
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


def _mean_curve(curves: Sequence[dict[int, float]]) -> Points:
    steps = sorted(set().union(*curves))
    return tuple((float(s), fmean(curve[s] for curve in curves if s in curve)) for s in steps)
