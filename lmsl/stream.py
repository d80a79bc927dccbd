"""Prediction from a file or a pipe to standard output, in the order of the input.

Running text and JSON lines are taken block by block, so a pipe may be endless; columns and other
formats are read whole first. The answer to JSON and text is JSON lines, the answer to columns is
columns: word, first character, one past the last, span probability, tag.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, TextIO

from lmsl.data import ReadOptions, Sentence, read_with
from lmsl.decode import Decoded
from lmsl.errors import InputError
from lmsl.labeler import Entity, Labeler, entities, word_offsets
from lmsl.read_json import json_line, json_raw
from lmsl.read_other import text_raw
from lmsl.resolve import resolve
from lmsl.sentence import Raw
from lmsl.source import STDIN, read_text
from lmsl.write import column_lines, to_json

Kind = Literal["text", "json", "columns", "whole"]
Shape = Literal["auto", "json", "columns"]

BLOCK = 512
"""Sentences tagged together."""

_COLUMN_SUFFIXES = (".conll", ".conllu", ".tsv", ".iob", ".iob2", ".bio", ".bioes", ".annotated")


def predict_stream(
    labeler: Labeler,
    source: str,
    options: ReadOptions,
    *,
    output: Shape = "auto",
    target: TextIO | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Tag everything in ``source`` (``-`` is standard input) and write it; the sentences tagged.

    Raises:
        InputError: the input cannot be read; what precedes the place has been answered by then.
    """
    target = target or sys.stdout
    kind, blocks = _input(source, options, labeler)
    shape = output if output != "auto" else ("columns" if kind == "columns" else "json")
    say(f"reading {'standard input' if source == STDIN else source} as {kind}, writing {shape}")
    count = 0
    for block in blocks:
        tagged = labeler.tag(block)
        for lines in _answers(labeler, block, tagged.decoded, shape):
            target.write(lines)
        target.flush()
        for note in tagged.examples.notes.lines():
            say(note)
        count += len(block)
    return count


def _input(
    source: str, options: ReadOptions, labeler: Labeler
) -> tuple[Kind, Iterator[Sequence[Sentence]]]:
    """What the input is, and its sentences block by block."""
    suffix = Path(source).suffix.lower()
    columns = options.format == "columns" or (
        options.format == "auto" and suffix in _COLUMN_SUFFIXES
    )
    if columns or options.format not in ("auto", "text", "json"):
        dataset = read_with(source, options)
        return "columns" if columns else "whole", _blocks(iter(dataset.sentences), labeler)
    if source != STDIN and not Path(source).is_file():
        read_text(source)
        raise InputError(f"{source}: expected a file")
    lines = _lines(source)
    first = next((line for line in lines if line.strip()), "")
    lines = chain([first], lines) if first else iter(())
    if options.format == "json" or (options.format == "auto" and first.lstrip()[:1] == "{"):
        return "json", _blocks(_sentences(_json(lines, source, options), source, options), labeler)
    raws = (
        text_raw(line, None, f"{source}:{number}", options) for number, line in enumerate(lines, 1)
    )
    return "text", _blocks(_sentences(raws, source, options), labeler)


def _lines(source: str) -> Iterator[str]:
    if source == STDIN:
        yield from _decoded(sys.stdin.buffer, "standard input")
        return
    with open(source, "rb") as file:
        yield from _decoded(file, source)


def _decoded(lines: Iterable[bytes], source: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{source}:{number}: expected UTF-8 text, found byte 0x{line[error.start]:02x}"
            ) from None
        if "\0" in text:
            raise InputError(f"{source}:{number}: expected text, found NUL bytes (a binary file?)")
        yield text.removesuffix("\n").removesuffix("\r")


def _json(lines: Iterable[str], source: str, options: ReadOptions) -> Iterator[Raw]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            place = f"{source}:{number}"
            yield json_raw(json_line(line, place), place, options)


def _sentences(raws: Iterable[Raw], source: str, options: ReadOptions) -> Iterator[Sentence]:
    for raw in raws:
        yield from resolve([raw], source, options).sentences


def _blocks(sentences: Iterator[Sentence], labeler: Labeler) -> Iterator[Sequence[Sentence]]:
    # Context reaches across sentences, so with it the input has to be known whole.
    size = None if labeler.info.context else BLOCK
    while block := list(islice(sentences, size)):
        yield block


def _answers(
    labeler: Labeler, block: Sequence[Sentence], decoded: Sequence[Decoded], shape: str
) -> Iterator[str]:
    plain = labeler.info.labels.plain
    if shape == "columns":
        columns = zip(*(_columns(*pair) for pair in zip(block, decoded, strict=True)), strict=True)
        lines, _ = column_lines(block, *columns)
        yield "".join(f"{line}\n" for line in lines)
        return
    for sentence, found in zip(block, decoded, strict=True):
        answer = to_json(sentence)
        if plain:
            answer["tags"] = list(found.tags)
        else:
            answer["spans"] = [_span(entity) for entity in entities(sentence, found)]
        yield json.dumps(answer, ensure_ascii=False) + "\n"


def _span(entity: Entity) -> dict[str, Any]:
    return {
        "start": entity.start,
        "end": entity.end,
        "label": entity.label,
        "score": round(entity.score, 6),
        "text": entity.text,
    }


def _columns(sentence: Sentence, decoded: Decoded) -> tuple[list[str], ...]:
    """First character, one past the last, probability of the word's span or ``_``, and tag."""
    offsets = word_offsets(sentence)
    scores = ["_"] * len(sentence.words)
    for span, score in zip(decoded.spans, decoded.scores, strict=True):
        scores[span.start : span.end] = [f"{score:.6f}"] * (span.end - span.start)
    starts, ends = [str(start) for start, _ in offsets], [str(end) for _, end in offsets]
    return starts, ends, scores, list(decoded.tags)
