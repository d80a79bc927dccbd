"""Writing sentences back: columns and JSON lines.

Columns are tab-separated so that a word with zero-width characters or spaces survives. A word
that holds a tab or a line end would break the table. In predictions it is written with ``\\t``,
``\\n`` or ``\\r`` spelt out, and the count of such words is returned (refusing would throw a
finished run's predictions away); a converted file says in its first line that it has escapes, and
is read back as it was. JSON lines lose nothing.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from lmsl.data.formats.cells import DOCSTART, separates
from lmsl.data.formats.columns import ESCAPES
from lmsl.data.formats.options import ReadOptions
from lmsl.data.read import read_with
from lmsl.data.tags.schemes import IGNORED, tag_spans
from lmsl.data.tags.sentence import Name, Sentence
from lmsl.errors import InputError
from lmsl.wording import counted

UNLABELLED = "_"
"""Stands in columns for the tag of a word without a label; read back with --ignore-tag _."""

_ESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
_ESCAPED = str.maketrans(_ESCAPES)


def column_lines(
    sentences: Iterable[Sentence],
    *columns: Sequence[Sequence[str]],
    documents: bool = False,
    before: Name | None = None,
) -> tuple[list[str], int]:
    """Lines of ``word TAB column...``, an empty line after each sentence; and words escaped.

    `columns` hold one sequence of tags a sentence. With `documents` a ``-DOCSTART-`` line stands
    before every change of document, the first from `before`. Sentences without words leave no
    trace.
    """
    lines: list[str] = []
    escaped = 0
    document = before
    for index, sentence in enumerate(sentences):
        if not sentence.words:
            continue
        if documents and sentence.document != document:
            lines += [document_line(len(columns)), ""]
            document = sentence.document
        rows = [column[index] for column in columns]
        assert all(len(row) == len(sentence.words) for row in rows)
        for position, word in enumerate(sentence.words):
            safe = word.translate(_ESCAPED)
            escaped += safe != word
            tags = (UNLABELLED if row[position] == IGNORED else row[position] for row in rows)
            lines.append("\t".join([safe, *tags]))
        lines.append("")
    return lines, escaped


def document_line(columns: int) -> str:
    return "\t".join(["-DOCSTART-", *("O" for _ in range(columns))])


def in_some_document(sentence: Sentence) -> Sentence:
    """Sentences of no document as one unnamed, so that columns end the document before them."""
    return sentence if sentence.document is not None else replace(sentence, document="")


def check_written(path: Path, *, over: bytes | None = None) -> None:
    """Refuse, before it costs anything, a file in a folder that is not there, and one that is
    there already; InputError.

    Args:
        over: how a file begins that may be replaced, since it can be made again.
    """
    if not path.absolute().parent.is_dir() or path.is_dir():
        reason = "is a folder" if path.is_dir() else "its folder is not there"
        raise InputError(f"{path}: cannot be written ({reason})")
    if path.exists():
        with path.open("rb") as file:
            begins = file.read(len(over or b""))
        if not over or begins.lower() != over:
            raise InputError(f"{path}: is there already; choose another name")


def write_columns(
    path: str | Path, sentences: Sequence[Sentence], *columns: Sequence[Sequence[str]]
) -> int:
    """Write ``word TAB column...``, as for predictions: gold and predicted tags.

    Returns how many words had to be escaped.
    """
    lines, escaped = column_lines(sentences, *columns)
    _write(path, lines)
    return escaped


def exact_lines(sentences: Iterable[Sentence], *, tagged: bool) -> Iterator[str]:
    """Lines of ``word TAB tag`` from which the reader of columns gets the same words and types.

    Where some cell would be read otherwise, backslashes are escapes, and the first line says so.
    """
    sentences = [in_some_document(sentence) for sentence in sentences if sentence.words]
    documents = any(sentence.document != "" for sentence in sentences)
    words = {word for sentence in sentences for word in sentence.words}
    tags = {tag for sentence in sentences for tag in sentence.tags or ()} if tagged else set()
    odd = {word for word in words if _is_odd(word, alone=not tagged)}
    odd |= {tag for tag in tags if tag != tag.strip()}
    if odd:
        yield ESCAPES
    cells = {word: _exact(word, whole=word in odd) if odd else word for word in words}
    labels = {tag: _exact(tag, whole=tag in odd) if odd else tag for tag in tags}
    labels[IGNORED] = UNLABELLED
    document: Name | None = None
    for sentence in sentences:
        if documents and sentence.document != document:
            yield from (document_line(int(tagged)), "")
            document = sentence.document
        row = map(cells.__getitem__, sentence.words)
        if tagged:
            own = map(labels.__getitem__, sentence.tags or ())
            yield from ("\t".join(pair) for pair in zip(row, own, strict=True))
        else:
            yield from row
        yield ""


def _is_odd(word: str, *, alone: bool) -> bool:
    """Whether a word would not be read as itself from a column, or from a line of its own."""
    return (
        word != word.translate(_ESCAPED)
        or DOCSTART.match(word) is not None
        or (alone and (separates(word) or word[0] == "#" or " " in word))
    )


def _exact(cell: str, *, whole: bool) -> str:
    """A cell with escapes; `whole` spells its blanks and first character out too."""
    spelt = []
    for position, char in enumerate(cell):
        if char in "\t\n\r\\":
            spelt.append(_ESCAPES.get(char, "\\\\"))
        elif whole and (position == 0 or char.isspace()) and ord(char) < 1 << 16:
            spelt.append(f"\\u{ord(char):04x}")
        else:
            spelt.append(char)
    return "".join(spelt)


def to_json(sentence: Sentence, *, plain: bool = False) -> dict[str, Any]:
    """One sentence in the shape `lmsl.data.formats.json_lines` reads.

    Text with IOB2 tags becomes ``text`` and ``spans``, anything else ``tokens`` and ``tags``.
    """
    names = {"id": sentence.id, "doc": sentence.document}
    item: dict[str, Any] = {key: value for key, value in names.items() if value is not None}
    tags = sentence.tags
    fits = tags is None or not (plain or IGNORED in tags)
    if sentence.text is not None and sentence.offsets is not None and fits:
        item["text"] = sentence.text
        if sentence.tokenized:
            item["tokens"] = [
                {"text": word, "start": start, "end": end}
                for word, (start, end) in zip(sentence.words, sentence.offsets, strict=True)
            ]
        if tags is not None:
            item["spans"] = [
                {
                    "start": sentence.offsets[span.start][0],
                    "end": sentence.offsets[span.end - 1][1],
                    "label": span.type,
                }
                for span in tag_spans(tags)
            ]
        return item
    item["tokens"] = list(sentence.words)
    if tags is not None:
        item["tags"] = [None if tag == IGNORED else tag for tag in tags]
    return item


def write_json(path: str | Path, sentences: Iterable[Sentence], *, plain: bool = False) -> None:
    """Write JSON lines, characters as they are (UTF-8)."""
    _write(path, (json.dumps(to_json(s, plain=plain), ensure_ascii=False) for s in sentences))


def convert(
    source: str | Path,
    target: str | Path,
    kind: Literal["columns", "json"],
    options: ReadOptions | None = None,
) -> list[str]:
    """Rewrite a file or folder in another format; returns the notes of reading and writing.

    Tags come out in IOB2. Gold entities that tags cannot express are lost, and counted.
    """
    dataset = read_with(source, options or ReadOptions())
    notes = list(dataset.notes)
    if kind == "json":
        write_json(target, dataset, plain=dataset.plain)
    else:
        tagged = all(sentence.tags is not None for sentence in dataset)
        lines = exact_lines(dataset, tagged=tagged)
        first = next(lines, "")
        _write(target, chain([first] if dataset.sentences else [], lines))
        if first == ESCAPES:
            notes.append("some words or types have their tabs, line ends or blanks spelt out")
    if missed := sum(len(sentence.missed) for sentence in dataset):
        have = "has no tags and is" if missed == 1 else "have no tags and are"
        notes.append(f"{counted(missed, 'missed entity')} {have} not in {target}")
    return notes


def _write(path: str | Path, lines: Iterable[str]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
