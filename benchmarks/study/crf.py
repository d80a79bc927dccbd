"""A linear-chain CRF with the usual features: words, affixes, shapes, and those of neighbours.

Trained by L-BFGS until it converges, at each of a few strengths of regularisation; dev chooses.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.study.peer import Fitted, Tags
from lmsl.data.tags.metrics import score
from lmsl.data.tags.sentence import Dataset

_L1, _L2 = 0.1, (0.01, 0.1, 1.0)
_WINDOW = 2
"""Words on each side whose features are a word's as well."""

Features = dict[str, Any]


def fit_crf(train: Dataset, dev: Dataset) -> Fitted:
    """The CRF that dev chooses."""
    from sklearn_crfsuite import CRF

    known = [features(sentence.words) for sentence in train]
    tags = [list(sentence.tags or ()) for sentence in train]
    held = [features(sentence.words) for sentence in dev]
    best: tuple[float, float, Any] | None = None
    for strength in _L2:
        model = CRF(algorithm="lbfgs", c1=_L1, c2=strength, all_possible_transitions=True)
        model.fit(known, tags)
        found = score(dev.sentences, _predicted(model, held))["f1"]
        if best is None or found > best[0]:
            best = found, strength, model
    assert best is not None
    _, strength, model = best

    def predict(data: Dataset) -> Tags:
        return _predicted(model, [features(sentence.words) for sentence in data])

    iterations = model.training_log_.last_iteration["num"]
    tried = ", ".join(map(str, _L2))
    return predict, f"c1 {_L1}, c2 {strength} of {tried}, {iterations} iterations"


def _predicted(model: Any, rows: Sequence[list[Features]]) -> Tags:
    return [tuple(tags) for tags in model.predict(rows)]


def features(words: Sequence[str]) -> list[Features]:
    """Of every word of a sentence: its own, and form and shape of those around it."""
    shapes = [shape(word) for word in words]
    found = []
    for place, word in enumerate(words):
        own: Features = {
            "bias": 1.0,
            "lower": word.lower(),
            "shape": shapes[place],
            "short shape": shortened(shapes[place]),
            "title": word.istitle(),
            "upper": word.isupper(),
            "digit": word.isdigit(),
        }
        for length in range(1, 5):
            own[f"prefix {length}"] = word[:length].lower()
            own[f"suffix {length}"] = word[-length:].lower()
        for step in (*range(-_WINDOW, 0), *range(1, _WINDOW + 1)):
            if 0 <= place + step < len(words):
                own[f"{step:+d} lower"] = words[place + step].lower()
                own[f"{step:+d} shape"] = shortened(shapes[place + step])
        own["begins"] = place == 0
        own["ends"] = place == len(words) - 1
        found.append(own)
    return found


def shape(word: str) -> str:
    """`Xxxx-dd` of `Ulan-98`: letters and digits by their kind, other characters as they are."""
    kinds = (
        "d" if c.isdigit() else "X" if c.isupper() else "x" if c.isalpha() else c for c in word
    )
    return "".join(kinds)


def shortened(shape: str) -> str:
    """The same with every repeat once."""
    return "".join(c for place, c in enumerate(shape) if place == 0 or shape[place - 1] != c)
