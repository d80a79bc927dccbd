"""What hiding the right context costs, layer group by layer group: a predictor of few scores.

A run that was trained under many strings can be scored under any of them. Open is the string that
unmasks every layer that a candidate unmasks; a group is the layers that no candidate tells apart.
Hiding group g lowers the score from that of open by d(g), measured with only g causal. Then

    right-dependency of the task = score(open) - score(no group unmasked)
    predicted score of a string  = score(open) - sum of d(g) over the groups that it hides

as if groups did not help each other out. That takes two scores more than there are groups, where
scoring every string takes one for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lmsl.mask.bits import Bits


@dataclass(frozen=True, kw_only=True)
class RightContext:
    """What was measured; scores in 0-1."""

    open: float
    """With every group unmasked."""
    hidden: float
    """With none."""
    groups: tuple[tuple[int, ...], ...]
    """Layers of each group, input side first."""
    drops: tuple[float, ...]
    """By how much the score falls where this group alone is causal."""

    @property
    def dependency(self) -> float:
        """How much of the score is owed to the right context."""
        return self.open - self.hidden

    def predicted(self, bits: Sequence[bool]) -> float:
        """The score of a string, see above; may leave 0-1."""
        pairs = zip(self.groups, self.drops, strict=True)
        return self.open - sum(drop for layers, drop in pairs if not bits[layers[0]])


def layer_groups(bits: Bits) -> tuple[tuple[int, ...], ...]:
    """The layers in which candidates differ, those together that no candidate tells apart."""
    groups: dict[tuple[bool, ...], list[int]] = {}
    for layer, own in enumerate(zip(*bits, strict=True)):
        if len(set(own)) > 1:
            groups.setdefault(tuple(own), []).append(layer)
    return tuple(tuple(layers) for layers in groups.values())


def probe_bits(bits: Bits) -> list[list[bool]]:
    """What has to be scored, for ``right_context``: open, no group unmasked, each group hidden."""
    groups = layer_groups(bits)
    opened = [any(own) for own in zip(*bits, strict=True)]
    shown = [opened, _hiding(opened, [layer for layers in groups for layer in layers])]
    return shown + [_hiding(opened, layers) for layers in groups]


def right_context(bits: Bits, scores: Sequence[float]) -> RightContext:
    """Args:
    bits: of the candidates.
    scores: of ``probe_bits(bits)``, in its order.
    """
    opened, hidden, *without = scores
    drops = tuple(opened - score for score in without)
    return RightContext(open=opened, hidden=hidden, groups=layer_groups(bits), drops=drops)


def _hiding(bits: Sequence[bool], layers: Sequence[int]) -> list[bool]:
    return [bit and layer not in layers for layer, bit in enumerate(bits)]
