"""Reading CoNLL-style columns: one word a line, a separator line between sentences.

The format was never written down, so the rules are spelt out here:

- Columns are separated by tabs where the sentence has any tab, else by runs of spaces. Tokens are
  kept byte for byte; only LF and CRLF end a line.
- A line without visible characters separates sentences: empty, spaces, a lone tab, or zero-width
  characters alone. Next to a tag, zero-width characters are a token like any other.
- ``-DOCSTART-`` and comments such as ``# newdoc id = X`` begin a document.
- A line that begins with ``#`` is a comment when it reads ``# key = value`` or ``# newdoc``, or
  when its number of columns is not that of the data and it stands before the first word of a
  sentence. ``#`` and ``#hashtag`` with a tag are words.
- In CoNLL-U the first column numbers the words; ranges (``3-4``) and empty nodes (``5.1``) are no
  words of their own and are skipped.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lmsl.data.formats.options import ReadOptions
from lmsl.data.formats.raw import Raw
from lmsl.errors import InputError

_DOCSTART = re.compile(r"-DOCSTART-(?:\s|$)")
_COMMENT = re.compile(
    r"#\s*(?:[\w.:]+(?:\s+id)?\s+=(?:\s|$)|(?:newdoc|newpar|begin document|end document)\b)"
)
_NEW_DOCUMENT = re.compile(
    r"#\s*(?:newdoc\b(?:\s+id\b)?\s*=?|begin document\b|doc(?:ument)?(?:[ _]id)?\s*[=:])\s*(.*)"
)
_SENTENCE_ID = re.compile(r"#\s*sent_id\s*=\s*(.*)")
_SKIPPED_NODE = re.compile(r"\d+[-.]\d+")
_NOT_SPACES = re.compile(r"[^ ]+")
_INVISIBLE = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]*")


@dataclass(kw_only=True)
class _Block:
    """The lines of one sentence, with what comments said about it."""

    document: str | None
    id: str | None = None
    numbers: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def read_columns(
    lines: Sequence[str], source: str, options: ReadOptions
) -> tuple[list[Raw], list[str]]:
    """Read the sentences of a file and notes on what was skipped.

    Raises InputError with `source` and line for ragged rows and missing columns.
    """
    width = _width(lines)
    blocks = list(_blocks(lines, width))
    for block in blocks:
        block.rows = _rows(block.lines)
        _check_widths(block, width, source, labelled=options.labelled)
    if not blocks:
        raise InputError(f"{source}: expected lines of columns, found no words")
    if width == 1 and options.labelled:
        raise InputError(
            f"{source}:{blocks[0].numbers[0]}: expected a word and a tag, got one column"
        )
    numbered = options.token_column is None and width > 1 and _first_column_numbers(blocks)
    token = 1 if numbered else _index(options.token_column or 1, width, "--token-column", source)
    tag = _index(options.tag_column, width, "--tag-column", source) if options.labelled else None
    if tag == token:
        raise InputError(
            f"--tag-column {options.tag_column}: column {token + 1} of {source} holds the words; "
            "columns count from 1, or from -1 (the last)"
        )
    notes = ["the first column numbers the words; the second holds them"] if numbered else []
    raws, skipped = [], 0
    for block in blocks:
        keep = [i for i, row in enumerate(block.rows) if not _skips(row, numbered)]
        skipped += len(block.rows) - len(keep)
        if keep:
            raws.append(_raw(block, keep, token, tag, source))
    if skipped:
        notes.append(f"{skipped} multiword ranges and empty nodes skipped")
    return raws, notes


def _blocks(lines: Iterable[str], width: int) -> Iterator[_Block]:
    document: str | None = None
    unnamed = 0
    block = _Block(document=document)
    for number, line in enumerate(lines, start=1):
        separates = _is_separator(line)
        starts_document = _DOCSTART.match(line) is not None
        if separates or starts_document:
            if block.lines:
                yield block
                block = _Block(document=document)
            if starts_document:
                unnamed += 1
                document = block.document = str(unnamed)
        elif _is_comment(line, width, inside=bool(block.lines)):
            if new := _NEW_DOCUMENT.match(line):
                unnamed += 1
                document = block.document = new[1].strip() or str(unnamed)
            elif identifier := _SENTENCE_ID.match(line):
                block.id = identifier[1].strip() or None
        else:
            block.numbers.append(number)
            block.lines.append(line)
    if block.lines:
        yield block


def _is_separator(line: str) -> bool:
    return _INVISIBLE.fullmatch(line) is not None


def _is_comment(line: str, width: int, *, inside: bool) -> bool:
    if not line.startswith("#"):
        return False
    fits = len(_columns(line, tabs="\t" in line)) == width
    if "\t" in line and fits:
        return False
    return _COMMENT.match(line) is not None or (not fits and not inside)


def _width(lines: Sequence[str]) -> int:
    """Number of columns of the data, 0 when there is none."""
    data = [i for i in lines if not _is_separator(i) and not _DOCSTART.match(i)]
    sure = next((line for line in data if not line.startswith("#")), None)
    if sure is not None:
        return len(_columns(sure, tabs="\t" in sure))
    # Every line begins with "#": tabs tell words from remarks, else the shape of comments does.
    likely = [line for line in data if "\t" in line] or [
        line for line in data if not _COMMENT.match(line)
    ]
    counts = Counter(len(_columns(line, tabs="\t" in line)) for line in likely)
    return counts.most_common(1)[0][0] if counts else 0


def _rows(lines: Sequence[str]) -> list[list[str]]:
    tabs = any("\t" in line for line in lines)
    return [_columns(line, tabs=tabs) for line in lines]


def _columns(line: str, *, tabs: bool) -> list[str]:
    return line.split("\t") if tabs else _NOT_SPACES.findall(line)


def _check_widths(block: _Block, width: int, source: str, *, labelled: bool) -> None:
    for number, row in zip(block.numbers, block.rows, strict=True):
        if len(row) != width:
            advice = "" if labelled else ", or choose --format text for running text"
            raise InputError(
                f"{source}:{number}: expected {width} columns, got {len(row)}; "
                f"correct the line{advice}"
            )


def _index(column: int, width: int, name: str, source: str) -> int:
    if not (1 <= column <= width or -width <= column <= -1):
        raise InputError(
            f"{name} {column}: {source} has {width} columns, counted from 1 or from -1 (the last)"
        )
    return column - 1 if column > 0 else width + column


def _first_column_numbers(blocks: Sequence[_Block]) -> bool:
    for block in blocks:
        ids = [row[0] for row in block.rows if not _SKIPPED_NODE.fullmatch(row[0])]
        if ids != [str(i) for i in range(1, len(ids) + 1)]:
            return False
    return True


def _skips(row: Sequence[str], numbered: bool) -> bool:
    return numbered and _SKIPPED_NODE.fullmatch(row[0]) is not None


def _raw(block: _Block, keep: Sequence[int], token: int, tag: int | None, source: str) -> Raw:
    places = tuple(f"{source}:{block.numbers[i]}" for i in keep)
    words = tuple(block.rows[i][token] for i in keep)
    tags = None if tag is None else tuple(block.rows[i][tag].strip() for i in keep)
    for i, place in enumerate(places):
        if not words[i]:
            raise InputError(f"{place}: expected a word in column {token + 1}, got nothing")
        if tags is not None and not tags[i]:
            raise InputError(f"{place}: expected a tag for {words[i]!r}, got an empty column")
    return Raw(words=words, places=places, tags=tags, document=block.document, id=block.id)
