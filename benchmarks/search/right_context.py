"""What hiding the right context costs, layer group by layer group: a predictor of few scores.

A run that was trained under many strings can be scored under any of them. Open is the string that
unmasks every layer that a candidate unmasks; a group is the bits that no candidate tells apart.
Hiding group g lowers the score from that of open by d(g), measured with only g causal. Then

    right-dependency of the task = score(open) - score(no group unmasked)
    predicted score of a string  = score(open) - sum of d(g) over the groups that it hides

as if groups did not help each other out. That takes two scores more than there are groups, where
scoring every string takes one for each; a grid holds all of them. It misleads
(docs/unmask_strings.md), so it is kept for comparison only.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RightContext:
    """What the scores of a one-shot say of it; scores in 0-1."""

    open: float
    """With every group unmasked."""
    hidden: float
    """With none."""
    drops: dict[tuple[int, ...], float]
    """For the bits of each group, by how much the score falls where this group alone is causal."""

    @property
    def scored(self) -> int:
        """How many strings it takes."""
        return len(self.drops) + 2

    def predicted(self, string: str) -> float:
        """The score of a string, see above; may leave 0-1."""
        return self.open - sum(drop for bits, drop in self.drops.items() if string[bits[0]] == "0")


def right_context(scores: Mapping[str, float]) -> RightContext | None:
    """By the dev scores of the candidates; None where those that it takes are not among them."""
    if len(set(map(len, scores))) > 1 or not set("".join(scores)) <= {"0", "1"}:
        return None
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, own in enumerate(zip(*scores, strict=True)):
        if len(set(own)) > 1:
            groups.setdefault(own, []).append(place)
    opened = "".join(max(own) for own in zip(*scores, strict=True))

    def hiding(places: list[int]) -> str:
        return "".join("0" if i in places else bit for i, bit in enumerate(opened))

    closed = hiding([place for places in groups.values() for place in places])
    single = {tuple(places): hiding(places) for places in groups.values()}
    if not {opened, closed, *single.values()} <= scores.keys():
        return None
    return RightContext(
        open=scores[opened],
        hidden=scores[closed],
        drops={places: scores[opened] - scores[string] for places, string in single.items()},
    )
