"""Whether the probabilities of entities mean what they say, and the temperature that makes them.

Of all entities found with a probability of about 0.8, eight in ten should be right. How far that
is from being so is the expected calibration error (Naeini et al. 2015): entities in ten bins by
their probability, and over the bins the mean of the distance between mean probability and share of
right ones, weighted by count.

The remedy is one number (Guo et al. 2017, arXiv 1706.04599): log-probabilities of words are
divided by a temperature before the probability of a span is formed, which changes no tag. It is
the one with the least log-loss of "this entity is right" on dev.

An entity is right where the gold has exactly its words and its type. One that holds a word without
a label cannot be judged and is left out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmsl.data.tags.decode import Decoded
from lmsl.data.tags.distribution import Floats
from lmsl.data.tags.metrics import scorable
from lmsl.data.tags.schemes import tag_spans
from lmsl.data.tags.sentence import Sentence

BINS = 10

HOTTEST = 8.0
"""The search is from one by this to this: beyond, a model knows nothing or nothing is wrong."""

_GRID = 9
_STEPS = 12
_GOLDEN = (math.sqrt(5) - 1) / 2
_SURE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Entities found [N]: their probabilities, and which of them are right."""

    scores: Floats
    right: NDArray[np.bool_]

    @property
    def log_loss(self) -> float:
        """Mean log-loss of the probabilities, as those of being right."""
        sure = np.clip(self.scores, _SURE, 1 - _SURE)
        return float(-np.log(np.where(self.right, sure, 1 - sure)).mean())


def judged(sentences: Sequence[Sentence], decoded: Sequence[Decoded]) -> Judged:
    """The entities that a run found in sentences with tags, in order."""
    scores, right = list[float](), list[bool]()
    for sentence, found in zip(sentences, decoded, strict=True):
        if not found.spans:
            continue
        truth = sentence.tags or ()
        gold = set(tag_spans(truth))
        for span, score in zip(found.spans, found.scores, strict=True):
            if score is not None and scorable(span, truth) == span:
                scores.append(score)
                right.append(span in gold)
    return Judged(scores=np.array(scores, dtype=np.float64), right=np.array(right, dtype=np.bool_))


def calibration(entities: Judged, before: Judged, temperature: float) -> dict[str, Any]:
    """What ``metrics.json`` says of it.

    Args:
        before: the same entities with their probabilities at temperature 1.

    Returns:
        ``temperature``; ``ece`` and ``ece_uncalibrated``, in 0-1, None without entities; ``bins``,
        of equal width, each with its edges ``low`` and ``high``, the ``count`` of entities from
        ``low`` to below ``high`` (the last holds 1 too), and the mean ``confidence`` and the share
        of ``correct`` ones, in 0-1, None in an empty bin.
    """
    return {
        "temperature": temperature,
        "ece": calibration_error(entities),
        "ece_uncalibrated": calibration_error(before),
        "bins": _bins(entities),
    }


def calibration_error(entities: Judged) -> float | None:
    """The expected calibration error in 0-1; None without entities."""
    bins = [each for each in _bins(entities) if each["count"]]
    if not bins:
        return None
    distances = (each["count"] * abs(each["confidence"] - each["correct"]) for each in bins)
    return float(math.fsum(distances) / len(entities.scores))


def _bins(entities: Judged) -> list[dict[str, Any]]:
    number = np.minimum((entities.scores * BINS).astype(np.int64), BINS - 1)
    found = []
    for index in range(BINS):
        own = number == index
        count = int(own.sum())
        found.append(
            {
                "low": index / BINS,
                "high": (index + 1) / BINS,
                "count": count,
                "confidence": float(entities.scores[own].mean()) if count else None,
                "correct": float(entities.right[own].mean()) if count else None,
            }
        )
    return found


def fitted_temperature(loss: Callable[[float], float]) -> float:
    """The temperature of the least loss, to four digits; never one that is worse than 1.

    A grid over its logarithm finds the valley, as nothing promises that there is but one, and
    golden sections the bottom: 21 calls.
    """
    edge = math.log(HOTTEST)
    points = [edge * (2 * index / (_GRID - 1) - 1) for index in range(_GRID)]
    losses = [loss(math.exp(point)) for point in points]
    # Of equal ones the nearest to 1: where all are equal nothing is to be changed.
    best = min(range(_GRID), key=lambda index: (losses[index], abs(points[index])))
    low, high = points[max(0, best - 1)], points[min(_GRID - 1, best + 1)]
    inner = [high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)]
    values = [loss(math.exp(point)) for point in inner]
    for _ in range(_STEPS - 2):
        if values[0] <= values[1]:
            high = inner[1]
            inner = [high - _GOLDEN * (high - low), inner[0]]
            values = [loss(math.exp(inner[0])), values[0]]
        else:
            low = inner[0]
            inner = [inner[1], low + _GOLDEN * (high - low)]
            values = [values[1], loss(math.exp(inner[1]))]
    lowest = min(values)
    if lowest >= losses[best]:
        return round(math.exp(points[best]), 4)
    return round(math.exp(inner[values.index(lowest)]), 4)
