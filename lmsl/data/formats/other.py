"""Readers of the smaller formats: SemEval-2014 ABSA XML, seq.in/seq.out pairs, running text."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from pathlib import Path

from lmsl.data.formats.json_lines import text_raw
from lmsl.data.formats.json_shapes import char_span
from lmsl.data.formats.options import ReadOptions
from lmsl.data.formats.raw import CharSpan, Raw
from lmsl.data.formats.source import read_text, split_lines
from lmsl.errors import InputError
from lmsl.wording import counted, shortened

WORDS_FILE, TAGS_FILE = "seq.in", "seq.out"
_NOT_SPACES = re.compile(r"[^ \t]+")


def read_absa(text: str, source: str, options: ReadOptions) -> list[Raw]:
    """Read aspect terms with their polarity as label (Pontiki et al. 2014, subtasks 1 and 2).

    Offsets count characters of the text after entities such as ``&amp;`` are resolved.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(
            f"{source}:{error.position[0]}: not valid XML ({shortened(error.msg)})"
        ) from None
    raws = []
    for number, element in enumerate(root.iter("sentence"), start=1):
        place = f"{source}: sentence {number}"
        body = element.find("text")
        if body is None:
            raise InputError(f"{place}: expected a <text> element")
        spans = [_aspect(term, place) for term in element.iter("aspectTerm")]
        raws.append(
            text_raw(
                body.text or "",
                spans if options.labelled else None,
                place,
                options,
                id=element.get("id"),
            )
        )
    if not raws:
        raise InputError(
            f"{source}: expected <sentence> elements, found <{shortened(root.tag)}> without any"
        )
    return raws


def _aspect(term: ElementTree.Element, place: str) -> CharSpan:
    values = {name: term.get(name) for name in ("from", "to", "polarity")}
    for name, value in values.items():
        if value is None:
            raise InputError(f"{place}: expected <aspectTerm> to have {name!r}")
    start, end = (_number(values[name]) for name in ("from", "to"))
    return char_span(start, end, values["polarity"], term.get("term"), place)


def _number(text: str | None) -> int | str | None:
    return int(text) if text is not None and re.fullmatch("[0-9]{1,18}", text) else text


def read_seq(folder: Path, options: ReadOptions) -> tuple[list[Raw], list[str]]:
    """Read a folder with `seq.in` (words, spaces between) and, line by line, `seq.out` (tags)."""
    source = str(folder / WORDS_FILE)
    sentences = split_lines(read_text(folder / WORDS_FILE))
    tag_lines: list[str] | None = None
    if options.labelled:
        tag_lines = split_lines(read_text(folder / TAGS_FILE))
        if len(tag_lines) != len(sentences):
            raise InputError(
                f"{folder / TAGS_FILE}: expected {counted(len(sentences), 'line')} as "
                f"{WORDS_FILE}, got {len(tag_lines)}"
            )
    raws, empty = [], 0
    for number, line in enumerate(sentences, start=1):
        words = tuple(_NOT_SPACES.findall(line))
        tags = None if tag_lines is None else tuple(_NOT_SPACES.findall(tag_lines[number - 1]))
        if tags is not None and len(tags) != len(words):
            raise InputError(
                f"{folder / TAGS_FILE}:{number}: expected {counted(len(words), 'tag')} as "
                f"{WORDS_FILE} has words, got {len(tags)}"
            )
        if words:
            raws.append(Raw(words=words, where=f"{source}:{number}", tags=tags))
        empty += not words
    return raws, [f"{counted(empty, 'empty line')} skipped"] if empty else []


def read_running_text(lines: Iterable[str], source: str, options: ReadOptions) -> Iterator[Raw]:
    """Read one sentence a line, unlabelled; empty lines are kept so that output lines up."""
    if options.labelled:
        raise InputError(f"{source}: --format text has no tags; it is for prediction only")
    return (
        text_raw(line, None, f"{source}:{number}", options)
        for number, line in enumerate(lines, start=1)
    )
