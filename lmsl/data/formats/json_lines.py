"""Reading JSON: lines or one array of sentences, as word lists or as text with spans.

``{"tokens": [...], "tags": [...]}`` states words; a tag may be null for a word without a label.
``{"text": "...", "spans": [{"start", "end", "label"}]}`` states characters [start, end) of the
text, and the words are found by `lmsl.data.formats.words`, or stated beside them as ``tokens`` of
``{"text", "start", "end"}``. All may have ``id`` and ``doc``. Shapes of other tools are brought to
these by `lmsl.data.formats.json_shapes`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from lmsl.data.documents import parse_json
from lmsl.data.formats.cells import Peeked
from lmsl.data.formats.json_shapes import (
    NO_SPANS,
    found_keys,
    spans_of,
    standard,
    tags_of,
    tokens_of,
)
from lmsl.data.formats.options import ReadOptions
from lmsl.data.formats.raw import CharSpan, Raw
from lmsl.data.formats.words import split_words
from lmsl.data.tags.sentence import Name
from lmsl.errors import InputError
from lmsl.wording import counted, quoted

_LEFT_OUT = ("reject", "ignore")


def read_json(lines: Peeked, source: str, options: ReadOptions, notes: list[str]) -> Iterator[Raw]:
    """The sentences of a file as they come (an array is read whole); `notes` are added to.

    InputError names `source` and line (or item of an array).
    """
    first = next((line for line in lines.peek() if line.strip()), "")
    if first.lstrip().startswith("["):
        items = _items("\n".join(lines), source)
    else:
        items = _lines(lines, source)
    shapes: Counter[str] = Counter()
    alone: str | None = None
    left_out = 0
    for place, value in items:
        if options.labelled and isinstance(value, dict) and value.get("answer") in _LEFT_OUT:
            left_out += 1
            continue
        value, shape = standard(value, place, labelled=options.labelled)
        if shape == NO_SPANS:
            stated = {key: each for key, each in value.items() if key != "spans"}
            alone = (
                alone or f'{place}: expected "spans" (a list) beside "text", {found_keys(stated)}'
            )
        elif shape:
            shapes[shape] += 1
        yield json_raw(value, place, options)
    if alone and not (options.format == "nlupp" or "NLU++" in shapes):
        raise InputError(alone)
    del shapes["NLU++"]
    notes += [f"{counted(number, 'sentence')} of {shape}" for shape, number in shapes.items()]
    if left_out:
        notes.append(f"{counted(left_out, 'line')} answered reject or ignore, left out")


def text_raw(
    text: str,
    spans: Sequence[CharSpan] | None,
    place: str,
    options: ReadOptions,
    *,
    document: Name | None = None,
    id: Name | None = None,
) -> Raw:
    """A sentence of running text; `spans` of None means that it is not labelled."""
    offsets = split_words(text, options.words)
    return Raw(
        words=tuple([text[start:end] for start, end in offsets]),
        where=place,
        spans=None if spans is None else tuple(spans),
        text=text,
        offsets=offsets,
        document=document,
        id=id,
    )


def _items(text: str, source: str) -> Iterator[tuple[str, Any]]:
    values = parse_json(text, source, "valid JSON")
    return ((f"{source}: item {number}", value) for number, value in enumerate(values, start=1))


def _lines(lines: Peeked, source: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            place = f"{source}:{number}"
            yield place, parse_json(line, place, "one JSON object a line")


def json_raw(value: Any, place: str, options: ReadOptions) -> Raw:
    """One sentence from its JSON object in one of our shapes; InputError names ``place``."""
    document, id = (_optional_name(value, key, place) for key in ("doc", "id"))
    text = value.get("text")
    tokens = value.get("tokens")
    objects = isinstance(tokens, list) and any(isinstance(token, dict) for token in tokens)
    if "tokens" in value and not objects:
        words = _strings(value, "tokens", place)
        tags = tags_of(value, len(words), place) if options.labelled else None
        return Raw(words=words, where=place, tags=tags, document=document, id=id)
    if not isinstance(text, str):
        raise InputError(
            f'{place}: expected "tokens" (a list) or "text" (a string), {found_keys(value)}'
        )
    tagged = options.labelled and "tokens" in value and "spans" not in value and "tags" in value
    spans = spans_of(value, place) if options.labelled and not tagged else None
    if "tokens" not in value:
        return text_raw(text, spans, place, options, document=document, id=id)
    offsets = tokens_of(tokens, text, place)
    return Raw(
        words=tuple([text[start:end] for start, end in offsets]),
        where=place,
        tags=tags_of(value, len(offsets), place) if tagged else None,
        spans=None if spans is None else tuple(spans),
        text=text,
        offsets=offsets,
        tokenized=True,
        document=document,
        id=id,
    )


def _optional_name(value: dict[str, Any], key: str, place: str) -> Name | None:
    name = value.get(key)
    if name is None or (isinstance(name, str | int) and not isinstance(name, bool)):
        return name
    raise InputError(
        f'{place}: expected a string or a whole number as "{key}", got {quoted(name)}'
    )


def _strings(value: dict[str, Any], key: str, place: str) -> tuple[str, ...]:
    items = value[key]
    if not isinstance(items, list) or not all(isinstance(item, str) and item for item in items):
        raise InputError(f'{place}: expected "{key}" to be a list of non-empty strings')
    return tuple(items)
