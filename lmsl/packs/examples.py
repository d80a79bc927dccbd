"""From words to what a model reads: windows for long sentences, repetition, document context.

An example is one sequence of sub-words and the ranges of the words that are read in it. Every
word is read in exactly one example, or counted as not read, so no caller can lose a label without
seeing a number.

Layout: ``K+1`` equal copies, one after another with nothing between them, positions running on,
and only the last one is read. A copy is BOS (where the tokenizer adds one), left context, the
sentence or window, right context, and for encoders what closes a text. That each copy starts with
its own BOS is the layout of the experiments with repetition that takelab/repetition-sl published
(their padding between copies aside). ``max_length`` counts one copy, all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lmsl.config.choices import Overflow, check_choice
from lmsl.errors import InputError
from lmsl.packs.alignment import Aligner, AlignmentNotes, Encoding, Ints
from lmsl.packs.windows import Window, cut_long_words, windows
from lmsl.wording import counted


class Text(Protocol):
    """What is needed of a sentence; ``where`` names it in errors, as ``file:line`` does."""

    @property
    def words(self) -> Sequence[str]: ...
    @property
    def document(self) -> object | None: ...
    @property
    def where(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Example:
    """One sequence of sub-words and the words read in it.

    Word ``first_word + i`` of sentence ``sentence`` is ``ids[starts[i]:ends[i]]``, never empty.
    """

    ids: Ints
    sentence: int
    first_word: int
    starts: Ints
    ends: Ints


@dataclass(frozen=True, kw_only=True)
class ExampleNotes:
    """What was repaired, cut or split, for the report."""

    alignment: AlignmentNotes
    windowed: int
    """Sentences split into windows."""
    cut_words: int
    """Words longer than a window, of which some sub-words in the middle were left out."""
    truncated_sentences: int
    truncated_words: int

    def lines(self) -> list[str]:
        """One sentence for people per kind of thing that happened."""
        told = (
            (self.windowed, "sentence", "split into overlapping windows"),
            (self.cut_words, "word", "too long for a window, without sub-words of the middle"),
            (self.truncated_sentences, "sentence", "truncated"),
            (self.truncated_words, "word", "beyond the maximum length and not read"),
        )
        said = [f"{counted(count, noun)} {what}" for count, noun, what in told if count]
        return [*self.alignment.lines(), *said]


@dataclass(frozen=True, kw_only=True)
class Examples:
    """All examples of a data set, in the order of its sentences."""

    examples: list[Example]
    notes: ExampleNotes
    truncated: list[int]
    """Per sentence, the number of words at its end that are read nowhere."""


def build_examples(
    sentences: Sequence[Text],
    aligner: Aligner,
    *,
    max_length: int,
    overflow: Overflow,
    repeat: int = 0,
    context: int = 0,
) -> Examples:
    """Turn sentences into examples; a sentence without words gives none.

    Args:
        sentences: in the order of the file, so that neighbours in a document are neighbours here.
        aligner: tokenises, each sentence once and as a text of its own.
        max_length: sub-words of one copy, those around the text included.
        overflow: for a longer sentence, ``"window"`` splits it into overlapping windows on word
            boundaries and reads each word where its poorer side sees most (a word longer than a
            window keeps its first and last sub-words), ``"error"`` refuses it, ``"truncate"``
            drops the words that do not fit entirely.
        repeat: extra copies before the one that is read.
        context: words of neighbouring sentences of the same document on each side, attended and
            never read. They fill only the room that the sentence leaves; both sides get half of
            it, or more where the other side needs less. Sentences without a document, or split
            into windows, get none.

    Raises:
        InputError: an argument out of range, or a sentence too long under ``"error"``.
    """
    around_text = len(aligner.bos) + len(aligner.eos)
    _check(max_length, overflow, repeat, context, around_text)
    encodings = aligner.encode([sentence.words for sentence in sentences])
    room = max_length - around_text
    surroundings = _surroundings(sentences, encodings, context, room)
    bos, eos = (np.asarray(ids, dtype=np.int32) for ids in (aligner.bos, aligner.eos))

    examples: list[Example] = []
    truncated = [0] * len(sentences)
    windowed = cut_words = 0
    for index, whole in enumerate(encodings):
        length = len(whole.ids) + len(eos)
        if overflow == "error" and length > max_length:
            where = sentences[index].where or f"sentence {index + 1}"
            raise too_long(where, length, max_length)
        encoding, seen, cut = _split(whole, room, overflow)
        truncated[index] = len(encoding.starts) - (seen[-1].last if seen else 0)
        windowed += len(seen) > 1
        cut_words += cut
        around = surroundings.get(index, (bos[:0], bos[:0]))
        examples += [
            _lay_out(index, encoding, each, (bos, eos), around, repeat + 1) for each in seen
        ]
    notes = _notes(encodings, truncated, windowed, cut_words)
    return Examples(examples=examples, notes=notes, truncated=truncated)


def _notes(
    encodings: list[Encoding], truncated: list[int], windowed: int, cut_words: int
) -> ExampleNotes:
    return ExampleNotes(
        alignment=AlignmentNotes.of(encodings),
        windowed=windowed,
        cut_words=cut_words,
        truncated_sentences=sum(count > 0 for count in truncated),
        truncated_words=sum(truncated),
    )


def _check(max_length: int, overflow: str, repeat: int, context: int, special: int) -> None:
    if max_length <= special:
        raise InputError(
            f"--max-length: expected at least {special + 1} (the tokenizer puts {special} "
            f"sub-words around every text), got {max_length}"
        )
    check_choice("--overflow", overflow, Overflow)
    for name, value in (("--repeat", repeat), ("--context", context)):
        if value < 0:
            raise InputError(f"{name}: expected 0 or more, got {value}")


def too_long(where: str, length: int, max_length: int, instead: Overflow = "window") -> InputError:
    """What to say of a sentence under ``--overflow error``."""
    return InputError(
        f"{where}: expected at most {max_length} sub-words (--max-length), got {length}; "
        f"raise --max-length or choose --overflow {instead}"
    )


def _split(
    encoding: Encoding, room: int, overflow: Overflow
) -> tuple[Encoding, list[Window], int]:
    """What of a sentence is seen in which window, and how many words had to be cut for it."""
    words = len(encoding.starts)
    if not words:
        return encoding, [], 0
    if encoding.ends[-1] - encoding.starts[0] > room and overflow == "window":
        encoding, cut = cut_long_words(encoding, room)
        return encoding, windows(encoding.starts, encoding.ends, room), cut
    limit = encoding.starts[0] + room
    fitting = int(np.searchsorted(encoding.ends, limit, side="right"))
    window = Window(first=0, last=fitting, read_first=0, read_last=fitting)
    return encoding, [window] if fitting else [], 0


def _lay_out(
    sentence: int,
    encoding: Encoding,
    window: Window,
    special: tuple[Ints, Ints],
    around: tuple[Ints, Ints],
    copies: int,
) -> Example:
    """Lay out BOS, left context, window, right context and what closes a text ``copies`` times;
    read the last copy."""
    (bos, eos), (left, right) = special, around
    first_id = encoding.starts[window.first]
    own = encoding.ids[first_id : encoding.ends[window.last - 1]]
    copy = np.concatenate([bos, left, own, right, eos])
    shift = (copies - 1) * len(copy) + len(bos) + len(left) - first_id
    read = slice(window.read_first, window.read_last)
    return Example(
        ids=np.tile(copy, copies),
        sentence=sentence,
        first_word=window.read_first,
        starts=(encoding.starts[read] + shift).astype(np.int32),
        ends=(encoding.ends[read] + shift).astype(np.int32),
    )


def _surroundings(
    sentences: Sequence[Text], encodings: list[Encoding], context: int, room: int
) -> dict[int, tuple[Ints, Ints]]:
    """Context of every sentence that has a document and room to spare: its (left, right) ids."""
    surroundings: dict[int, tuple[Ints, Ints]] = {}
    if not context:
        return surroundings
    for document, group in groupby(
        range(len(sentences)), key=lambda index: sentences[index].document
    ):
        run = [index for index in group if len(encodings[index].starts)]
        if document is None or len(run) < 2:
            continue
        own = [encodings[index] for index in run]
        ids = np.concatenate([each.ids[each.starts[0] :] for each in own])
        sizes = np.concatenate([each.ends - each.starts for each in own])
        edges = np.concatenate([[0], np.cumsum(sizes)])
        last = np.cumsum([len(each.starts) for each in own])
        for index, each, end in zip(run, own, last.tolist(), strict=True):
            ranges = _context_ranges(edges, end - len(each.starts), end, context, room)
            if ranges:
                surroundings[index] = (ids[ranges[0]], ids[ranges[1]])
    return surroundings


def _context_ranges(
    edges: NDArray[np.int64], first: int, last: int, context: int, room: int
) -> tuple[slice, slice] | None:
    """Sub-words left and right of words ``[first, last)``: whole words, the nearest ones.

    Args:
        edges: [words + 1] sub-word positions between the words of a document.
        context: the most words on a side.
        room: the most sub-words altogether, those of the sentence included.
    """
    start, end = int(edges[first]), int(edges[last])
    spare = room - (end - start)
    if spare <= 0:
        return None
    left_most = start - int(edges[max(0, first - context)])
    right_most = int(edges[min(len(edges) - 1, last + context)]) - end
    left = min(left_most, max(spare // 2, spare - right_most))
    right = min(right_most, spare - left)
    first_seen = int(np.searchsorted(edges, start - left, side="left"))
    last_seen = int(np.searchsorted(edges, end + right, side="right")) - 1
    return slice(int(edges[first_seen]), start), slice(end, int(edges[last_seen]))
