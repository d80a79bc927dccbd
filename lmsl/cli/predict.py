"""Prediction from a file or a pipe to standard output, in the order of the input.

Running text and JSON lines are taken block by block, so a pipe may be endless; columns and other
formats are read whole first. The answer to JSON and text is JSON lines, the answer to columns is
columns: word, first character, one past the last, span probability, tag. Either can be read back
as labelled data.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from lmsl.data.formats.json_lines import json_line, json_raw, read_json, text_raw
from lmsl.data.formats.options import ReadOptions
from lmsl.data.formats.raw import Raw
from lmsl.data.formats.source import STDIN
from lmsl.data.read import read_with
from lmsl.data.resolve import resolve
from lmsl.data.tags.decode import Decoded
from lmsl.data.tags.entities import Entity, entities, word_offsets
from lmsl.data.tags.sentence import Sentence
from lmsl.data.write import column_lines, in_some_document, to_json
from lmsl.errors import InputError

if TYPE_CHECKING:
    # The file is looked at before torch is imported.
    from lmsl.tagger.labeler import Labeler

Kind = Literal["text", "json", "columns", "whole"]
Shape = Literal["auto", "json", "columns"]

BLOCK = 512
"""Sentences tagged together."""

# Of a text hardly three lines in a row end in something like B-52.
_TAG = re.compile(rb"O|[BIESLU]-\S+")
_SNIFFED = 20
_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
_COLUMN_SUFFIXES = (".conll", ".conllu", ".tsv", ".iob", ".iob2", ".bio", ".bioes", ".annotated")


def check_source(source: str) -> None:
    """Refuse what cannot be opened, before a model is loaded for it; InputError."""
    if source != STDIN and not Path(source).is_dir():
        next(_lines(source), None)


def predict_stream(
    labeler: "Labeler",
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
    # Context and documents reach across sentences: then the input has to be known whole.
    size = None if labeler.info.context or output == "columns" else BLOCK
    kind, blocks = _input(source, options, size)
    shape = output if output != "auto" else ("columns" if kind == "columns" else "json")
    chosen = options.token_column if kind == "columns" else None
    say(
        f"reading {'standard input' if source == STDIN else source} as {kind}"
        + (f" with the words in column {chosen}" if chosen else "")
        + f", writing {shape}"
    )
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
    source: str, options: ReadOptions, size: int | None
) -> tuple[Kind, Iterator[Sequence[Sentence]]]:
    """What the input is, and its sentences block by block."""
    suffix = Path(source).suffix.lower()
    automatic = options.format == "auto"
    columns = options.format == "columns" or (
        automatic and (suffix in _COLUMN_SUFFIXES or _holds_tags(source, options))
    )
    whole = options.format not in ("auto", "text", "json") or (
        automatic and (suffix == ".xml" or Path(source).is_dir())
    )
    if columns or whole:
        sentences = read_with(source, options).sentences
        # In one piece, so that no document is cut in two.
        return "columns" if columns else "whole", iter([sentences] if sentences else [])
    name = "standard input" if source == STDIN else source
    head, lines = _begun(_lines(source))
    if not head and source != STDIN:
        raise InputError(f"{source}: the file is empty")
    first = head[-1].lstrip() if head else ""
    raws: Iterable[Raw]
    if first.startswith("[") and (options.format == "json" or suffix in _JSON_SUFFIXES):
        raws = read_json("\n".join(lines), name, options)
    elif options.format == "json" or (automatic and first.startswith("{")):
        raws = _json(lines, name, options)
    else:
        raws = (text_raw(line, None, f"{name}:{n}", options) for n, line in enumerate(lines, 1))
        return "text", _blocks(_sentences(raws, name, options), size)
    return "json", _blocks(_sentences(raws, name, options), size)


def _holds_tags(source: str, options: ReadOptions) -> bool:
    """Whether the first lines of a file all have a tag in the column of tags: it has columns."""
    if source == STDIN or not Path(source).is_file():
        return False
    with open(source, "rb") as file:
        lines = [line for line in islice(file, _SNIFFED) if line.strip()]
    return len(lines) > 2 and all(_holds_tag(line.split(), options) for line in lines)


def _holds_tag(cells: Sequence[bytes], options: ReadOptions) -> bool:
    column = options.tag_column
    index = column - 1 if column > 0 else len(cells) + column
    if len(cells) < 2 or not 0 <= index < len(cells):
        return False
    ignored = options.ignore_tag is not None and cells[index] == options.ignore_tag.encode()
    return ignored or _TAG.fullmatch(cells[index]) is not None


def _begun(lines: Iterator[str]) -> tuple[list[str], Iterator[str]]:
    """The lines up to the first that is not empty, and all lines."""
    head = []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    return head, chain(head, lines)


def _lines(source: str) -> Iterator[str]:
    if source == STDIN:
        yield from _decoded(sys.stdin.buffer, "standard input")
        return
    try:
        file = open(source, "rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from None
    with file:
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


def _blocks(sentences: Iterator[Sentence], size: int | None) -> Iterator[Sequence[Sentence]]:
    error: InputError | None = None
    while error is None:
        block: list[Sentence] = []
        try:
            for sentence in islice(sentences, size):
                block.append(sentence)
        except InputError as reason:
            # What precedes the bad place is answered first.
            error = reason
        if block:
            yield block
        elif error is None:
            return
    raise error


def _answers(
    labeler: "Labeler", block: Sequence[Sentence], decoded: Sequence[Decoded], shape: str
) -> Iterator[str]:
    plain = labeler.info.labels.plain
    if shape == "columns":
        columns = zip(*(_columns(*pair) for pair in zip(block, decoded, strict=True)), strict=True)
        known = any(sentence.document is not None for sentence in block)
        block = [in_some_document(sentence) for sentence in block]
        lines, _ = column_lines(block, *columns, documents=known)
        yield "".join(f"{line}\n" for line in lines)
        return
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
