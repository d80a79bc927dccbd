"""The cells of a line of columns, and what can be told of a file from those of its first lines."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, islice

from lmsl.data.formats.options import ReadOptions
from lmsl.data.tags.notation import looks_like_tag
from lmsl.errors import InputError
from lmsl.wording import quoted

DOCSTART = re.compile(r"-DOCSTART-(?:\s|$)")
COMMENT = re.compile(
    r"#\s*(?:[\w.:]+(?:\s+id)?\s+=(?:\s|$)|(?:newdoc|newpar|begin document|end document)\b)"
)
_INVISIBLE = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]*")
_TAG_NAMES = (
    "tag",
    "tags",
    "label",
    "labels",
    "ner",
    "ner_tag",
    "ner_tags",
    "iob",
    "bio",
    "entity",
)
_WORD_NAMES = ("word", "words", "token", "tokens", "form", "text")
_USUAL = (",", ";", "|")
_SNIFFED = 20
_LETTERS = re.compile(r"\w", re.UNICODE)

Split = Callable[[str], list[str]]


class Peeked:
    """Lines of which some can be looked at before all are taken."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._rest = iter(lines)
        self._seen: list[str] = []

    def peek(self) -> Iterator[str]:
        """The lines from the first on, each asked for only when it is looked at."""
        index = 0
        while True:
            if index == len(self._seen):
                line = next(self._rest, None)
                if line is None:
                    return
                self._seen.append(line)
            yield self._seen[index]
            index += 1

    def head(self, count: int) -> list[str]:
        return list(islice(self.peek(), count))

    def __iter__(self) -> Iterator[str]:
        seen, self._seen = self._seen, []
        return chain(seen, self._rest)


def separates(line: str) -> bool:
    """Whether a line has no visible character."""
    return _INVISIBLE.fullmatch(line) is not None


def by_tabs(line: str) -> list[str]:
    return line.split("\t")


def by_spaces(line: str) -> list[str]:
    cells = line.split(" ")
    return [cell for cell in cells if cell] if "" in cells else cells


def either(line: str) -> list[str]:
    """Cells between tabs where there are any, else between spaces."""
    return by_tabs(line) if "\t" in line else by_spaces(line)


def by_separator(separator: str) -> Split:
    """Cells between a separator, of which one in double quotes may hold it, as in CSV files."""
    mark = re.escape(separator)
    quoted_cell = re.compile(rf'"((?:[^"]|"")*)"(?={mark}|$)')

    def split(line: str) -> list[str]:
        if '"' not in line:
            return line.split(separator)
        cells, start = [], 0
        while start <= len(line):
            match = quoted_cell.match(line, start)
            end = match.end() if match else line.find(separator, start)
            end = len(line) if end < 0 else end
            cells.append(match[1].replace('""', '"') if match else line[start:end])
            start = end + len(separator)
        return cells

    return split


def separator_of(options: ReadOptions) -> str | None:
    """The separator that was asked for; None where tabs or spaces are looked for."""
    given = options.separator
    if given is None:
        return None
    separator = {"tab": "\t", "space": " "}.get(given, given)
    if not separator or _LETTERS.search(separator) or "\n" in separator or "\r" in separator:
        raise InputError(
            f"--separator: expected what stands between columns, such as , or ; or tab, got "
            f"{quoted(given)}"
        )
    return separator


def is_header(cells: list[str]) -> bool:
    """Whether the first line of a table names its columns."""
    names = [cell.strip().casefold() for cell in cells]
    return any(name in _TAG_NAMES for name in names) and any(name in _WORD_NAMES for name in names)


def word_column(header: list[str]) -> int | None:
    """Which column a header says holds the words."""
    names = [cell.strip().casefold() for cell in header]
    return next((names.index(name) for name in _WORD_NAMES if name in names), None)


def sentence_column(header: list[str]) -> int | None:
    """Which column a header says tells where a sentence begins."""
    names = [cell.strip().casefold() for cell in header]
    return next((i for i, name in enumerate(names) if name.startswith("sentence")), None)


def holds_rows(lines: Iterable[str], options: ReadOptions, known: Collection[str]) -> str | None:
    """How the first lines split into words and tags: ``columns``, a separator, or None.

    Every line must have as many cells as the others and a tag, or one of the `known` labels, in
    the column of tags. No line is asked for once that is impossible. Of a text hardly three lines
    in a row end in something like B-52.
    """
    splits: dict[str, Split] = {"columns": either, **{mark: by_separator(mark) for mark in _USUAL}}
    widths = dict.fromkeys(splits, 0)
    rows, outside = 0, False
    for line in lines:
        if DOCSTART.match(line):
            return "columns"
        if separates(line) or (line.startswith("#") and COMMENT.match(line)):
            continue
        for name, split in list(splits.items()):
            cells = [cell.strip() for cell in split(line)]
            width = widths[name] = widths[name] or len(cells)
            index = options.tag_column - (options.tag_column > 0)
            fits = len(cells) == width > 1 and -width <= index < width
            header = rows == 0 and name != "columns" and is_header(cells)
            if not (fits and (header or _is_tag(cells[index], options, known))):
                del splits[name]
            elif not header:
                outside |= cells[index] in ("O", "o")
        rows += 1
        if not splits or rows == _SNIFFED:
            break
    return next(iter(splits), None) if rows > 2 or outside else None


def _is_tag(cell: str, options: ReadOptions, known: Collection[str]) -> bool:
    return (
        looks_like_tag(cell)
        or cell == options.ignore_tag
        or cell in known
        or (
            "=" in cell and any(looks_like_tag(part.partition("=")[2]) for part in cell.split("|"))
        )
    )
