"""A grid of shares, drawn as shades of one colour over the page, which is that of 0."""

from collections.abc import Sequence

from markupsafe import Markup

from lmsl.report.figures import GridChart
from lmsl.report.strokes import RIGHT, WIDTH, lettering, segment

_LEFT, _TOP = 52, 40
_TALLEST, _WIDEST = 18, 32
_DEEPEST = 320
"""Pixels of all rows together, at most, unless there are more rows than fit into it."""
_APART = 14
"""Pixels between two numbers of an axis, at least."""
_STEPS = 20
"""Shades of the legend."""


def grid(chart: GridChart) -> tuple[list[Markup], int]:
    """The elements, and how high they are together."""
    columns = max(map(len, chart.rows))
    width = min(_WIDEST, (WIDTH - _LEFT - RIGHT) / columns)
    height = min(_TALLEST, max(3.0, _DEEPEST / len(chart.rows)))
    bottom = _TOP + height * len(chart.rows)
    right = _LEFT + width * columns
    body = _legend(chart)
    for row, (shares, even) in enumerate(zip(chart.rows, chart.even, strict=True)):
        y = bottom - height * (row + 1)
        for column, share in enumerate(shares):
            words = (
                f"{chart.y_axis} {row + 1}, {chart.x_axis} {column + 1}: {share:.3f} "
                f"(even {even:.3f})"
            )
            body.append(_cell(_LEFT + width * column, y, width, height, share, words))
    for row in _numbered(len(chart.rows), height):
        y = bottom - height * (row + 0.5)
        body.append(lettering(_LEFT - 7, y + 4, str(row + 1), "tick", "end"))
    for column in _numbered(columns, width):
        x = _LEFT + width * (column + 0.5)
        body.append(lettering(x, bottom + 15, str(column + 1), "tick", "middle"))
    for x1, y1, x2, y2 in (
        (_LEFT, bottom, right, bottom),
        (_LEFT, _TOP, right, _TOP),
        (_LEFT, _TOP, _LEFT, bottom),
        (right, _TOP, right, bottom),
    ):
        body.append(segment(x1, y1, x2, y2, "grid"))
    body.append(lettering((_LEFT + right) / 2, bottom + 33, chart.x_axis, "axis", "middle"))
    turned = Markup('<text class="axis" text-anchor="middle" transform="translate(13 {:.1f}) ')
    body.append(
        (turned + Markup('rotate(-90)">{}</text>')).format((_TOP + bottom) / 2, chart.y_axis)
    )
    return body, round(bottom + 42)


def _legend(chart: GridChart) -> list[Markup]:
    """The shades from 0 to 1, with the even shares that are not 0 marked on them."""
    wide = 160.0
    body = []
    for step in range(_STEPS):
        share = (step + 0.5) / _STEPS
        x = _LEFT + wide * step / _STEPS
        body.append(_cell(x, 6, wide / _STEPS, 9, share, f"{share:.2f}"))
    body.append(lettering(_LEFT - 7, 14, "0", "tick", "end"))
    body.append(lettering(_LEFT + wide + 7, 14, "1", "tick", "start"))
    marks = sorted({round(even, 2) for even in chart.even if even > 0})
    for even in marks:
        x = _LEFT + wide * even
        body.append(segment(x, 3, x, 18, "ink"))
    if marks:
        most = f"{marks[0]:.2f}" + (f" to {marks[-1]:.2f}" if len(marks) > 1 else "")
        words = f"even: {most}"
        body.append(lettering(_LEFT + wide * marks[0], 29, words, "tick", "middle"))
    return body


def _numbered(count: int, size: float) -> Sequence[int]:
    """Which rows or columns of a size bear their number; the first does."""
    every = next(step for step in (1, 2, 4, 8, 16, 32, 64, 128) if step * size >= _APART)
    return range(0, count, every)


def _cell(x: float, y: float, width: float, height: float, share: float, words: str) -> Markup:
    return Markup(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.2f}" height="{:.2f}" class="cell" '
        'fill-opacity="{:.3f}"><title>{}</title></rect>'
    ).format(x, y, width, height, share, words)
