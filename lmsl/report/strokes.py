"""The elements that all figures are drawn of; what comes from data is escaped."""

from markupsafe import Markup

WIDTH = 440
RIGHT = 14
"""Of every figure: how wide it is, and the margin at its right end."""


def segment(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(
        x1, y1, x2, y2, css
    )


def lettering(x: float, y: float, words: str, css: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}</text>').format(
        x, y, css, anchor, words
    )


def plain(value: float) -> str:
    return f"{value:,g}".replace("-", "\u2212")
