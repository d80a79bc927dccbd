"""Where the spans of an answer stand in their sentence, and what is wrong with those that do not.

An answer names spans by their words, so places have to be found. Four ways are tried, one after
the other, each for all spans that none before has placed:

1. ``exact``: the same words.
2. ``case``: the same words but for upper and lower case and compatibility forms (NFKC).
3. ``spacing``: the same letters, from one word's edge to another's, with other spaces between.
4. ``partial``: a part of the text that begins or ends in the middle of a word, but not both; the
   span then covers the words that it touches.

Of several places a span takes the first free one behind the span that the answer lists before it,
else the first free one of the sentence: repeats go to successive places. A word is given once: a
span that stands only on words which others have is an ``overlap`` and is dropped, one that stands
nowhere is ``hallucinated``, and one of a type that there is not is an ``unknown_type``.
"""

import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from lmsl.data.tags.sentence import Span
from lmsl.generation.grammar import Listed
from lmsl.wording import counted

Place = tuple[int, int]
"""Words [start, end) of the sentence."""

COUNTED = (
    "answers",
    "unparsable",
    "truncated",
    "spans",
    "broken",
    "unknown_type",
    "hallucinated",
    "case",
    "spacing",
    "partial",
    "overlap",
)
"""What is counted of answers, in the order in which it is told."""


def locate(
    words: Sequence[str], listed: Sequence[Listed], types: Sequence[str], names: Sequence[str]
) -> tuple[list[Span], Counter[str]]:
    """The spans of a sentence that an answer lists, by place, and counts of ``COUNTED``.

    Args:
        words: of the sentence.
        types: that there are.
        names: of each type in words.
    """
    kinds = _Kinds(types, names)
    known = [(each, kind) for each in listed if (kind := kinds.of(each.type)) is not None]
    counts = Counter(spans=len(listed), unknown_type=len(listed) - len(known))
    text = _Text(words)
    ways: dict[str, Callable[[Sequence[str]], Iterator[Place]]] = {
        "exact": text.exact,
        "case": text.folded,
        "spacing": text.respaced,
        "partial": text.partial,
    }
    places: dict[int, Place] = {}
    taken: set[int] = set()
    seen: set[int] = set()
    for way, find in ways.items():
        behind = 0
        for number, (each, _) in enumerate(known):
            if number not in places:
                found = list(find(each.words))
                place = _first_free(found, taken, behind)
                seen |= {number} if found else set()
                if place is None:
                    continue
                places[number] = place
                taken.update(range(*place))
                counts[way] += 1
            behind = places[number][1]
    counts["overlap"] = len(seen - places.keys())
    counts["hallucinated"] = len(known) - len(seen)
    spans = [
        Span(start=start, end=end, type=known[number][1])
        for number, (start, end) in places.items()
    ]
    return sorted(spans), Counter({name: counts[name] for name in COUNTED if counts[name]})


def pieces(words: Sequence[str]) -> list[tuple[str, ...]]:
    """What stands between white space in each word: one piece as a rule, none in a blank word."""
    return [tuple(word.split()) for word in words]


def in_short(counts: Mapping[str, int]) -> str:
    """What was wrong with answers, to go on with behind a score."""
    answers = max(1, counts["answers"])
    told = [
        f"{100 * counts[name] / answers:.1f} % of answers {name}"
        for name in ("unparsable", "truncated")
        if counts[name] or name == "unparsable"
    ]
    dropped = {
        name: counts[name] for name in ("hallucinated", "unknown_type", "overlap") if counts[name]
    }
    if dropped:
        listed = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in dropped.items())
        told.append(f"of {counted(counts['spans'], 'span')} {listed}")
    return "; " + "; ".join(told)


class _Kinds:
    """Types by what they are called, in any case where that is clear."""

    def __init__(self, types: Sequence[str], names: Sequence[str]) -> None:
        self._exact = dict(zip(names, types, strict=True))
        folded = Counter(name.casefold() for name in names)
        self._folded = {
            name.casefold(): kind
            for name, kind in self._exact.items()
            if folded[name.casefold()] == 1
        }

    def of(self, name: str) -> str | None:
        return self._exact.get(name) or self._folded.get(name.casefold())


class _Text:
    """A sentence as pieces between white space and as characters, with the words they are of."""

    def __init__(self, words: Sequence[str]) -> None:
        cut = pieces(words)
        self._pieces = [piece for own in cut for piece in own]
        self._word = [number for number, own in enumerate(cut) for _ in own]
        self._folded = [_fold(piece) for piece in self._pieces]
        # Where each piece begins, and past the last where a further one would.
        sizes = [len(piece) for piece in self._folded]
        self._joined_at = [0, *accumulate(size + 1 for size in sizes)]
        self._squeezed_at = [0, *accumulate(sizes)]
        self._joined, self._squeezed = " ".join(self._folded), "".join(self._folded)

    def exact(self, span: Sequence[str]) -> Iterator[Place]:
        yield from self._whole(self._pieces, span)

    def folded(self, span: Sequence[str]) -> Iterator[Place]:
        yield from self._whole(self._folded, [_fold(piece) for piece in span])

    def respaced(self, span: Sequence[str]) -> Iterator[Place]:
        wanted = "".join(map(_fold, span))
        edges = self._squeezed_at
        for start in _occurrences(self._squeezed, wanted):
            first, last = bisect_left(edges, start), bisect_left(edges, start + len(wanted))
            whole = edges[first] == start and edges[last] == start + len(wanted)
            if whole and self._is_edge(first) and self._is_edge(last):
                yield self._word[first], self._word[last - 1] + 1

    def partial(self, span: Sequence[str]) -> Iterator[Place]:
        wanted = " ".join(map(_fold, span))
        edges = self._joined_at
        for start in _occurrences(self._joined, wanted):
            end = start + len(wanted)
            first, last = bisect_right(edges, start) - 1, bisect_left(edges, end)
            begins = edges[first] == start and self._is_edge(first)
            # The last character is of piece last - 1, whose end is a space before the next.
            ends = edges[last] == end + 1 and self._is_edge(last)
            if begins or ends:
                yield self._word[first], self._word[last - 1] + 1

    def _whole(self, texts: Sequence[str], span: Sequence[str]) -> Iterator[Place]:
        size, wanted = len(span), list(span)
        for first in range(len(texts) - size + 1):
            last = first + size
            if texts[first:last] == wanted and self._is_edge(first) and self._is_edge(last):
                yield self._word[first], self._word[last - 1] + 1

    def _is_edge(self, piece: int) -> bool:
        """Whether a word begins with this piece, or ends before it."""
        inside = 0 < piece < len(self._word)
        return not inside or self._word[piece - 1] != self._word[piece]


def _first_free(found: Sequence[Place], taken: set[int], behind: int) -> Place | None:
    free = [place for place in found if taken.isdisjoint(range(*place))]
    return next((place for place in free if place[0] >= behind), free[0] if free else None)


def _occurrences(text: str, wanted: str) -> Iterator[int]:
    place = text.find(wanted) if wanted else -1
    while place >= 0:
        yield place
        place = text.find(wanted, place + 1)


def _fold(piece: str) -> str:
    # Compatibility forms of some characters hold spaces, and no piece may.
    return "".join(unicodedata.normalize("NFKC", piece).casefold().split()) or piece
