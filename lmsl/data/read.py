"""Reading one file or folder: recognising the format and calling its reader.

Every command recognises files here. A folder is one split: a `seq.in`/`seq.out` pair, or files of
one format that belong together, of which each is a document when the format has words and tags in
columns.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lmsl.data.formats.cells import Peeked, holds_rows, separates
from lmsl.data.formats.columns import read_columns
from lmsl.data.formats.json_lines import read_json
from lmsl.data.formats.options import FORMATS, Format, ReadOptions, WordMode
from lmsl.data.formats.other import WORDS_FILE, read_absa, read_running_text, read_seq
from lmsl.data.formats.raw import Raw
from lmsl.data.formats.source import STDIN, shown, stream_lines, within_limits
from lmsl.data.resolve import resolve
from lmsl.data.tags.schemes import SCHEMES, Scheme
from lmsl.data.tags.sentence import Dataset
from lmsl.errors import InputError
from lmsl.wording import counted, quoted

Kind = Literal["columns", "json", "absa", "seq", "text"]

_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
_COLUMN_SUFFIXES = (
    *(".conll", ".conllu", ".conllup", ".tsv", ".iob", ".iob2", ".bio", ".bioes"),
    *(".annotated", ".tags"),
)
_DATA_SUFFIXES = (".txt", *_COLUMN_SUFFIXES, ".xml", *_JSON_SUFFIXES)
_NOT_DATA = ("readme", "license", "licence", "copying", "notice", "changelog", "citation")
# `{` or `[` alone may be a token.
# Of an object, of an array of them, or of more brackets than any text opens.
_JSON_START = re.compile(r'\{\s*(?:"|\}\s*$)|\[\s*\{|(?:[\[{]\s*){50}')


@dataclass(kw_only=True)
class Opened:
    """A source that has been recognised: its sentences as they come."""

    kind: Kind
    raws: Iterator[Raw]
    notes: list[str] = field(default_factory=list)
    """What was recognised; whole when `raws` is at its end."""


def read(
    path: str | Path,
    *,
    format: Format = "auto",
    tag_column: int = -1,
    token_column: int | None = None,
    separator: str | None = None,
    scheme: Scheme = "auto",
    strict_tags: bool = False,
    ignore_tag: str | None = None,
    words: WordMode = "unicode",
    labelled: bool = True,
) -> Dataset:
    """Read one split from a file, a folder or standard input (``-``).

    The arguments are those of `ReadOptions`. Raises InputError, one line naming the file and
    line, for anything that cannot be read as it should.
    """
    options = ReadOptions(
        format=format,
        tag_column=tag_column,
        token_column=token_column,
        separator=separator,
        scheme=scheme,
        strict_tags=strict_tags,
        ignore_tag=ignore_tag,
        words=words,
        labelled=labelled,
    )
    return read_with(path, options)


def read_with(path: str | Path, options: ReadOptions) -> Dataset:
    """Read one split with options at hand; see `read`."""
    with within_limits(shown(path)):
        opened = open_source(path, options)
        return resolve(opened.raws, str(path), options, opened.notes)


def open_source(path: str | Path, options: ReadOptions, known: Collection[str] = ()) -> Opened:
    """Recognise a file, folder or standard input; its sentences are read as they are asked for.

    Args:
        known: labels that tell a column of tags from words of a text, where there may be text.
    """
    for name, value, choices in (
        ("--format", options.format, FORMATS),
        ("--scheme", options.scheme, SCHEMES),
    ):
        if value not in choices:
            raise InputError(f"{name}: expected one of {', '.join(choices)}, got {quoted(value)}")
    folder = Path(path)
    if str(path) != STDIN and folder.name == WORDS_FILE:
        folder = folder.parent
    if str(path) != STDIN and folder.is_dir():
        return _open_folder(folder, options)
    if options.format == "seq":
        raise InputError(f"{path}: expected a folder with {WORDS_FILE} and seq.out")
    opened = _open_file(path, options, known)
    return Opened(kind=opened.kind, raws=_limited(opened.raws, shown(path)), notes=opened.notes)


def _limited(raws: Iterator[Raw], source: str) -> Iterator[Raw]:
    with within_limits(source):
        yield from raws


def data_files(folder: Path) -> list[Path]:
    """Files of a folder that may hold data, by suffix and name, in order of their names."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file()
        and path.suffix.lower() in _DATA_SUFFIXES
        and not path.name.lower().startswith((".", *_NOT_DATA))
    )


def _open_folder(folder: Path, options: ReadOptions) -> Opened:
    if options.format == "seq" or (options.format == "auto" and (folder / WORDS_FILE).exists()):
        raws, notes = read_seq(folder, options)
        return Opened(kind="seq", raws=iter(raws), notes=notes)
    paths = data_files(folder)
    suffixes = sorted({path.suffix.lower() for path in paths})
    if len(suffixes) != 1:
        found = f"files in {', '.join(suffixes)}" if suffixes else "none"
        raise InputError(f"{folder}: expected data files of one kind, found {found}; name a file")
    if len(paths) > 1 and any("train" in path.stem.lower() for path in paths):
        raise InputError(f"{folder}: expected one split, found several; name one of its files")
    first = _open_file(paths[0], options, ())
    notes = [counted(len(paths), "file")]
    return Opened(kind=first.kind, raws=_of_files(first, paths, options, notes), notes=notes)


def _of_files(
    first: Opened, paths: list[Path], options: ReadOptions, notes: list[str]
) -> Iterator[Raw]:
    for path in paths:
        opened = first if path is paths[0] else _open_file(path, options, ())
        for raw in opened.raws:
            # Document ids are unique in a folder; a file of columns is a document itself.
            if raw.document is not None:
                raw.document = f"{path.stem}:{raw.document}"
            elif raw.text is None:
                raw.document = path.stem
            yield raw
        notes += [f"{path.name}: {note}" for note in dict.fromkeys(opened.notes)]


def _open_file(path: str | Path, options: ReadOptions, known: Collection[str]) -> Opened:
    source, lines = str(path), Peeked(stream_lines(path))
    first = next((line for line in lines.peek() if line.strip()), None)
    if first is None and (options.labelled or source != STDIN):
        raise InputError(f"{shown(path)}: the file is empty")
    kind = _recognise(source, lines, first or "", options, known)
    source = shown(path)
    notes: list[str] = []
    raws: Iterator[Raw]
    if kind == "columns":
        raws = read_columns(lines, source, options, notes)
    elif kind == "text":
        raws = read_running_text(lines, source, options)
    elif kind == "json":
        raws = read_json(lines, source, options, notes)
    else:
        raws = iter(read_absa("\n".join(lines), source, options))
    return Opened(kind=kind, raws=raws, notes=notes)


def _recognise(
    source: str, lines: Peeked, first: str, options: ReadOptions, known: Collection[str]
) -> Kind:
    if options.format != "auto":
        return {"nlupp": "json"}.get(options.format, options.format)  # type: ignore[return-value]
    suffix = Path(source).suffix.lower()
    if suffix == ".xml" or first.lstrip().startswith(("<?xml", "<sentences")):
        return "absa"
    if suffix in _JSON_SUFFIXES or _looks_like_json(lines, first):
        return "json"
    if suffix in _COLUMN_SUFFIXES or options.separator is not None:
        return "columns"
    # Whoever asks for labels has no running text.
    if options.labelled and first:
        return "columns"
    found = holds_rows(lines.peek(), options, known)
    if found not in (None, "columns"):
        raise InputError(
            f"{shown(source)}: its lines look like words and tags with {found} between; read them "
            f"with --separator '{found}', or as running text with --format text"
        )
    return "text" if found is None else "columns"


def _looks_like_json(lines: Peeked, first: str) -> bool:
    start = first.strip()
    if start == "[":
        visible = (line.strip() for line in lines.peek() if not separates(line))
        start = "".join(line for line, _ in zip(visible, range(2), strict=False))
    return _JSON_START.match(start) is not None
