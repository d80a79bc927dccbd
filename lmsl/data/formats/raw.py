"""A sentence as a file states it, before schemes and spans are resolved."""

from dataclasses import dataclass

from lmsl.data.tags.sentence import Name


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
