"""The figures of a sweep: scores, dev against test, types, cost, and those of other modules."""

from statistics import fmean

from lmsl.report.attention import attention_grid
from lmsl.report.figures import Chart, Mark, PlaneChart, RowChart, Series, Tone, shortened
from lmsl.report.lines import dots, influence_lines, learning_curves, tone
from lmsl.statistics.analysis import Analysis

_MOST_TYPES = 40


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
    if curves := learning_curves(analysis):
        drawn.append(curves)
    else:
        missing.append("Learning curves: the runs kept no log of their training.")
    influence, lacking = influence_lines(analysis)
    if influence is not None:
        drawn.append(influence)
    if lacking:
        missing.append(
            f"Right-context influence by layer: {lacking} of the runs did not record it; "
            "lmsl probe RUN --save adds it to a run."
        )
    attention, why_not = attention_grid(analysis)
    drawn += [attention] if attention is not None else []
    missing += [why_not] if why_not is not None else []
    drawn.append(_cost(analysis))
    return drawn, missing


def _scores(analysis: Analysis) -> RowChart:
    sweep, reported = analysis.sweep, analysis.reported
    result = analysis.results[reported]
    marks = []
    for index, mean in enumerate(result.means):
        low, high = result.interval(index) or (None, None)
        marks.append(
            Mark(
                value=100 * float(mean),
                low=None if low is None else 100 * low,
                high=None if high is None else 100 * high,
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
    dev, test = (analysis.results[split].means for split in ("dev", "test"))
    return PlaneChart(
        key="scatter",
        title="Dev against test",
        note="One dot a string, means over seeds. On a rising line, dev would rank the strings as "
        "test does.",
        x_axis=f"dev {analysis.sweep.metric}, %",
        y_axis=f"test {analysis.sweep.metric}, %",
        lines=dots(analysis, range(len(dev)), dev.tolist(), test.tolist()),
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


def _cost(analysis: Analysis) -> RowChart:
    seconds = [
        [float(run.metrics["train_seconds"]) for run in runs] for runs in analysis.sweep.runs
    ]
    total = sum(map(sum, seconds))
    marks = tuple(
        Mark(value=fmean(each), tone=tone(analysis, index)) for index, each in enumerate(seconds)
    )
    return RowChart(
        key="cost",
        title="Cost",
        note=f"Seconds of training a run, means over seeds; {total:,.0f} s in all.",
        axis="seconds",
        rows=analysis.sweep.names,
        series=(Series(label="seconds", marks=marks),),
        kind="bars",
    )
