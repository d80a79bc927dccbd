"""Reading one file or folder: recognising the format and calling its reader.

A folder is one split: a `seq.in`/`seq.out` pair, or files of one format that belong together, of
which each is a document when the format has words and tags in columns.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lmsl.data.formats.columns import read_columns
from lmsl.data.formats.json_lines import looks_like_json, read_json
from lmsl.data.formats.options import FORMATS, Format, ReadOptions, WordMode
from lmsl.data.formats.other import WORDS_FILE, read_absa, read_running_text, read_seq
from lmsl.data.formats.raw import Raw
from lmsl.data.formats.source import STDIN, read_text, split_lines
from lmsl.data.resolve import resolve
from lmsl.data.tags.schemes import SCHEMES, Scheme
from lmsl.data.tags.sentence import Dataset
from lmsl.errors import InputError

_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
_DATA_SUFFIXES = (
    *(".txt", ".tsv", ".conll", ".conllu", ".conllup", ".iob", ".iob2", ".bio", ".bioes"),
    *(".annotated", ".tags", ".xml", *_JSON_SUFFIXES),
)
_NOT_DATA = ("readme", "license", "licence", "copying", "notice", "changelog", "citation")


def read(
    path: str | Path,
    *,
    format: Format = "auto",
    tag_column: int = -1,
    token_column: int | None = None,
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
        scheme=scheme,
        strict_tags=strict_tags,
        ignore_tag=ignore_tag,
        words=words,
        labelled=labelled,
    )
    return read_with(path, options)


def read_with(path: str | Path, options: ReadOptions) -> Dataset:
    """Read one split with options at hand; see `read`."""
    for name, value, known in (
        ("--format", options.format, FORMATS),
        ("--scheme", options.scheme, SCHEMES),
    ):
        if value not in known:
            raise InputError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
    folder = Path(path)
    if str(path) != STDIN and folder.name == WORDS_FILE:
        folder = folder.parent
    if str(path) != STDIN and folder.is_dir():
        raws, notes = _read_folder(folder, options)
    elif options.format == "seq":
        raise InputError(f"{path}: expected a folder with {WORDS_FILE} and seq.out")
    else:
        raws, notes = _read_file(path, options)
    return resolve(raws, str(path), options, notes)


def data_files(folder: Path) -> list[Path]:
    """Files of a folder that may hold data, by suffix and name, in order of their names."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file()
        and path.suffix.lower() in _DATA_SUFFIXES
        and not path.name.lower().startswith((".", *_NOT_DATA))
    )


def _read_folder(folder: Path, options: ReadOptions) -> tuple[list[Raw], list[str]]:
    if options.format == "seq" or (options.format == "auto" and (folder / WORDS_FILE).exists()):
        return read_seq(folder, options)
    paths = data_files(folder)
    suffixes = sorted({path.suffix.lower() for path in paths})
    if len(suffixes) != 1:
        found = f"files in {', '.join(suffixes)}" if suffixes else "none"
        raise InputError(f"{folder}: expected data files of one kind, found {found}; name a file")
    if len(paths) > 1 and any("train" in path.stem.lower() for path in paths):
        raise InputError(f"{folder}: expected one split, found several; name one of its files")
    raws: list[Raw] = []
    notes: dict[str, None] = {f"{len(paths)} files": None}
    for path in paths:
        file_raws, file_notes = _read_file(path, options)
        raws += [_in_document(raw, path.stem) for raw in file_raws]
        notes |= dict.fromkeys(f"{path.name}: {note}" for note in file_notes)
    return raws, list(notes)


def _in_document(raw: Raw, name: str) -> Raw:
    """Make document ids unique in a folder; a file of columns is a document itself."""
    if raw.document is not None:
        return replace(raw, document=f"{name}:{raw.document}")
    return raw if raw.text is not None else replace(raw, document=name)


def _read_file(path: str | Path, options: ReadOptions) -> tuple[list[Raw], list[str]]:
    source, text = str(path), read_text(path)
    name = _recognise(source, text) if options.format == "auto" else options.format
    if name == "columns":
        return read_columns(split_lines(text), source, options)
    if name == "text":
        return read_running_text(split_lines(text), source, options), []
    reader: Callable[[str, str, ReadOptions], list[Raw]]
    reader = read_absa if name == "absa" else read_json
    return reader(text, source, options), []


def _recognise(source: str, text: str) -> str:
    suffix = Path(source).suffix.lower()
    if suffix == ".xml" or text.lstrip().startswith(("<?xml", "<sentences")):
        return "absa"
    if suffix in _JSON_SUFFIXES or looks_like_json(text):
        return "json"
    return "columns"
