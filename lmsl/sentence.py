"""The data model: what every reader produces and every other part of the project consumes.

A file format is a detail of reading. Past the readers there is one kind of sentence: words, tags
in IOB2 (or plain tags) and the gold entities which no tag sequence could express. Keeping those
apart, instead of dropping them, is what lets the metrics count every gold entity of a file.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal, get_args

Format = Literal["auto", "columns", "json", "nlupp", "absa", "seq", "text"]
Scheme = Literal["auto", "iob1", "iob2", "bioes", "bare", "plain"]
WordMode = Literal["unicode", "whitespace", "char"]
Name = str | int
"""Of a sentence or document, as its file has it: JSON tells 7 from "7", and so does the answer."""

FORMATS: tuple[str, ...] = get_args(Format)
SCHEMES: tuple[str, ...] = get_args(Scheme)


@dataclass(frozen=True, kw_only=True, order=True)
class Span:
    """An entity of one type over the words [start, end)."""

    start: int
    end: int
    type: str


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """One unit of tagging."""

    words: tuple[str, ...]
    tags: tuple[str, ...] | None
    """IOB2, or plain tags; words without a label hold `lmsl.labels.IGNORED`; None = no labels."""
    missed: tuple[str, ...] = ()
    """Types of gold entities the tags cannot express; metrics count them as missed gold."""
    document: Name | None = None
    """Sentences with equal ids belong to one document; None = unknown."""
    id: Name | None = None
    text: str | None = None
    """The text as given; None for word lists, whose text is `" ".join(words)`."""
    offsets: tuple[tuple[int, int], ...] | None = None
    """Characters [start, end) of each word in `text`."""
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

    def __len__(self) -> int:
        return len(self.sentences)

    def __iter__(self) -> Iterator[Sentence]:
        return iter(self.sentences)


@dataclass(frozen=True, kw_only=True)
class FileShape:
    """What the columns and tags of a file mean: known of a run, whose files are all alike."""

    format: Format = "auto"
    """Format of the files; `auto` recognises it."""
    tag_column: int = -1
    """Column of the tags, from 1, or from the right with -1 the last."""
    token_column: int | None = None
    """Column of the words, counted alike; by default the first that is no running number."""
    scheme: Scheme = "auto"
    """How tags mark entities; `plain`: they mark none (part of speech)."""
    ignore_tag: str | None = None
    """Tag of words that have no label (partial annotation)."""


@dataclass(frozen=True, kw_only=True)
class Columns(FileShape):
    """How files are read: flags of every command that reads labels."""

    strict_tags: bool = False
    """Refuse invalid tags and spans instead of repairing and counting them."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions(Columns):
    """How to read a file; the same for all splits of a run."""

    words: WordMode = "unicode"
    """How raw text is split; see `lmsl.words`."""
    labelled: bool = True
    """False reads the words alone, whatever else the file holds."""


def read_options(columns: Columns, words: WordMode) -> ReadOptions:
    """The reading options among the settings of a command."""
    shared = {field.name: getattr(columns, field.name) for field in fields(Columns)}
    return ReadOptions(**shared, words=words)


def file_shape(columns: FileShape) -> FileShape:
    """The shape of the files among the settings of a command."""
    return FileShape(**{field.name: getattr(columns, field.name) for field in fields(FileShape)})


def shape_flags(shape: FileShape) -> list[str]:
    """The flags that state a shape; none for what is the default."""
    return [
        f"--{field.name.replace('_', '-')} {value}"
        for field in fields(FileShape)
        if (value := getattr(shape, field.name)) != field.default
    ]


@dataclass(frozen=True, kw_only=True)
class CharSpan:
    """An entity as the file states it: characters [start, end) of the text."""

    start: int
    end: int
    type: str
    surface: str | None = None
    """The text the file says lies there, when it says so."""


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A sentence as the file states it, before schemes and spans are resolved.

    Exactly one of `tags` and `spans` is set when the sentence is labelled; a tag that is None
    marks a word without a label.
    """

    words: tuple[str, ...]
    places: tuple[str, ...]
    """`file:line` of each word, or one entry for all of them."""
    tags: tuple[str | None, ...] | None = None
    spans: tuple[CharSpan, ...] | None = None
    text: str | None = None
    offsets: tuple[tuple[int, int], ...] | None = None
    document: Name | None = None
    id: Name | None = None

    def place(self, word: int) -> str:
        """Where a word stands, for messages."""
        return self.places[word] if word < len(self.places) else self.places[0]
