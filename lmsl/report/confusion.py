"""Gold types against predicted types: a table that stays readable with many types.

The most frequent types have a row and a column each; the others share one, where there are enough
of them that this saves something.
"""

from collections import Counter
from dataclasses import dataclass

from lmsl.report.tally import Tally

MOST = 14
"""Types with a row of their own."""
_SHADES = 5


@dataclass(frozen=True, kw_only=True)
class Box:
    """A cell: how many, and how it is shaded."""

    count: int
    right: bool
    shade: int
    """0 to 5: its share of the row."""
    of_them_wrong: int = 0
    """In the cell of types that share a row: entities of one under another."""


@dataclass(frozen=True, kw_only=True)
class ConfusionRow:
    name: str
    gold: int | None
    """None in the row of what is spurious."""
    boxes: tuple[Box | None, ...]
    """None where nothing can be."""


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Columns are predicted types, rows gold ones."""

    heads: tuple[str, ...]
    rows: tuple[ConfusionRow, ...]
    folded: int
    """Types that share a row."""


def confusion_of(tally: Tally, *, plain: bool, most: int = MOST) -> Confusion | None:
    """The table of a split; None where it has no entities at all.

    Args:
        plain: every word has a tag on both sides, so that nothing is missed or spurious.
    """
    gold = tally.gold
    size = gold + tally.predicted
    types = sorted(size, key=lambda kind: (-gold[kind], -size[kind], kind))
    if not types:
        return None
    folded = len(types) - most if len(types) > most + 1 else 0
    own = types[: len(types) - folded]
    names = [*own, *([f"{folded} other types"] if folded else [])]
    place: dict[str | None, int] = dict.fromkeys(types, len(own))
    place.update((kind, index) for index, kind in enumerate(own))
    # What is missing stands behind the types on both sides.
    place[None] = len(names)
    grid: Counter[tuple[int, int]] = Counter()
    wrong: Counter[int] = Counter()
    for (wanted, given), count in tally.pairs.items():
        row, column = place[wanted], place[given]
        grid[row, column] += count
        wrong[row] += count if row == column and wanted != given else 0
    sides = range(len(names) + (not plain))
    rows = []
    for row in sides:
        whole = sum(grid[row, column] for column in sides)
        boxes = [
            Box(
                count=grid[row, column],
                right=row == column,
                shade=_shade(grid[row, column], whole),
                of_them_wrong=wrong[row] if row == column else 0,
            )
            for column in sides
        ]
        if row < len(names):
            rows.append(ConfusionRow(name=names[row], gold=whole, boxes=tuple(boxes)))
        else:
            rows.append(ConfusionRow(name="spurious", gold=None, boxes=(*boxes[:-1], None)))
    heads = (*names, *(() if plain else ("missed",)))
    return Confusion(heads=heads, rows=tuple(rows), folded=folded)


def _shade(count: int, whole: int) -> int:
    return -(-_SHADES * count // whole) if count else 0
