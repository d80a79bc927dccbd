"""What the columns of a file are, told from its first lines."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from lmsl.data.formats.cells import (
    COMMENT,
    DOCSTART,
    Peeked,
    Split,
    by_separator,
    by_spaces,
    by_tabs,
    either,
    holds_rows,
    is_header,
    sentence_column,
    separates,
    separator_of,
    word_column,
)
from lmsl.data.formats.options import ReadOptions
from lmsl.data.tags.notation import looks_like_tag
from lmsl.errors import InputError
from lmsl.wording import counted, quoted, shortened

HEAD = 1000
"""Lines that decide."""

SKIPPED_NODE = re.compile(r"\d+[-.]\d+")
_FEATURES = re.compile(r"_|[^\s=|]+=[^|]*(?:\|[^\s=|]+=[^|]*)*")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which columns there are, counted from 0, and how a line is split into them."""

    width: int
    split: Split
    table: bool
    """A separator was asked for."""
    token: int
    tag: int | None
    """None where no tags are read."""
    numbered: bool
    feature: str | None
    """Name of the feature that holds the tag, where the column of tags holds features."""
    header: int | None
    """Line that names the columns."""
    sentence: int | None
    """Column that tells where a sentence begins."""
    notes: tuple[str, ...]
    advice: str = ""
    """What a ragged line may come from."""

    def empty(self, line: str) -> bool:
        """Whether a line of a table has separators only."""
        return self.table and not any(cell.strip() for cell in self.split(line))


def find_layout(lines: Peeked, source: str, options: ReadOptions) -> Layout:
    """Find out what the columns of a file are.

    Raises:
        InputError: there are no words, or the columns asked for are not there.
    """
    head = lines.head(HEAD)
    separator = separator_of(options)
    data = [(i, line) for i, line in enumerate(head, start=1) if not _is_no_row(line)]
    split = _split(separator, [line for _, line in data])
    width = _width([line for _, line in data], either if separator is None else split)
    if not width:
        raise InputError(f"{source}: expected lines of columns, found no words")
    rows = _sentences(head, split, width)
    first = data[0][0]
    advice = _other_separator(head, options)
    if width == 1 and (options.labelled or advice):
        wanted = "a word and a tag" if options.labelled else "words alone"
        raise InputError(f"{source}:{first}: expected {wanted}, got one column{advice}")
    header = split(data[0][1]) if separator is not None else []
    header = header if is_header(header) and len(header) == width else []
    rows = [block[1:] if header and i == 0 else block for i, block in enumerate(rows)]
    numbered = options.token_column is None and not header and _first_column_numbers(rows, width)
    stated = word_column(header) if options.token_column is None else None
    token = 1 if numbered else _index(options.token_column or 1, width, "--token-column", source)
    token = token if stated is None else stated
    tag = _index(options.tag_column, width, "--tag-column", source) if options.labelled else None
    if tag == token:
        reading = "; --token-column 1 reads the first column as words" if numbered else ""
        raise InputError(
            f"--tag-column {options.tag_column}: column {token + 1} of {source} holds the words; "
            f"columns count from 1, or from -1 (the last){reading}"
        )
    feature = None if tag is None else _feature(rows, tag, source, options)
    notes = ["the first column numbers the words; the second holds them"] if numbered else []
    if header:
        named = shortened(", ".join(cell.strip() for cell in header))
        notes.append(f"the first line names the columns ({named})")
    if feature is not None and tag is not None:
        notes.append(f"tags are those after {feature}= in column {tag + 1}")
    return Layout(
        width=width,
        split=split,
        table=separator is not None,
        token=token,
        tag=tag,
        numbered=numbered,
        feature=feature,
        header=first if header else None,
        sentence=sentence_column(header),
        notes=tuple(notes),
        advice=advice,
    )


def is_comment(line: str, layout: Layout, *, inside: bool) -> bool:
    return _is_comment(line, layout.split, layout.width, table=layout.table, inside=inside)


def _is_comment(line: str, split: Split, width: int, *, table: bool, inside: bool) -> bool:
    if not line.startswith("#"):
        return False
    cells = split(line) if table else either(line)
    fits = len(cells) == width
    if fits and len(cells) > 1 and (table or "\t" in line):
        return False
    return COMMENT.match(line) is not None or (not fits and not inside)


def _is_no_row(line: str) -> bool:
    return separates(line) or DOCSTART.match(line) is not None


def _split(separator: str | None, data: Sequence[str]) -> Split:
    if separator == " ":
        return by_spaces
    if separator is not None:
        return by_tabs if separator == "\t" else by_separator(separator)
    rows = [line for line in data if not line.startswith("#")]
    tabs = sum("\t" in line for line in rows or data)
    return by_tabs if 2 * tabs > len(rows) else by_spaces


def _width(data: Sequence[str], split: Split) -> int:
    """Number of columns of the data, 0 when there is none."""
    sure = next((line for line in data if not line.startswith("#")), None)
    if sure is not None:
        return len(split(sure))
    # Every line begins with "#": tabs tell words from remarks, else the shape of comments does.
    likely = [line for line in data if "\t" in line] or [
        line for line in data if not COMMENT.match(line)
    ]
    counts = Counter(len(split(line)) for line in likely)
    return counts.most_common(1)[0][0] if counts else 0


def _sentences(head: Sequence[str], split: Split, width: int) -> list[list[list[str]]]:
    """The rows of the first sentences that have as many columns as they should."""
    found = []
    for apart, lines in groupby(head, _is_no_row):
        rows = [] if apart else [split(line) for line in lines if not _remark(line, split, width)]
        if rows := [row for row in rows if len(row) == width]:
            found.append(rows)
    return found


def _remark(line: str, split: Split, width: int) -> bool:
    return line.startswith("#") and len(split(line)) != width


def _other_separator(head: Sequence[str], options: ReadOptions) -> str:
    """The flag that would read these lines, if another separator stands between their columns."""
    if options.separator is not None:
        return ""
    # Nothing is known of the columns of another separator: the last is where tags are.
    mark = holds_rows(head, ReadOptions(ignore_tag=options.ignore_tag), ())
    return "" if mark in (None, "columns") else f", or read it with --separator '{mark}'"


def _index(column: int, width: int, name: str, source: str) -> int:
    if not (1 <= column <= width or -width <= column <= -1):
        raise InputError(
            f"{name} {quoted(column)}: {source} has {counted(width, 'column')}, counted from 1 or "
            "from -1 (the last)"
        )
    return column - 1 if column > 0 else width + column


def _first_column_numbers(sentences: Sequence[Sequence[Sequence[str]]], width: int) -> bool:
    """Whether a word and a tag remain beside a first column of running numbers."""
    worded = False
    for rows in sentences:
        kept = [row for row in rows if not SKIPPED_NODE.fullmatch(row[0])]
        if width < 3 or [row[0] for row in kept] != [str(i) for i in range(1, len(kept) + 1)]:
            return False
        # Places, scores and tags, as predictions have them beside a word, are no words.
        worded = worded or any(not (row[1].isdigit() or looks_like_tag(row[1])) for row in kept)
    return worded


def _feature(
    sentences: Sequence[Sequence[Sequence[str]]], tag: int, source: str, options: ReadOptions
) -> str | None:
    """The feature that holds tags, where every cell of the column of tags holds features."""
    cells = {row[tag].strip() for rows in sentences for row in rows} - {""}
    if options.scheme in ("plain", "bare") or not any("=" in cell for cell in cells):
        return None
    if not all(_FEATURES.fullmatch(cell) for cell in cells):
        return None
    values: dict[str, set[str]] = {}
    for cell in cells - {"_"}:
        for part in cell.split("|"):
            key, _, value = part.partition("=")
            values.setdefault(key, set()).add(value)
    keys = [key for key, found in values.items() if all(map(looks_like_tag, found))]
    if len(keys) != 1:
        what = f"tags in {' and '.join(sorted(keys))}" if keys else "none of them a tag"
        raise InputError(
            f"{source}: expected tags in column {tag + 1}, got features "
            f"({shortened(', '.join(sorted(values)))}; {shortened(what)}); name the column of the "
            "tags with --tag-column, or read whole cells as labels with --scheme plain"
        )
    return keys[0]
