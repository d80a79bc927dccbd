"""The data model: what every reader produces and every other part of the project consumes.

A file format is a detail of reading. Past the readers there is one kind of sentence: words, tags
in IOB2 (or plain tags) and the gold entities which no tag sequence could express. Keeping those
apart, instead of dropping them, is what lets the metrics count every gold entity of a file.
"""

from collections.abc import Iterator
from dataclasses import dataclass

Name = str | int
"""Of a sentence or document, as its file has it: JSON tells 7 from "7", and so does the answer."""


@dataclass(frozen=True, kw_only=True, order=True, slots=True)
class Span:
    """An entity of one type over the words [start, end)."""

    start: int
    end: int
    type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentence:
    """One unit of tagging."""

    words: tuple[str, ...]
    tags: tuple[str, ...] | None
    """IOB2, or plain tags; `schemes.IGNORED` for words without a label; None = no labels."""
    missed: tuple[str, ...] = ()
    """Types of gold entities the tags cannot express; metrics count them as missed gold."""
    document: Name | None = None
    """Sentences with equal ids belong to one document; None = unknown."""
    id: Name | None = None
    text: str | None = None
    """The text as given; None for word lists, whose text is `" ".join(words)`."""
    offsets: tuple[tuple[int, int], ...] | None = None
    """Characters [start, end) of each word in `text`."""
    tokenized: bool = False
    """The words were stated beside the text, not found in it."""
    where: str = ""
    """`file:line` of the first word, for messages."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The sentences of one split, and what had to be done to read them."""

    sentences: tuple[Sentence, ...]
    plain: bool
    """Plain tags (part of speech): no spans, so accuracy instead of entity F1."""
    source: str
    notes: tuple[str, ...] = ()
    """Lines for people: scheme found, tags repaired, spans lost. The caller prints them."""
    scheme: str = "iob2"
    """The scheme the source was written in; the sentences are IOB2 or plain in any case."""
    repairs: int = 0
    """Words whose tag was changed or reread because it broke the scheme."""
    doubts: int = 0
    """Words that were empty in the file, and spans that lie beside the text they state."""

    def __len__(self) -> int:
        return len(self.sentences)

    def __iter__(self) -> Iterator[Sentence]:
        return iter(self.sentences)
