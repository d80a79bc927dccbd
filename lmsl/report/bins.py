"""A reliability diagram: bars over probabilities, the line on which they would be honest."""

from markupsafe import Markup

from lmsl.report.figures import Bin, BinChart
from lmsl.report.strokes import RIGHT, WIDTH, lettering, plain, segment

_LEFT, _TOP, _BOTTOM = 52, 22, 270
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_NARROW = 26
"""Pixels that a count needs above its bar."""


def bars_of_bins(chart: BinChart) -> tuple[list[Markup], int]:
    """The elements, and how high they are together."""
    right = WIDTH - RIGHT - 6

    def place(across: float, up: float) -> tuple[float, float]:
        return _LEFT + (right - _LEFT) * across, _BOTTOM - (_BOTTOM - _TOP) * up

    body = []
    for value in _TICKS:
        x, y = place(value, value)
        body.append(segment(_LEFT, y, right, y, "grid"))
        body.append(lettering(_LEFT - 7, y + 4, plain(value), "tick", "end"))
        body.append(lettering(x, _BOTTOM + 15, plain(value), "tick", "middle"))
    for each in chart.bins:
        if each.count:
            body.append(_bar(each, *place(each.low, each.correct), *place(each.high, 0)))
    start, end = place(0, 0), place(1, 1)
    body.append(
        Markup(
            '<polyline points="{:.1f},{:.1f} {:.1f},{:.1f}" class="curve ink" '
            'stroke-dasharray="6 4"/>'
        ).format(*start, *end)
    )
    for each in chart.bins:
        if each.count:
            x, y = place(each.confidence, each.correct)
            body.append(
                Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.5" class="dot open"/>').format(x, y)
            )
    middle = (_LEFT + right) / 2
    body.append(lettering(middle, _BOTTOM + 33, chart.x_axis, "axis", "middle"))
    turned = Markup('<text class="axis" text-anchor="middle" transform="translate(13 {:.1f}) ')
    body.append(
        (turned + Markup('rotate(-90)">{}</text>')).format((_TOP + _BOTTOM) / 2, chart.y_axis)
    )
    return body, _BOTTOM + 42


def _bar(each: Bin, left: float, top: float, right: float, bottom: float) -> Markup:
    words = (
        f"{each.low:.2f} to {each.high:.2f}: {each.count:,} predicted, mean probability "
        f"{each.confidence:.3f}, {each.correct:.3f} of them right"
    )
    number = Markup("")
    if right - left >= _NARROW:
        number = lettering((left + right) / 2, top - 7, _short(each.count), "tick", "middle")
    return Markup(
        '<g><title>{}</title><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" '
        'class="bar soft"/>{}</g>'
    ).format(words, left + 1, top, right - left - 2, max(bottom - top, 1), number)


def _short(count: int) -> str:
    """In at most four letters."""
    for size, letter in ((1_000_000, "M"), (1000, "k")):
        if count >= 10 * size:
            return f"{count // size}{letter}"
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count)
