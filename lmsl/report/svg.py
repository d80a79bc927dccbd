"""Figures as SVG, for the page and for files: ``page/figures.css`` colours them, text stays text.

Drawn 440 wide, so that letters keep their size on a phone, where a figure has the whole width, as
on a laptop, where two stand side by side. Everything that comes from data is escaped by
``Markup.format``.
"""

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup

from lmsl.report.bins import bars_of_bins
from lmsl.report.figures import (
    BinChart,
    Chart,
    GridChart,
    Line,
    Mark,
    PlaneChart,
    RowChart,
    row_text,
    shortened,
)
from lmsl.report.grid import grid
from lmsl.report.strokes import RIGHT, WIDTH, lettering, plain, segment

_TITLE = 32
_LETTER = 6.7
_LONGEST = 24
_DASHES = {"solid": "", "dashed": "6 4", "dotted": "1.5 3.5"}


def svg(chart: Chart) -> Markup:
    """The figure as an ``<svg>`` element with a name for screen readers."""
    body, height = _body(chart)
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, f"{chart.title}. {chart.note}", body
    )


def titled_svg(chart: Chart) -> Markup:
    """The figure as a document of its own, under its title."""
    body, height = _body(chart)
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -{0} {1} {2}">'
        '<text class="title" x="8" y="-10">{3}</text>{4}</svg>'
    ).format(_TITLE, WIDTH, height + _TITLE, chart.title, body)


def _body(chart: Chart) -> tuple[Markup, int]:
    if isinstance(chart, GridChart):
        body, height = grid(chart)
    elif isinstance(chart, BinChart):
        body, height = bars_of_bins(chart)
    else:
        body, height = _rows(chart) if isinstance(chart, RowChart) else _plane(chart)
    return Markup("").join(body), height


def ticks(low: float, high: float, most: int = 6, limit: float = math.inf) -> list[float]:
    """Round values (1, 2, 2.5 or 5 times a power of ten) from at or below ``low`` to at or above
    ``high``. A single value begins a scale of one unit, or ends it
    where there is nothing beyond ``limit``."""
    if high - low <= 1e-6:
        low = min(low, limit - 1)
        high = low + 1
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * m for m in (1, 2, 2.5, 5, 10, 20) if span / (power * m) <= most - 1)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 9) for index in range(first, max(last, first + 1) + 1)]


def _rows(chart: RowChart) -> tuple[list[Markup], int]:
    bars = chart.kind == "bars"
    thick = 9 if len(chart.series) > 1 else 10
    pitch = thick * len(chart.series) + 10 if bars else 20
    names = [shortened(row, _LONGEST) for row in chart.rows]
    left = 16 + _LETTER * max(map(len, names))
    several = len(chart.series) > 1
    top = 30 if several else 10
    scale = _ticks_of(chart)
    right, bottom = WIDTH - RIGHT, top + pitch * len(names)

    def x(value: float) -> float:
        return left + (right - left) * (value - scale[0]) / (scale[-1] - scale[0])

    body = _legend(chart, left) if several else []
    for value in scale:
        body.append(segment(x(value), top, x(value), bottom, "grid"))
        body.append(lettering(x(value), bottom + 15, plain(value), "tick", "middle"))
    body.append(lettering((left + right) / 2, bottom + 32, chart.axis, "axis", "middle"))
    for row, name in enumerate(names):
        middle = top + pitch * (row + 0.5)
        css = "name strong" if chart.series[0].marks[row].tone == "accent" else "name"
        drawn = [lettering(left - 8, middle + 4, name, "name" if bars and several else css, "end")]
        for index, series in enumerate(chart.series):
            mark = series.marks[row]
            if bars:
                y = middle + thick * (index - len(chart.series) / 2)
                drawn.append(_bar(x(scale[0]), y, x(mark.value) - x(scale[0]), thick - 2, mark))
            else:
                drawn += _dot_with_interval(mark, x(mark.value), middle, x)
        body.append(
            Markup("<g><title>{}</title>{}</g>").format(
                row_text(chart, row), Markup("").join(drawn)
            )
        )
    return body, round(bottom + 40)


def _ticks_of(chart: RowChart) -> list[float]:
    marks = [mark for series in chart.series for mark in series.marks]
    highest = max(mark.value if mark.high is None else mark.high for mark in marks)
    if chart.kind == "bars":
        return ticks(0, max(highest, 1e-3))
    lowest = min(mark.value if mark.low is None else mark.low for mark in marks)
    return ticks(lowest, highest, limit=_limit(chart.axis))


def _limit(axis: str) -> float:
    """The most that can stand on an axis."""
    return 100.0 if axis.endswith("%") else math.inf


def _plane(chart: PlaneChart) -> tuple[list[Markup], int]:
    lines = chart.kind == "lines"
    every_x, every_y = zip(*(point for line in chart.lines for point in line.points), strict=True)
    xs = ticks(min(every_x), max(every_x))
    lowest = min(0.0, *every_y) if chart.from_zero else min(every_y)
    ys = ticks(lowest, max(every_y), limit=_limit(chart.y_axis))
    left, right, bottom = 52, WIDTH - RIGHT - 6, 270
    named = [line for line in chart.lines if line.named] if lines else []
    named.sort(key=lambda line: line.tone != "accent")
    top = 30 if named else 12

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = (point[0] - xs[0]) / (xs[-1] - xs[0])
        up = (point[1] - ys[0]) / (ys[-1] - ys[0])
        return left + (right - left) * across, bottom - (bottom - top) * up

    body = _line_legend(named, left, len(chart.lines) > len(named)) if named else []
    for value in xs:
        across, _ = place((value, ys[0]))
        body.append(segment(across, top, across, bottom, "grid"))
        body.append(lettering(across, bottom + 15, plain(value), "tick", "middle"))
    for value in ys:
        _, up = place((xs[0], value))
        body.append(segment(left, up, right, up, "grid"))
        body.append(lettering(left - 7, up + 4, plain(value), "tick", "end"))
    body.append(lettering((left + right) / 2, bottom + 33, chart.x_axis, "axis", "middle"))
    turned = Markup('<text class="axis" text-anchor="middle" transform="translate(13 {}) ')
    body.append(
        (turned + Markup('rotate(-90)">{}</text>')).format((top + bottom) / 2, chart.y_axis)
    )
    paths = [[place(point) for point in line.points] for line in chart.lines]
    if lines:
        body += [_path(line, path) for line, path in zip(chart.lines, paths, strict=True)]
    else:
        body += _named_dots(chart.lines, [path[0] for path in paths], right)
    return body, bottom + 42


def _path(line: Line, placed: Sequence[tuple[float, float]]) -> Markup:
    css = f"curve {line.tone}"
    shape = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    last = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.5" class="dot {}"/>')
    return Markup(
        '<g><title>{}</title><polyline points="{}" class="{}" stroke-dasharray="{}"/>{}</g>'
    ).format(line.label, shape, css, _DASHES[line.dash], last.format(*placed[-1], line.tone))


def _named_dots(
    lines: Sequence[Line], places: Sequence[tuple[float, float]], right: float
) -> list[Markup]:
    """Dots, then the names of some, each on the side where it covers the least."""
    body = []
    for line, (x, y) in zip(lines, places, strict=True):
        words = f"{line.label}: {line.points[0][0]:.2f}, {line.points[0][1]:.2f}"
        body.append(
            Markup('<g><title>{}</title><circle cx="{:.1f}" cy="{:.1f}" r="4.2" ').format(
                words, x, y
            )
            + Markup('class="dot {}"/></g>').format(line.tone)
        )
    taken = list(places)
    for line, (x, y) in zip(lines, places, strict=True):
        if not line.named:
            continue
        name = shortened(line.label, _LONGEST)
        wide = _LETTER * len(name)
        sides = [
            (x + 8, y + 4),
            (x - 8 - wide, y + 4),
            (x - wide / 2, y + 17),
            (x - wide / 2, y - 9),
        ]
        inside = [(a, b) for a, b in sides if a + wide <= right + 6]
        at = min(inside, key=lambda side: _covered(side, wide, taken))
        taken += [(at[0] + part * wide, at[1] - 4) for part in (0, 0.25, 0.5, 0.75, 1)]
        css = "name strong" if line.tone == "accent" else "name"
        body.append(lettering(*at, name, css, "start"))
    return body


def _covered(side: tuple[float, float], wide: float, places: Sequence[tuple[float, float]]) -> int:
    """Dots and parts of other names under a name that begins at ``side``."""
    return sum(
        side[0] - 4 < x < side[0] + wide + 4 and side[1] - 13 < y < side[1] + 4 for x, y in places
    )


def _legend(chart: RowChart, left: float) -> list[Markup]:
    body, x = [], left
    for series in chart.series:
        tone = series.marks[0].tone
        if chart.kind == "dots":
            # Rows differ in tone; the legend shows the shape alone.
            tone = "open" if tone == "open" else "ink"
            body.append(Markup('<circle cx="{}" cy="14" r="4" class="dot {}"/>').format(x, tone))
        else:
            body.append(_bar(x - 5, 9, 10, 10, Mark(value=0, tone=tone)))
        body.append(lettering(x + 10, 18, series.label, "tick", "start"))
        x += 34 + _LETTER * len(series.label)
    return body


def _line_legend(named: Sequence[Line], left: float, others: bool) -> list[Markup]:
    body, x = [], left
    rest = [Line(label="others", points=(), tone="muted")] if others else []
    for line in [*named, *rest]:
        body.append(
            Markup(
                '<line x1="{0}" y1="14" x2="{1}" y2="14" class="curve {2}" '
                'stroke-dasharray="{3}"/>'
            ).format(x, x + 20, line.tone, _DASHES[line.dash])
        )
        name = shortened(line.label, _LONGEST)
        body.append(lettering(x + 25, 18, name, "tick", "start"))
        x += 44 + _LETTER * len(name)
    return body


def _dot_with_interval(
    mark: Mark, at: float, y: float, x: Callable[[float], float]
) -> list[Markup]:
    drawn = []
    if mark.low is not None and mark.high is not None:
        drawn.append(segment(x(mark.low), y, x(mark.high), y, f"whisker {mark.tone}"))
    radius = 3 if mark.tone == "open" else 3.7
    drawn.append(
        Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}" class="dot {}"/>').format(
            at, y, radius, mark.tone
        )
    )
    return drawn


def _bar(x: float, y: float, width: float, height: float, mark: Mark) -> Markup:
    return Markup(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}" class="bar {}"/>'
    ).format(x, y, max(width, 0.5), height, mark.tone)
