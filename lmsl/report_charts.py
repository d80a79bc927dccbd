"""The figures of a sweep: scores, dev against test, types, learning curves, cost."""

import json
from collections.abc import Sequence
from statistics import fmean
from typing import Any, Literal

from lmsl.errors import InputError
from lmsl.metrics import metric_name
from lmsl.report_figures import Chart, Line, Mark, PlaneChart, RowChart, Series, Tone, shortened
from lmsl.statistics import Analysis
from lmsl.statistics_read import Run

_MOST_TYPES = 40
_MOST_NAMES = 6
_BINS = 30


def charts(analysis: Analysis) -> tuple[list[Chart], list[str]]:
    """The figures of a sweep, and lines on those that it cannot have."""
    drawn: list[Chart] = [_scores(analysis)]
    missing = []
    if "test" in analysis.results and len(analysis.sweep.names) > 1:
        drawn.append(_scatter(analysis))
    elif len(analysis.sweep.names) > 1:
        missing.append("Dev against test: the sweep has no test data.")
    if types := _types(analysis):
        drawn.append(types)
    if curves := _curves(analysis):
        drawn.append(curves)
    else:
        missing.append("Learning curves: the runs kept no log of their training.")
    drawn.append(_cost(analysis))
    missing.append("Right-context influence by layer: these runs did not record it.")
    return drawn, missing


def tone(analysis: Analysis, index: int) -> Tone:
    if index == analysis.best:
        return "accent"
    return "ink" if index in (analysis.causal, analysis.full) else "muted"


def _scores(analysis: Analysis) -> RowChart:
    sweep, reported = analysis.sweep, analysis.reported
    result = analysis.results[reported]
    marks = []
    for index, mean in enumerate(100 * result.means):
        half = None if result.half_widths is None else 100 * result.half_widths[index]
        marks.append(
            Mark(
                value=float(mean),
                low=None if half is None else max(0.0, float(mean - half)),
                high=None if half is None else min(100.0, float(mean + half)),
                tone=tone(analysis, index),
            )
        )
    series = [Series(label=f"{reported}, 95 % interval", marks=tuple(marks))]
    if reported != "dev":
        dev = (Mark(value=float(m), tone="open") for m in 100 * analysis.results["dev"].means)
        series.append(Series(label="dev", marks=tuple(dev)))
    return RowChart(
        key="scores",
        title=f"{sweep.metric} by string",
        note="Intervals cover what strings share, the sentences above all: two that overlap may "
        "still differ. Compare strings by the paired differences in the table.",
        axis=f"{sweep.metric}, %",
        rows=sweep.names,
        series=tuple(series),
        kind="dots",
    )


def _scatter(analysis: Analysis) -> PlaneChart:
    dev, test = (100 * analysis.results[split].means for split in ("dev", "test"))
    shown = {analysis.best, analysis.causal, analysis.full, analysis.middle}
    dots = tuple(
        Line(
            label=name,
            points=((float(dev[index]), float(test[index])),),
            tone=tone(analysis, index),
            named=index in shown or len(analysis.sweep.names) <= _MOST_NAMES,
        )
        for index, name in enumerate(analysis.sweep.names)
    )
    return PlaneChart(
        key="scatter",
        title="Dev against test",
        note="One dot a string, means over seeds. On a rising line, dev would rank the strings as "
        "test does.",
        x_axis=f"dev {analysis.sweep.metric}, %",
        y_axis=f"test {analysis.sweep.metric}, %",
        lines=dots,
        kind="dots",
    )


def _types(analysis: Analysis) -> RowChart | None:
    sweep, reported = analysis.sweep, analysis.reported
    chosen = dict.fromkeys(
        index for index in (analysis.best, analysis.causal, analysis.full) if index is not None
    )
    per_run = {i: [r.metrics[reported]["per_type"] for r in sweep.runs[i]] for i in chosen}
    gold: dict[str, int] = {}
    for runs in per_run.values():
        for run in runs:
            for kind, rates in run.items():
                gold[kind] = max(gold.get(kind, 0), rates["gold"])
    kinds = sorted(gold, key=lambda kind: (-gold[kind], kind))
    if not kinds:
        return None
    cut = max(0, len(kinds) - _MOST_TYPES)
    kinds = kinds[:_MOST_TYPES]
    left_out = f" The {cut} rarest types are left out." if cut else ""
    series = []
    for index, runs in per_run.items():
        means = (100 * fmean(run[k]["f1"] if k in run else 0.0 for run in runs) for k in kinds)
        shade: Tone = "accent" if index == analysis.best else tone(analysis, index)
        if index == analysis.full and index != analysis.best:
            shade = "muted"
        marks = tuple(Mark(value=mean, tone=shade) for mean in means)
        series.append(Series(label=sweep.names[index], marks=marks))
    return RowChart(
        key="types",
        title="F1 by type",
        note=f"On {reported}, means over seeds; gold entities in brackets.{left_out}",
        axis="F1, %",
        rows=tuple(f"{shortened(kind, 16)} ({gold[kind]})" for kind in kinds),
        series=tuple(series),
        kind="bars",
    )


def _curves(analysis: Analysis) -> PlaneChart | None:
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
    lines = [_curve(analysis, i, points) for i, points in enumerate(curves) if points]
    if max((len(line.points) for line in lines), default=0) < 2:
        return None
    # The named ones are drawn last, over the others.
    lines.sort(key=lambda line: line.named)
    return PlaneChart(
        key="curves",
        title="Learning curves",
        note=note,
        x_axis="updates",
        y_axis=y_axis,
        lines=tuple(lines),
        kind="lines",
    )


def _curve(analysis: Analysis, index: int, points: tuple[tuple[float, float], ...]) -> Line:
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


def _log(run: Run) -> list[dict[str, Any]]:
    path = run.folder / "log.jsonl"
    if not path.is_file():
        return []
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entries.append(dict(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}:{number}: not a line of a log: {error!r:.100}") from error
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


def _cost(analysis: Analysis) -> RowChart:
    seconds = [
        [float(run.metrics["train_seconds"]) for run in runs] for runs in analysis.sweep.runs
    ]
    total = sum(map(sum, seconds))
    marks = tuple(
        Mark(value=fmean(each), tone=tone(analysis, index)) for index, each in enumerate(seconds)
    )
    runs = sum(map(len, seconds))
    return RowChart(
        key="cost",
        title="Cost",
        note=f"Seconds of training a run, means over seeds; {total:,.0f} s for all {runs} runs.",
        axis="seconds",
        rows=analysis.sweep.names,
        series=(Series(label="seconds", marks=marks),),
        kind="bars",
    )
