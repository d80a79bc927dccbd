"""Writing sentences back: columns and JSON lines.

Columns are tab-separated so that a word with zero-width characters or spaces survives. A word
that holds a tab or a line end would break the table; it is written with ``\\t``, ``\\n`` or
``\\r`` spelt out, and the count of such words is returned (refusing would throw a finished run's
predictions away). JSON lines lose nothing.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lmsl.data.formats.options import ReadOptions
from lmsl.data.read import read_with
from lmsl.data.tags.schemes import IGNORED, tag_spans
from lmsl.data.tags.sentence import Name, Sentence
from lmsl.errors import InputError

UNLABELLED = "_"
"""Stands in columns for the tag of a word without a label; read back with --ignore-tag _."""

_ESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
_ESCAPED = str.maketrans(_ESCAPES)


def column_lines(
    sentences: Iterable[Sentence], *columns: Sequence[Sequence[str]], documents: bool = False
) -> tuple[list[str], int]:
    """Lines of ``word TAB column...``, an empty line after each sentence; and words escaped.

    `columns` hold one sequence of tags a sentence. With `documents` a ``-DOCSTART-`` line stands
    before every change of document. Sentences without words leave no trace.
    """
    lines: list[str] = []
    escaped = 0
    document: Name | None = None
    for index, sentence in enumerate(sentences):
        if not sentence.words:
            continue
        if documents and sentence.document != document:
            lines += ["\t".join(["-DOCSTART-", *("O" for _ in columns)]), ""]
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


def in_some_document(sentence: Sentence) -> Sentence:
    """Sentences of no document as one unnamed, so that columns end the document before them."""
    return sentence if sentence.document is not None else replace(sentence, document="")


def check_written(path: Path) -> None:
    """Refuse, before it costs anything, a file in a folder that is not there; InputError."""
    if not path.absolute().parent.is_dir() or path.is_dir():
        reason = "is a folder" if path.is_dir() else "its folder is not there"
        raise InputError(f"{path}: cannot be written ({reason})")


def write_columns(
    path: str | Path, sentences: Sequence[Sentence], *columns: Sequence[Sequence[str]]
) -> int:
    """Write ``word TAB column...``, as for predictions: gold and predicted tags.

    Returns how many words had to be escaped.
    """
    lines, escaped = column_lines(sentences, *columns)
    _write(path, lines)
    return escaped


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
        tags = [] if any(s.tags is None for s in dataset) else [[s.tags or () for s in dataset]]
        bare = [in_some_document(sentence) for sentence in dataset]
        known = any(sentence.document is not None for sentence in dataset)
        lines, escaped = column_lines(bare, *tags, documents=known)
        _write(target, lines)
        if escaped:
            notes.append(f"{escaped} words hold a tab or line end, which was spelt out")
    if missed := sum(len(sentence.missed) for sentence in dataset):
        notes.append(f"{missed} missed entities have no tags and are not in {target}")
    return notes


def _write(path: str | Path, lines: Iterable[str]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
