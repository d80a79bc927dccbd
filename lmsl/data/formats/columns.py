"""Reading CoNLL-style columns: one word a line, a separator line between sentences.

The format was never written down, so the rules are spelt out here:

- Columns are separated by tabs or by runs of spaces, whichever most of the first lines have; a
  sentence all of whose lines have the other is read so. Tokens are kept byte for byte.
- A line without visible characters separates sentences: empty, spaces, a lone tab, or zero-width
  characters alone. Next to a tag, zero-width characters are a token like any other; a row with a
  tag and nothing where its word should be is a word without characters.
- ``-DOCSTART-`` and comments such as ``# newdoc id = X`` begin a document.
- A line that begins with ``#`` is a comment when it reads ``# key = value`` or ``# newdoc``, or
  when its number of columns is not that of the data and it stands before the first word of a
  sentence. ``#`` and ``#hashtag`` with a tag are words.
- In CoNLL-U the first column numbers the words; ranges (``3-4``) and empty nodes (``5.1``) are no
  words of their own and are skipped. A tag among the features of a cell (``name=B-PER``) is read.
- A table with a separator of its own (``--separator``) may have quoted cells and a header.

What the columns are is decided by the first thousand lines (`lmsl.data.formats.layout`); a later
line that is otherwise is refused, so that a stream is read as the same file would be.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from sys import intern

from lmsl.data.formats.cells import DOCSTART, Peeked, by_spaces, by_tabs, separates
from lmsl.data.formats.layout import SKIPPED_NODE, Layout, find_layout, is_comment
from lmsl.data.formats.options import ReadOptions
from lmsl.data.formats.raw import Raw
from lmsl.data.tags.notation import MAX_LABELS, check_number
from lmsl.errors import InputError
from lmsl.wording import counted, quoted

_NEW_DOCUMENT = re.compile(
    r"#\s*(?:newdoc\b(?:\s+id\b)?\s*=?|begin document\b|doc(?:ument)?(?:[ _]id)?\s*[=:])\s*(.*)"
)
_SENTENCE_ID = re.compile(r"#\s*sent_id\s*=\s*(.*)")
_MANY = 8 * MAX_LABELS
_ESCAPED = re.compile(r"\\(?:u([0-9a-f]{4})|(.))")
ESCAPES = "# escapes = \\t \\n \\r \\\\ \\uXXXX"
"""First line of a file in whose cells a backslash begins one of these."""


@dataclass(kw_only=True, slots=True)
class _Block:
    """The lines of one sentence, with what comments said about it."""

    document: str | None
    id: str | None = None
    first: int = 0
    """Number of the first line."""
    skipped: list[int] = field(default_factory=list)
    """How many lines had been taken before each comment inside."""
    lines: list[str] = field(default_factory=list)

    def numbers(self) -> Sequence[int]:
        """The number of each line."""
        if not self.skipped:
            return range(self.first, self.first + len(self.lines))
        return [self.first + i + bisect_right(self.skipped, i) for i in range(len(self.lines))]


def read_columns(
    lines: Peeked, source: str, options: ReadOptions, notes: list[str]
) -> Iterator[Raw]:
    """The sentences of a file as they come; `notes` are added to, the last at the end.

    Raises InputError with `source` and line for ragged rows and missing columns.
    """
    layout = find_layout(lines, source, options)
    notes += layout.notes
    reader = _Reader(layout, source, options)
    escaped = next(lines.peek(), None) == ESCAPES
    for block in _blocks(lines, layout):
        for raw in reader.raws(block):
            yield _unescaped(raw) if escaped else raw
    if reader.skipped:
        several = reader.skipped != 1
        notes.append(
            f"{counted(reader.skipped, 'multiword range')} or empty node{'s' * several} skipped"
        )
    if reader.untold:
        notes.append(
            f"{counted(reader.untold, 'word')} without {layout.feature}= in column "
            f"{(layout.tag or 0) + 1}: read as O"
        )


class _Reader:
    """Makes sentences of blocks of lines; equal words and tags share one string."""

    def __init__(self, layout: Layout, source: str, options: ReadOptions) -> None:
        self.layout, self.source, self.options = layout, source, options
        self.skipped = self.untold = 0
        self._tags = _Tags(source, layout.feature)

    def raws(self, block: _Block) -> Iterator[Raw]:
        numbers = block.numbers()
        rows = self._rows(block, numbers)
        if self.layout.numbered:
            rows, numbers = self._without_nodes(rows, numbers)
        starts = [0, len(rows)]
        if (column := self.layout.sentence) is not None:
            names = [row[column].strip() for row in rows]
            ends = [i for i in range(1, len(rows)) if names[i] and names[i] != names[i - 1]]
            starts = [0, *ends, len(rows)]
        for start, end in pairwise(starts):
            if start < end:
                yield self._raw(block, rows[start:end], numbers[start:end])

    def _rows(self, block: _Block, numbers: Sequence[int]) -> list[list[str]]:
        """The cells of each line, all as many as the layout has columns."""
        layout, lines = self.layout, block.lines
        width, split = layout.width, layout.split
        rows = (
            [line.split("\t") for line in lines] if split is by_tabs else list(map(split, lines))
        )
        strayed = split is by_spaces and "\t" in "".join(lines)
        if not strayed and set(map(len, rows)) == {width}:
            return rows
        if split in (by_spaces, by_tabs):
            tabs = sum("\t" in line for line in lines)
            if tabs in (0, len(lines)):
                rows = [by_tabs(line) if tabs else by_spaces(line) for line in lines]
                strayed = False
        for i, (line, row) in enumerate(zip(lines, rows, strict=True)):
            if len(row) == width - 1 and line[:1] == " " and layout.token == 0 and not strayed:
                row.insert(0, "")
            if strayed and "\t" in line:
                self._refuse(numbers[i], "columns separated by spaces", "a tab in the line")
            if len(row) != width:
                self._refuse(numbers[i], f"{counted(width, 'column')}", str(len(row)))
        return rows

    def _refuse(self, number: int, expected: str, found: str) -> None:
        advice = "" if self.options.labelled else ", or choose --format text for running text"
        raise InputError(
            f"{self.source}:{number}: expected {expected}, got {found}; correct the line"
            f"{self.layout.advice}{advice}"
        )

    def _without_nodes(
        self, rows: list[list[str]], numbers: Sequence[int]
    ) -> tuple[list[list[str]], Sequence[int]]:
        keep = [i for i, row in enumerate(rows) if not SKIPPED_NODE.fullmatch(row[0])]
        if len(keep) < len(rows):
            self.skipped += len(rows) - len(keep)
            rows, numbers = [rows[i] for i in keep], [numbers[i] for i in keep]
        for wanted, row in enumerate(rows, start=1):
            if row[0] != str(wanted):
                raise InputError(
                    f"{self.source}:{numbers[wanted - 1]}: expected {wanted}, as the first column "
                    f"numbers the words, got {quoted(row[0])}; correct it, or name the column of "
                    "the words with --token-column"
                )
        return rows, numbers

    def _raw(self, block: _Block, rows: list[list[str]], numbers: Sequence[int]) -> Raw:
        layout = self.layout
        columns = list(zip(*rows, strict=True))
        words, tags = columns[layout.token], None
        if layout.tag is not None:
            cells = columns[layout.tag]
            tags = tuple(map(self._tags.__getitem__, cells))
            if "" in tags:
                i = tags.index("")
                raise InputError(
                    f"{self.source}:{numbers[i]}: expected a tag for {quoted(words[i])}, got an "
                    "empty column"
                )
            if self._tags.untold:
                self.untold += sum(cell in self._tags.untold for cell in cells)
        return Raw(
            words=tuple(map(intern, words)),
            where=f"{self.source}:{numbers[0]}",
            lines=numbers,
            tags=tags,
            document=block.document,
            id=block.id,
        )


class _Tags(dict[str, str]):
    """From cells of the column of tags to tags, each different cell looked at once."""

    def __init__(self, source: str, feature: str | None) -> None:
        self.source, self.feature = source, feature
        self.untold: set[str] = set()

    def __missing__(self, cell: str) -> str:
        tag = cell.strip()
        if self.feature is not None:
            features = (part.partition("=") for part in tag.split("|"))
            tag = next((value for key, _, value in features if key == self.feature), "")
            if not tag:
                self.untold.add(cell)
                tag = "O"
        self[cell] = tag
        # Once: a million different labels are refused before they are all read.
        if len(self) == _MANY:
            check_number(self.source, self.values())
        return tag


def _unescaped(raw: Raw) -> Raw:
    raw.words = tuple(_ESCAPED.sub(_meant, word) if "\\" in word else word for word in raw.words)
    if raw.tags is not None:
        raw.tags = tuple(_ESCAPED.sub(_meant, t) if t and "\\" in t else t for t in raw.tags)
    return raw


def _meant(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    return {"t": "\t", "n": "\n", "r": "\r"}.get(match[2], match[2])


def _blocks(lines: Iterable[str], layout: Layout) -> Iterator[_Block]:
    document: str | None = None
    unnamed = 0
    block = _Block(document=document)
    taken = block.lines
    if layout.header is not None:
        lines = ("" if number == layout.header else line for number, line in enumerate(lines, 1))
    for number, line in enumerate(lines, start=1):
        # No line that begins with a letter or digit is anything but a row.
        if line[:1].isalnum() or _is_row(line, layout, inside=bool(taken)):
            if not taken:
                block.first = number
            taken.append(line)
        elif not line or line[0] != "#":
            starts_document = DOCSTART.match(line) is not None
            if taken:
                yield block
                block = _Block(document=document)
                taken = block.lines
            if starts_document:
                unnamed += 1
                document = block.document = str(unnamed)
        else:
            if new := _NEW_DOCUMENT.match(line):
                unnamed += 1
                document = block.document = new[1].strip() or str(unnamed)
            elif identifier := _SENTENCE_ID.match(line):
                block.id = identifier[1].strip() or None
            if taken:
                block.skipped.append(len(taken))
    if taken:
        yield block


def _is_row(line: str, layout: Layout, *, inside: bool) -> bool:
    """Whether a line is no separator, no document and no comment."""
    if not line or separates(line) or layout.empty(line) or DOCSTART.match(line):
        return False
    return line[0] != "#" or not is_comment(line, layout, inside=inside)
