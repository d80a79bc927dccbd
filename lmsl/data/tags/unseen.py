"""Entities by whether training showed them: what a model knows by heart, and what it reads.

An entity is known by its surface, its words with a space between them as they are written, upper
and lower case apart. It is ``seen`` where that surface has its type in train, ``other_type`` where
train has the surface under other types only, else ``unseen``. A predicted entity is put in a group
by the same rule with its own type, so a right one is in the group of its gold one and every group
has a precision. Where tags are plain, each word with a label counts as an entity.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from lmsl.data.tags.counts import Entities
from lmsl.data.tags.sentence import Sentence, Span

GROUPS = ("seen", "other_type", "unseen")

Surfaces = Mapping[str, set[str]]
"""Surfaces with their types."""


def surfaces(sentences: Iterable[Sentence], *, plain: bool) -> Surfaces:
    """Of the entities of training data."""
    found: dict[str, set[str]] = defaultdict(set)
    entities = Entities(plain=plain)
    for sentence in sentences:
        tags = tuple(sentence.tags or ())
        for span in entities(tags, tags):
            found[_surface(sentence, span)].add(span.type)
    return dict(found)


def unseen_counts(
    sentences: Sequence[Sentence],
    predicted: Sequence[Sequence[str]],
    known: Surfaces,
    *,
    plain: bool,
) -> dict[str, dict[str, int]]:
    """Gold, predicted and correct entities of each of `GROUPS`.

    Gold entities that no tag shows (``Sentence.missed``) have no words here and are in none.
    """
    counts = {group: Counter[str](gold=0, predicted=0, correct=0) for group in GROUPS}
    entities = Entities(plain=plain)
    for sentence, tags in zip(sentences, predicted, strict=True):
        truth = tuple(sentence.tags or ())
        gold, found = entities(truth, truth), entities(tuple(tags), truth)
        for name, spans in (("gold", gold), ("predicted", found), ("correct", gold & found)):
            for span in spans:
                counts[_group(known.get(_surface(sentence, span)), span.type)][name] += 1
    return {group: dict(each) for group, each in counts.items()}


def _surface(sentence: Sentence, span: Span) -> str:
    return " ".join(sentence.words[span.start : span.end])


def _group(types: set[str] | None, type_: str) -> str:
    if types is None:
        return "unseen"
    return "seen" if type_ in types else "other_type"
