"""How an answer lists spans, and reading an answer back, whatever stands in it.

The grammar ``words`` is ours. An answer is one line of words between spaces; a span is its words,
the word ``=`` and its type, and the word ``;`` stands between two spans:

    Ada Lovelace = person ; Paris = location        two spans, in the order of the sentence
                                                    (nothing) no span
    10:30 = time ; a;b = code                       marks inside a word say nothing
    x \\= y = formula ; \\; = mark                    a word that is a mark is written with a
                                                    backslash, one more than it has itself
    May = person ; May = date                       a repeat is listed again

Marks are whole words because then a span is, but for the rare word that is a mark, letter by
letter what stands in the sentence, with a space before it as there: the model copies the very
sub-words that it reads. Quotes (JSON) would break both.

``acl2024`` is the grammar of the 2024 paper's instruction tuning, ``span:type;span:type``. It has
no escapes: a span with ``;`` in it does not survive.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lmsl.config.choices import PromptName

EQUALS, NEXT = "=", ";"


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A span as an answer lists it."""

    words: tuple[str, ...]
    """Between white space; never empty."""
    type: str
    """In words."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What could be read of an answer."""

    listed: tuple[Listed, ...]
    broken: int
    """Entries that are no span with a type."""

    @property
    def unparsable(self) -> bool:
        """Whether something stands there, and no span could be read."""
        return self.broken > 0 and not self.listed


def write_answer(listed: Iterable[Listed], prompt: PromptName = "default") -> str:
    """The answer that lists these spans."""
    if prompt == "acl2024":
        return ";".join(f"{' '.join(each.words)}:{each.type}" for each in listed)
    entries = [
        " ".join([*_escaped(each.words), EQUALS, *_escaped(each.type.split())]) for each in listed
    ]
    return f" {NEXT} ".join(entries)


def read_answer(text: str, prompt: PromptName = "default") -> Answer:
    """What a text lists; there is none that raises an error."""
    entries = _entries_acl2024(text) if prompt == "acl2024" else _entries(text.split())
    listed = [
        Listed(words=tuple(span), type=" ".join(kind)) for span, kind in entries if span and kind
    ]
    return Answer(listed=tuple(listed), broken=len(entries) - len(listed))


def escaped(text: str) -> str:
    """Words between spaces, as an answer writes them."""
    return " ".join(_escaped(text.split()))


def _entries(words: Sequence[str]) -> list[tuple[list[str], list[str]]]:
    """Words of the span and of the type of each entry that is not empty."""
    cut: list[list[str]] = [[]]
    for word in words:
        if word == NEXT:
            cut.append([])
        else:
            cut[-1].append(word)
    return [_entry(entry) for entry in cut if entry]


def _entry(words: Sequence[str]) -> tuple[list[str], list[str]]:
    # The last mark counts: more of them are a slip of the model inside a span.
    place = max((i for i, word in enumerate(words) if word == EQUALS), default=len(words))
    span, kind = words[:place], words[place + 1 :]
    return [_unescaped(word) for word in span], [_unescaped(word) for word in kind]


def _entries_acl2024(text: str) -> list[tuple[list[str], list[str]]]:
    parted = [entry.rpartition(":") for entry in text.split(";") if entry.strip()]
    return [(span.split(), kind.split()) for span, _, kind in parted]


def _escaped(words: Iterable[str]) -> list[str]:
    return [f"\\{word}" if _is_mark(word) else word for word in words]


def _unescaped(word: str) -> str:
    return word[1:] if word.startswith("\\") and _is_mark(word) else word


def _is_mark(word: str) -> bool:
    return word.lstrip("\\") in (EQUALS, NEXT)
