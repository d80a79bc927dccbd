"""The same figures as PNG files, by matplotlib (the extra ``plots``)."""

from pathlib import Path
from typing import Any

from lmsl.errors import InputError
from lmsl.report.figures import Chart, PlaneChart, RowChart

_COLOURS = {"accent": "#0b5cad", "ink": "#1c1c1c", "muted": "#9a9a98", "open": "#1c1c1c"}
_STYLES = {"solid": "-", "dashed": "--", "dotted": ":"}


def check_plots() -> None:
    """Raises ``InputError`` where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(
            "--png: expected matplotlib, which is not installed; pip install 'lmsl[plots]', or "
            "leave --png out (the page draws its figures itself)"
        ) from error


def write_pngs(charts: list[Chart], folder: Path) -> list[Path]:
    """Write ``KEY.png`` for every figure.

    Raises:
        InputError: matplotlib is missing.
        OSError: the folder cannot be written to.
    """
    check_plots()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    paths = []
    folder.mkdir(parents=True, exist_ok=True)
    for chart in charts:
        height = 4.0
        if isinstance(chart, RowChart):
            height = 1.3 + len(chart.rows) * (0.14 * len(chart.series) + 0.1)
        figure = Figure(figsize=(6, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_axisbelow(True)
        axes.grid(axis="x" if isinstance(chart, RowChart) else "both", color="#e4e4e2")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(_literal(chart.title))
        if isinstance(chart, RowChart):
            _rows(chart, axes)
        else:
            _plane(chart, axes)
        paths.append(folder / f"{chart.key}.png")
        figure.savefig(paths[-1], dpi=160)
    return paths


def _rows(chart: RowChart, axes: Any) -> None:
    places = range(len(chart.rows))
    count = len(chart.series)
    for index, series in enumerate(chart.series):
        values = [mark.value for mark in series.marks]
        colours = [_COLOURS[mark.tone] for mark in series.marks]
        label = _literal(series.label)
        if chart.kind == "bars":
            at = [place + 0.8 * ((index + 0.5) / count - 0.5) for place in places]
            axes.barh(at, values, 0.8 / count, color=colours, label=label)
            continue
        for place, mark in zip(places, series.marks, strict=True):
            if mark.low is not None and mark.high is not None:
                axes.plot([mark.low, mark.high], [place, place], color=_COLOURS[mark.tone])
        hollow = series.marks[0].tone == "open"
        face = "none" if hollow else colours
        axes.scatter(values, places, s=28, facecolors=face, edgecolors=colours, label=label)
    axes.set_yticks(places, [_literal(row) for row in chart.rows])
    axes.invert_yaxis()
    axes.set_xlabel(_literal(chart.axis))
    if count > 1:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=count, frameon=False)


def _plane(chart: PlaneChart, axes: Any) -> None:
    for line in chart.lines:
        xs, ys = zip(*line.points, strict=True)
        colour, label = _COLOURS[line.tone], _literal(line.label) if line.named else None
        if chart.kind == "lines":
            style = _STYLES[line.dash]
            axes.plot(xs, ys, color=colour, linestyle=style, label=label, marker=".")
        else:
            axes.scatter(xs, ys, color=colour)
            if label:
                axes.annotate(label, (xs[0], ys[0]), (5, 5), textcoords="offset points")
    axes.set_xlabel(_literal(chart.x_axis))
    axes.set_ylabel(_literal(chart.y_axis))
    if chart.from_zero:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    if chart.kind == "lines" and any(line.named for line in chart.lines):
        axes.legend(frameon=False)


def _literal(text: str) -> str:
    """Dollar signs would begin a formula."""
    return text.replace("$", r"\$")
