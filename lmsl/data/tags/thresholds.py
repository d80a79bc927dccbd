"""Every span that is probable enough, instead of the spans of the best sequence.

A low threshold finds what the best sequence leaves out, a high one keeps what is sure. Spans are
taken by falling probability where they do not overlap one taken before, so whether a span is taken
depends on more probable spans alone: a higher threshold gives exactly those of a lower one that
are at least it. That holds of one threshold for all types. Where types have their own, a span can
be blocked at one setting by a span of another type that a further setting leaves out; above a half
nothing is ever blocked, since the probabilities of spans over a word sum to at most 1.

All of them are found, none is tried in vain: a span is at most as probable as that one of its type
begins where it does, and as that it goes on to where it ends; only what is probable enough so far
is extended. Beginnings of spans over one word exclude each other as spans do, so with a threshold
of p at most 1/p are extended at any word.
"""

from collections.abc import Mapping

import numpy as np

from lmsl.data.tags.distribution import Alone, Chain, Floats, Places
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.errors import InputError
from lmsl.wording import quoted, shortened

LEAST = 0.001
"""The lowest threshold: at each word up to a thousand spans may be as probable."""

DEFAULT = 0.5
"""Of types that have no threshold of their own: more likely than not."""

Threshold = float | Mapping[str, float]
"""Of all types, or of some by name, where the others have ``DEFAULT``."""

# What is extended may be this much below, as sums in another order round otherwise.
_SLACK = 1 - 1e-9


def thresholds_of(asked: Threshold, labels: LabelSet) -> Floats:
    """The threshold of every type [types].

    Raises:
        InputError: a number out of range, a type the run does not know, or plain tags.
    """
    if labels.plain:
        raise InputError("threshold: this run predicts plain tags, which have no probabilities")
    types = labels.types
    if not isinstance(asked, Mapping):
        return np.full(len(types), checked(asked, "threshold"))
    if unknown := [kind for kind in asked if kind not in types]:
        raise InputError(
            f"threshold: expected types of this run ({shortened(', '.join(types))}), got "
            f"{quoted(unknown[0])}"
        )
    own = {kind: checked(value, f"threshold of {kind}") for kind, value in asked.items()}
    return np.array([own.get(kind, DEFAULT) for kind in types])


def checked(value: object, place: str) -> float:
    """A threshold that can be one.

    Raises:
        InputError: no number, or one out of range.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and LEAST <= value <= 1:
        return float(value)
    raise InputError(f"{place}: expected a number from {LEAST} to 1, got {quoted(value)}")


def probable_spans(distribution: Chain | Alone, thresholds: Floats) -> tuple[Places, Floats]:
    """The spans of a group that are at least as probable as the threshold of their type [K], by
    falling probability without overlap; sentence by sentence and from the left, with scores.

    Of equal ones the first to begin is taken, then the shorter, then the first label.
    """
    places, scores = _as_probable(distribution, thresholds)
    order = np.lexsort((places.begins, places.ends, places.starts, -scores, places.rows))
    taken = np.zeros(distribution.emissions.shape[:2], dtype=np.bool_)
    kept = []
    rows, starts, ends = places.rows.tolist(), places.starts.tolist(), places.ends.tolist()
    for index in order.tolist():
        words = taken[rows[index], starts[index] : ends[index]]
        if not words.any():
            words[:] = True
            kept.append(index)
    chosen = np.array(kept, dtype=np.int64)
    chosen = chosen[np.lexsort((places.starts[chosen], places.rows[chosen]))]
    return places.at(chosen), scores[chosen]


def _as_probable(distribution: Chain | Alone, thresholds: Floats) -> tuple[Places, Floats]:
    """All spans that are at least as probable as their thresholds, overlapping ones too."""
    emissions = distribution.emissions
    found, scores = [_nothing()], [np.zeros(0)]
    if not emissions.shape[1]:
        return found[0], scores[0]
    enough = _SLACK * thresholds
    rows, starts, types = np.nonzero(np.exp(distribution.begun()) >= enough)
    spans = Places(rows=rows, starts=starts, ends=starts + 1, begins=2 * types + 1)
    within = np.zeros(len(spans))
    while len(spans):
        chances = distribution.scores(spans, within)
        hits = chances >= thresholds[spans.begins // 2]
        found.append(spans.at(hits))
        scores.append(chances[hits])
        goes_on = spans.ends < emissions.shape[1]
        spans, within = spans.at(goes_on), within[goes_on]
        within = within + emissions[spans.rows, spans.ends, spans.begins + 1]
        spans = Places(
            rows=spans.rows, starts=spans.starts, ends=spans.ends + 1, begins=spans.begins
        )
        lives = np.exp(distribution.going(spans, within)) >= enough[spans.begins // 2]
        spans, within = spans.at(lives), within[lives]
    joined = {
        name: np.concatenate([getattr(each, name) for each in found])
        for name in ("rows", "starts", "ends", "begins")
    }
    return Places(**joined), np.concatenate(scores)


def _nothing() -> Places:
    none = np.zeros(0, dtype=np.int64)
    return Places(rows=none, starts=none, ends=none, begins=none)
