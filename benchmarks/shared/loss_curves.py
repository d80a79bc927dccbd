"""Whether ours and the padded peer learn alike: their losses, update by update.

Both begin with the same adapters and head and see the same sentences. With dropout, which the two
draw differently, and in bfloat16, which rounds in other places, their losses drift apart as those
of two seeds do; so the noise of two seeds is what they are held against.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Updates over which a curve is smoothed, and those at its end whose mean is compared.
WINDOW, LAST = 20, 50
OURS, PEER = "ours", "peer"

Curve = Sequence[float]
Curves = Mapping[str, Mapping[str, Curve]]
"""Losses by who learnt and by seed."""


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far two curves are from each other."""

    last: float
    """Between the means of their last updates."""
    course: float
    """The mean distance of the smoothed curves."""


def distance(one: Curve, other: Curve) -> Distance:
    """Of two curves of equal length."""
    assert len(one) == len(other)
    a, b = np.asarray(one), np.asarray(other)
    return Distance(
        last=float(abs(a[-LAST:].mean() - b[-LAST:].mean())),
        course=float(np.abs(smoothed(a) - smoothed(b)).mean()),
    )


def smoothed(curve: Curve | NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over ``WINDOW`` updates, or over all where there are fewer."""
    window = min(WINDOW, len(curve))
    return np.convolve(curve, np.full(window, 1 / window), mode="valid")


def compare(curves: Curves) -> tuple[dict[str, Distance], Distance, list[str]]:
    """Hold ours against the peer, seed by seed.

    They may be as far from each other as the two seeds of one of them, whichever are further. Two
    means can also coincide by chance, where that would allow nothing: a mean over the last updates
    is not known better than to twice its standard error, so that much is allowed in any case.

    Returns:
        The distance of each seed, the largest one allowed, and what is wrong.
    """
    first, second = curves[OURS]
    between = [distance(curves[who][first], curves[who][second]) for who in (OURS, PEER)]
    ends = [np.asarray(curves[who][seed])[-LAST:] for who in curves for seed in curves[who]]
    known = max(2 * float(end.std(ddof=1)) / len(end) ** 0.5 for end in ends)
    allowed = Distance(
        last=max(known, *(one.last for one in between)),
        course=max(one.course for one in between),
    )
    found = {seed: distance(curves[OURS][seed], curves[PEER][seed]) for seed in (first, second)}
    faults = []
    for seed, own in found.items():
        for what in ("last", "course"):
            mine, most = getattr(own, what), getattr(allowed, what)
            # Written so that a NaN does not pass.
            if not mine <= most:
                faults.append(f"seed {seed}, {what}: {mine:.4f} apart, {most:.4f} allowed")
    return found, allowed, faults
