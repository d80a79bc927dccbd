"""Prediction from a file or a pipe to standard output, in the order of the input.

Input is recognised as by every other command and taken block by block, so a pipe may be endless;
only arrays of JSON, XML and, for runs with document context, everything is read whole first. The
answer to columns is columns: word, first character, one past the last, span probability, tag; the
answer to the rest is JSON lines. Either can be read back as labelled data.
"""

import json
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TextIO

from lmsl.console import Track
from lmsl.data.formats.options import ReadOptions
from lmsl.data.formats.raw import Raw
from lmsl.data.formats.source import STDIN, shown
from lmsl.data.read import Opened, open_source
from lmsl.data.resolve import unlabelled
from lmsl.data.tags.decode import Decoded
from lmsl.data.tags.entities import Entity, entities, word_offsets
from lmsl.data.tags.sentence import Name, Sentence
from lmsl.data.tags.thresholds import Threshold
from lmsl.data.write import column_lines, to_json
from lmsl.errors import InputError

if TYPE_CHECKING:
    # The file is looked at before torch is imported.
    from lmsl.tagger.predictor import Predictor

Shape = Literal["auto", "json", "columns"]

BLOCK = 512
"""Sentences tagged together, once there are answers to look at."""

FIRST_BLOCK = 32


def check_source(source: str, options: ReadOptions, known: Collection[str]) -> None:
    """Refuse what cannot be read, before a model is loaded for it; InputError."""
    if source != STDIN:
        next(open_source(source, options, known).raws, None)


def predict_stream(
    labeler: "Predictor",
    source: str,
    options: ReadOptions,
    *,
    output: Shape = "auto",
    threshold: Threshold | None = None,
    target: TextIO | None = None,
    say: Callable[[str], None] = lambda line: None,
    track: Track | None = None,
    watch: Callable[[Sequence[Sentence], Sequence[Decoded]], None] | None = None,
) -> int:
    """Tag everything in ``source`` (``-`` is standard input) and write it; the sentences tagged.

    Args:
        watch: shown every block with its answers, before they are written.

    Raises:
        InputError: the input cannot be read; what precedes the place has been answered by then.
    """
    target = target or sys.stdout
    opened = open_source(source, options, labeler.info.labels.names)
    shape = output if output != "auto" else ("columns" if opened.kind == "columns" else "json")
    _say_what(opened, source, options, shape, say)
    answers = _Columns() if shape == "columns" else _json_lines
    count = said = 0
    # Context reaches across sentences: then the input has to be known whole.
    for block in _blocks(opened.raws, whole=bool(labeler.info.context)):
        for note in opened.notes[said:]:
            say(note)
        said = len(opened.notes)
        tagged = labeler.tag(block, threshold=threshold)
        if watch is not None:
            watch(block, tagged.decoded)
        for lines in answers(labeler, block, tagged.decoded):
            target.write(lines)
        target.flush()
        for note in tagged.examples.notes.lines():
            say(note)
        count += len(block)
        if track is not None:
            track.to(count)
    for note in opened.notes[said:]:
        say(note)
    return count


def _say_what(
    opened: Opened, source: str, options: ReadOptions, shape: str, say: Callable[[str], None]
) -> None:
    chosen = options.token_column if opened.kind == "columns" else None
    say(
        f"reading {shown(source)} as {opened.kind}"
        + (f" with the words in column {chosen}" if chosen else "")
        + f", writing {shape}"
    )


def _blocks(raws: Iterator[Raw], *, whole: bool) -> Iterator[Sequence[Sentence]]:
    """Sentences, few at first, so that somebody who waits sees an answer soon."""
    error: InputError | None = None
    size = FIRST_BLOCK
    while error is None:
        block: list[Sentence] = []
        try:
            for raw in islice(raws, None if whole else min(size, BLOCK)):
                block.append(unlabelled(raw))
        except InputError as reason:
            # What precedes the bad place is answered first.
            error = reason
        if block:
            yield block
        elif error is None:
            return
        size *= 2
    raise error


class _Columns:
    """Answers in columns; documents go on from block to block."""

    def __init__(self) -> None:
        self._document: Name | None = None

    def __call__(
        self, labeler: "Predictor", block: Sequence[Sentence], decoded: Sequence[Decoded]
    ) -> Iterator[str]:
        before, marked = self._document, []
        for sentence in block:
            if sentence.document is None and self._document is not None:
                # Of no document, which ends the one before.
                sentence = replace(sentence, document="")
            self._document = sentence.document
            marked.append(sentence)
        columns = zip(*(_cells(*pair) for pair in zip(block, decoded, strict=True)), strict=True)
        lines, _ = column_lines(marked, *columns, documents=True, before=before)
        yield "".join(f"{line}\n" for line in lines)


def _json_lines(
    labeler: "Predictor", block: Sequence[Sentence], decoded: Sequence[Decoded]
) -> Iterator[str]:
    plain = labeler.info.labels.plain
    for sentence, found in zip(block, decoded, strict=True):
        answer = to_json(replace(sentence, tags=found.tags), plain=plain)
        if plain and sentence.text is not None:
            answer["text"] = sentence.text
        if not plain:
            answer["spans"] = [_span(entity) for entity in entities(sentence, found)]
        yield json.dumps(answer, ensure_ascii=False) + "\n"


def _span(entity: Entity) -> dict[str, Any]:
    return {
        "start": entity.start,
        "end": entity.end,
        "label": entity.label,
        "score": None if entity.score is None else round(entity.score, 6),
        "text": entity.text,
    }


def _cells(sentence: Sentence, decoded: Decoded) -> tuple[list[str], ...]:
    """First character, one past the last, probability of the word's span or ``_``, and tag."""
    offsets = word_offsets(sentence)
    scores = ["_"] * len(sentence.words)
    for span, score in zip(decoded.spans, decoded.scores, strict=True):
        if score is not None:
            scores[span.start : span.end] = [f"{score:.6f}"] * (span.end - span.start)
    starts, ends = [str(start) for start, _ in offsets], [str(end) for _, end in offsets]
    return starts, ends, scores, list(decoded.tags)
