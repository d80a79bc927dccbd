"""A sentence as a file states it, before schemes and spans are resolved."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmsl.data.tags.sentence import Name


@dataclass(frozen=True, kw_only=True, slots=True)
class CharSpan:
    """An entity as the file states it: characters [start, end) of the text."""

    start: int
    end: int
    type: str
    surface: str | None = None
    """The text the file says lies there, when it says so."""


@dataclass(kw_only=True, slots=True)
class Raw:
    """A sentence as the file states it, before schemes and spans are resolved.

    Exactly one of `tags` and `spans` is set when the sentence is labelled; a tag that is None
    marks a word without a label.
    """

    words: tuple[str, ...]
    where: str
    """`file:line` of the sentence, or of its first word."""
    lines: Sequence[int] | None = None
    """Line of each word, where words have lines of their own."""
    tags: tuple[str | None, ...] | None = None
    spans: tuple[CharSpan, ...] | None = None
    text: str | None = None
    offsets: tuple[tuple[int, int], ...] | None = None
    tokenized: bool = False
    """The words were stated beside the text, not found in it."""
    document: Name | None = None
    id: Name | None = None

    def place(self, word: int) -> str:
        """Where a word stands, for messages."""
        if self.lines is None:
            return self.where
        return f"{self.where.rpartition(':')[0]}:{self.lines[word]}"
