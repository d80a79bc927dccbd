"""How files are read: the settings that every command which reads labels shares."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from lmsl.data.tags.schemes import Scheme

Format = Literal["auto", "columns", "json", "nlupp", "absa", "seq", "text"]
WordMode = Literal["unicode", "whitespace", "char"]

FORMATS: tuple[str, ...] = get_args(Format)


@dataclass(frozen=True, kw_only=True)
class FileShape:
    """What the columns and tags of a file mean: known of a run, whose files are all alike."""

    format: Format = "auto"
    """Format of the files; `auto` recognises it."""
    tag_column: int = -1
    """Column of the tags, from 1, or from the right with -1 the last."""
    token_column: int | None = None
    """Column of the words, counted alike; by default the first that is no running number."""
    separator: str | None = None
    """What stands between columns, such as `,` or `tab`; by default tabs or spaces."""
    scheme: Scheme = "auto"
    """How tags mark entities; `plain`: they mark none (part of speech)."""
    ignore_tag: str | None = None
    """Tag of words that have no label (partial annotation)."""


@dataclass(frozen=True, kw_only=True)
class Columns(FileShape):
    """How files are read: flags of every command that reads labels."""

    strict_tags: bool = False
    """Refuse invalid tags and spans instead of repairing and counting them."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions(Columns):
    """How to read a file; the same for all splits of a run."""

    words: WordMode = "unicode"
    """How raw text is split; see `lmsl.data.formats.words`."""
    labelled: bool = True
    """False reads the words alone, whatever else the file holds."""


def read_options(columns: Columns, words: WordMode) -> ReadOptions:
    """The reading options among the settings of a command."""
    shared = {field.name: getattr(columns, field.name) for field in fields(Columns)}
    return ReadOptions(**shared, words=words)


def file_shape(columns: FileShape) -> FileShape:
    """The shape of the files among the settings of a command."""
    return FileShape(**{field.name: getattr(columns, field.name) for field in fields(FileShape)})


def shape_flags(shape: FileShape) -> list[str]:
    """The flags that state a shape; none for what is the default."""
    return [
        f"--{field.name.replace('_', '-')} {value}"
        for field in fields(FileShape)
        if (value := getattr(shape, field.name)) != field.default
    ]
