"""Strict entity F1, as seqeval's strict mode counts it, and word accuracy.

Every gold entity of the file counts: also those no tag sequence can express (``Sentence.missed``)
and those in words that truncation cut off. Words without a label are not scored: a prediction on
them counts as O.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from lmsl.data.tags.schemes import IGNORED, OUTSIDE, tag_spans
from lmsl.data.tags.sentence import Sentence, Span


def score(
    sentences: Sequence[Sentence], predicted: Sequence[Sequence[str]], *, plain: bool = False
) -> dict[str, Any]:
    """Compare predicted tags with the gold ones.

    Args:
        sentences: with tags.
        predicted: IOB2 or plain tags, one a word.
        plain: tags are no spans; then precision = recall = F1 = accuracy, counted over words.

    Returns:
        ``precision, recall, f1`` (micro), ``macro_f1``, ``accuracy`` (of labelled words), all in
        0-1; ``gold, predicted, correct`` counts; and the same for every type in ``per_type``.
    """
    gold: Counter[str] = Counter()
    guessed: Counter[str] = Counter()
    correct: Counter[str] = Counter()
    words = right = 0
    for sentence, tags in zip(sentences, predicted, strict=True):
        truth = sentence.tags
        assert truth is not None and len(tags) == len(truth), sentence.where
        scored = [g == IGNORED or (g, p) for g, p in zip(truth, tags, strict=True)]
        pairs = [pair for pair in scored if isinstance(pair, tuple)]
        words += len(pairs)
        right += sum(g == p for g, p in pairs)
        if plain:
            gold.update(g for g, _ in pairs)
            guessed.update(p for _, p in pairs)
            correct.update(g for g, p in pairs if g == p)
            continue
        shown = [OUTSIDE if g == IGNORED else p for g, p in zip(truth, tags, strict=True)]
        expected, found = set(tag_spans(truth)), set(tag_spans(shown))
        gold.update(span.type for span in expected)
        gold.update(sentence.missed)
        guessed.update(span.type for span in found)
        correct.update(span.type for span in expected & found)
    per_type = {
        kind: rates(gold[kind], guessed[kind], correct[kind]) for kind in sorted(gold | guessed)
    }
    return {
        **rates(gold.total(), guessed.total(), correct.total()),
        "macro_f1": _mean(each["f1"] for each in per_type.values()),
        "accuracy": right / words if words else 0.0,
        "per_type": per_type,
    }


def lost_entities(sentences: Sequence[Sentence], unread: Sequence[int]) -> int:
    """Gold entities that hold a word read nowhere; ``unread`` counts words at sentence ends."""
    return sum(
        span.end > len(sentence.words) - count
        for sentence, count in zip(sentences, unread, strict=True)
        if count
        for span in tag_spans(sentence.tags or ())
    )


def scorable(span: Span, truth: Sequence[str]) -> Span | None:
    """What ``score`` counts of a predicted span: words without a label are O to it, so the span
    ends before the first of them; None where it begins with one."""
    for word in range(span.start, span.end):
        if truth[word] == IGNORED:
            return None if word == span.start else replace(span, end=word)
    return span


def rates(gold: int, predicted: int, correct: int) -> dict[str, Any]:
    """Precision, recall and F1 of counts, and the counts."""
    # 2c / (g + p) is F1 without the rounding of a harmonic mean of rounded rates.
    return {
        "precision": correct / predicted if predicted else 0.0,
        "recall": correct / gold if gold else 0.0,
        "f1": 2 * correct / (gold + predicted) if gold + predicted else 0.0,
        "gold": gold,
        "predicted": predicted,
        "correct": correct,
    }


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


def metric_name(plain: bool) -> str:
    """What selection goes by, as ``score`` calls it: F1, or accuracy where tags are plain."""
    return "accuracy" if plain else "f1"
