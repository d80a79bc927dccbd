"""The sentences in which the best string and another differ, ready to be shown.

A page has room for some hundreds of sentences. Where there are more, as many are taken at equal
distances through the file, so that they are a fair sample of it, and the page says so. Very long
sentences and words are cut, which is seen in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lmsl.data.tags.counts import Entities
from lmsl.data.tags.sentence import Sentence
from lmsl.report.errors import ERRORS, Finding, Piece, findings_of, pieces
from lmsl.statistics.analysis import Analysis
from lmsl.statistics.predictions import Predictions, read_predictions
from lmsl.visible import visible

MOST_SENTENCES = 300
MOST_WORDS = 200
_BEFORE = 40
_KINDS = tuple(ERRORS)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A sentence as one model read it."""

    name: str
    pieces: tuple[Piece, ...]
    right: bool


@dataclass(frozen=True, kw_only=True)
class ShownSentence:
    """A sentence with a reading for every model."""

    number: int
    """In the file, from 1."""
    readings: tuple[Reading, ...]
    keys: str
    """``model.kind.type`` of each error, by index, for the filters."""
    cut: int
    """Words that are not shown."""


@dataclass(frozen=True, kw_only=True)
class ShownSentences:
    """What the page shows of a split."""

    names: tuple[str, ...]
    """The models: the best string, then the other if there is one."""
    seed: int
    split: str
    shown: tuple[ShownSentence, ...]
    differing: int
    """Sentences that differ, shown or not."""
    sentences: int
    types: tuple[str, ...]
    kinds: tuple[str, ...]


def find_sentences(analysis: Analysis, most: int = MOST_SENTENCES) -> ShownSentences:
    """Compare the best string with the causal one, else with the full one, else with the worst on
    dev; of a single string, show where it errs. By the first seed."""
    sweep, split = analysis.sweep, analysis.reported
    chosen = [analysis.best, *_other(analysis)]
    runs = [sweep.runs[index][0] for index in chosen]
    read = [
        read_predictions(run.folder / f"predictions.{split}.conll", run.info.labels)
        for run in runs
    ]
    return differing_sentences(
        tuple(sweep.names[index] for index in chosen),
        read,
        seed=sweep.seeds[0],
        split=split,
        plain=sweep.plain,
        most=most,
    )


def differing_sentences(
    names: tuple[str, ...],
    read: Sequence[Predictions],
    *,
    seed: int,
    split: str,
    plain: bool,
    most: int = MOST_SENTENCES,
) -> ShownSentences:
    """The sentences in which models differ, or a single one differs from gold."""
    sentences = read[0].sentences
    tags = [predictions.predicted for predictions in read]
    gold = tuple(sentence.tags or () for sentence in sentences)
    entities = Entities(plain=plain)
    # A single string is held against gold.
    sides = tags if len(tags) > 1 else [*tags, gold]
    differing = [
        index
        for index, truth in enumerate(gold)
        if len({entities(each[index], truth) for each in sides}) > 1
    ]
    picked = [differing[i] for i in spread(len(differing), most)]
    found = {
        index: [findings_of(gold[index], each[index], plain=plain) for each in tags]
        for index in picked
    }
    types = sorted({t for i in picked for each in found[i] for f in each for t in f.types})
    return ShownSentences(
        names=names,
        seed=seed,
        split=split,
        shown=tuple(_shown(sentences[i], i, names, found[i], types) for i in picked),
        differing=len(differing),
        sentences=len(sentences),
        types=tuple(types),
        kinds=tuple(ERRORS.values()),
    )


def _other(analysis: Analysis) -> list[int]:
    for index in (analysis.causal, analysis.full):
        if index is not None and index != analysis.best:
            return [index]
    worst = int(analysis.results["dev"].means.argmin())
    return [] if worst == analysis.best else [worst]


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` indices below ``count``, at equal distances."""
    return list(range(count)) if count <= most else [i * count // most for i in range(most)]


def _shown(
    sentence: Sentence,
    index: int,
    names: Sequence[str],
    found: Sequence[Sequence[Finding]],
    types: Sequence[str],
) -> ShownSentence:
    words = [visible(word) for word in sentence.words]
    errors = [[f for f in each if f.kind != "right"] for each in found]
    start = 0
    if len(words) > MOST_WORDS:
        first = min((f.start for each in errors for f in each), default=0)
        start = min(max(0, first - _BEFORE), len(words) - MOST_WORDS)
    stop = start + MOST_WORDS
    readings = tuple(
        Reading(
            name=name,
            pieces=tuple(_window(pieces(words, each), start, stop)),
            right=not wrong,
        )
        for name, each, wrong in zip(names, found, errors, strict=True)
    )
    keys = {
        f"{model}.{_KINDS.index(f.kind)}.{types.index(kind)}"
        for model, wrong in enumerate(errors)
        for f in wrong
        for kind in f.types
    }
    return ShownSentence(
        number=index + 1,
        readings=readings,
        keys=" ".join(sorted(keys)),
        cut=max(0, len(words) - MOST_WORDS),
    )


def _window(cut: Sequence[Piece], start: int, stop: int) -> list[Piece]:
    """The pieces within the words [start, stop), those at its edges shortened."""
    kept, place = [], 0
    for piece in cut:
        low, high = max(start - place, 0), min(stop - place, len(piece.words))
        place += len(piece.words)
        if low < high:
            whole = high == len(piece.words)
            kept.append(
                Piece(
                    words=piece.words[low:high],
                    gold=piece.gold,
                    predicted=piece.predicted,
                    wrong=piece.wrong,
                    labels=piece.labels if whole else (),
                )
            )
    return kept
