"""The figures of a report as data: what is drawn, not how. Rates are in percent here.

Four shapes do for all. ``RowChart``: a named row for each string or type, values to the right.
``PlaneChart``: lines and dots between two axes of numbers. ``GridChart``: shares by row and column
as shades. ``BinChart``: shares by how sure answers are. ``lmsl.report.svg`` draws them into the
page and ``lmsl.report.png`` into files.
"""

from dataclasses import dataclass
from typing import Literal

Tone = Literal["accent", "ink", "muted", "open"]
"""The string picked on dev; strings to compare it with; the rest; a second value beside one."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A value of a row, with an interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None
    tone: Tone = "muted"


@dataclass(frozen=True, kw_only=True)
class Series:
    """A value for each row."""

    label: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True)
class RowChart:
    """Rows with bars from 0, or dots with intervals."""

    key: str
    title: str
    note: str
    axis: str
    rows: tuple[str, ...]
    series: tuple[Series, ...]
    kind: Literal["bars", "dots"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line through points, or dots alone; labelled ones are named in the figure."""

    label: str
    points: tuple[tuple[float, float], ...]
    tone: Tone
    dash: Literal["solid", "dashed", "dotted"] = "solid"
    named: bool = False


@dataclass(frozen=True, kw_only=True)
class PlaneChart:
    """Lines, or one dot for each."""

    key: str
    title: str
    note: str
    x_axis: str
    y_axis: str
    lines: tuple[Line, ...]
    kind: Literal["lines", "dots"]
    from_zero: bool = False
    """The axis of y begins at 0, or below."""


@dataclass(frozen=True, kw_only=True)
class GridChart:
    """A shade for each share of 0 to 1; rows and columns are numbered from 1, the first row
    lowest."""

    key: str
    title: str
    note: str
    x_axis: str
    y_axis: str
    rows: tuple[tuple[float, ...], ...]
    even: tuple[float, ...]
    """Of each row, the share to compare it with."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Answers of like confidence; the last two mean nothing where there are none."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean over them."""
    correct: float
    """Share of them."""


@dataclass(frozen=True, kw_only=True)
class BinChart:
    """A bar for each bin between 0 and 1, as high as its share of correct ones."""

    key: str
    title: str
    note: str
    x_axis: str
    y_axis: str
    bins: tuple[Bin, ...]


Chart = RowChart | PlaneChart | GridChart | BinChart


def shortened(name: str, longest: int) -> str:
    """A name as it fits beside a figure."""
    return name if len(name) <= longest else name[: longest - 1] + "\u2026"


def row_text(chart: RowChart, row: int) -> str:
    """A row in words, for those who point at it or listen."""
    values = "; ".join(f"{s.label} {_number(s.marks[row])}" for s in chart.series)
    return f"{chart.rows[row]}: {values}"


def _number(mark: Mark) -> str:
    text = f"{mark.value:.2f}"
    if mark.low is None or mark.high is None:
        return text
    return f"{text} ({mark.low:.2f} to {mark.high:.2f})"
