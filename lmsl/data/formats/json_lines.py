"""Reading JSON: lines or one array of sentences, as word lists or as text with spans.

``{"tokens": [...], "tags": [...]}`` states words; a tag may be null for a word without a label.
``{"text": "...", "spans": [{"start", "end", "label"}]}`` states characters [start, end) of the
text, and the words are found by `lmsl.data.formats.words`. Both may have ``id`` and ``doc``. The
NLU++ shape ``{"text", "slots": {label: {"span": [start, end]}}}`` is read too (Casanueva et al.
2022).
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from lmsl.data.formats.options import ReadOptions
from lmsl.data.formats.raw import CharSpan, Raw
from lmsl.data.formats.words import split_words
from lmsl.data.tags.sentence import Name
from lmsl.errors import InputError


def read_json(text: str, source: str, options: ReadOptions) -> list[Raw]:
    """Read all sentences of a file; InputError names `source` and line (or item of an array)."""
    items = list(_items(text, source) if _is_array(text) else _lines(text, source))
    # NLU++ leaves "slots" out where there are none, so one sentence cannot tell the shape.
    nlupp = options.format == "nlupp" or any(
        isinstance(v, dict) and "slots" in v for _, v in items
    )
    return [json_raw(value, place, options, nlupp=nlupp) for place, value in items]


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
        words=tuple(text[start:end] for start, end in offsets),
        places=(place,),
        spans=None if spans is None else tuple(spans),
        text=text,
        offsets=offsets,
        document=document,
        id=id,
    )


def looks_like_json(text: str) -> bool:
    """Whether a file of unknown suffix holds JSON objects; ``{`` alone may be a token."""
    start = text.lstrip()
    if start.startswith("["):
        return start[1:].lstrip().startswith("{")
    if not start.startswith("{"):
        return False
    try:
        return isinstance(json.loads(start.split("\n", 1)[0]), dict)
    except ValueError:
        return False


def _is_array(text: str) -> bool:
    return text.lstrip().startswith("[")


def _items(text: str, source: str) -> Iterator[tuple[str, Any]]:
    try:
        values = json.loads(text)
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise InputError(f"{source}:{line}: not valid JSON ({_reason(error)})") from None
    _refuse_surrogates(text, values, source)
    for number, value in enumerate(values, start=1):
        yield f"{source}: item {number}", value


def _lines(text: str, source: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{source}:{number}"
        yield place, json_line(line, place)


def json_line(line: str, place: str) -> Any:
    """The value of one line; InputError names ``place``."""
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InputError(f"{place}: expected one JSON object a line ({_reason(error)})") from None
    _refuse_surrogates(line, value, place)
    return value


def _refuse_surrogates(text: str, value: Any, place: str) -> None:
    """JSON can spell half a character, which no file can hold: better now than on writing."""
    if "\\u" not in text:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise InputError(f"{place}: expected text, got {half}, half of a character") from None


def _reason(error: ValueError) -> str:
    return getattr(error, "msg", str(error))


def json_raw(value: Any, place: str, options: ReadOptions, *, nlupp: bool = False) -> Raw:
    """One sentence from its JSON object; InputError names ``place``."""
    if not isinstance(value, dict):
        raise InputError(f"{place}: expected a JSON object, got {type(value).__name__}")
    document, id = (_optional_name(value, key, place) for key in ("doc", "id"))
    if "tokens" in value:
        words = _strings(value, "tokens", place)
        tags = _tags(value, len(words), place) if options.labelled else None
        return Raw(words=words, places=(place,), tags=tags, document=document, id=id)
    text = value.get("text")
    if not isinstance(text, str):
        raise InputError(f'{place}: expected "tokens" (a list) or "text" (a string)')
    spans = _spans(value, place, nlupp=nlupp) if options.labelled else None
    return text_raw(text, spans, place, options, document=document, id=id)


def _optional_name(value: dict[str, Any], key: str, place: str) -> Name | None:
    name = value.get(key)
    if name is None or (isinstance(name, str | int) and not isinstance(name, bool)):
        return name
    raise InputError(f'{place}: expected a string or a whole number as "{key}", got {name!r}')


def _strings(value: dict[str, Any], key: str, place: str) -> tuple[str, ...]:
    items = value[key]
    if not isinstance(items, list) or not all(isinstance(item, str) and item for item in items):
        raise InputError(f'{place}: expected "{key}" to be a list of non-empty strings')
    return tuple(items)


def _tags(value: dict[str, Any], expected: int, place: str) -> tuple[str | None, ...]:
    tags = value.get("tags")
    if not isinstance(tags, list):
        raise InputError(f'{place}: expected "tags" beside "tokens"')
    if len(tags) != expected:
        raise InputError(f"{place}: expected as many tags as tokens ({expected}), got {len(tags)}")
    for tag in tags:
        if tag is not None and not (isinstance(tag, str) and tag.strip() and "\0" not in tag):
            raise InputError(f"{place}: expected tags to be strings or null, got {tag!r}")
    return tuple(tags)


def _spans(value: dict[str, Any], place: str, *, nlupp: bool) -> list[CharSpan]:
    if nlupp and "spans" not in value:
        slots = value.get("slots", {})
        if not isinstance(slots, dict):
            raise InputError(f'{place}: expected "slots" to be an object')
        return [_slot(label, slot, place) for label, slot in slots.items()]
    spans = value.get("spans")
    if not isinstance(spans, list):
        raise InputError(f'{place}: expected "spans" (a list) beside "text"')
    return [_span(span, place) for span in spans]


def _span(span: Any, place: str) -> CharSpan:
    keys = ("start", "end", "label")
    if not isinstance(span, dict) or any(key not in span for key in keys):
        raise InputError(f'{place}: expected a span with "start", "end" and "label", got {span!r}')
    return char_span(span["start"], span["end"], span["label"], span.get("text"), place)


def _slot(label: str, slot: Any, place: str) -> CharSpan:
    where = slot.get("span") if isinstance(slot, dict) else None
    if not isinstance(where, list) or len(where) != 2:
        raise InputError(f'{place}: expected slot {label!r} to have "span": [start, end]')
    return char_span(where[0], where[1], label, slot.get("text"), place)


def char_span(start: Any, end: Any, label: Any, surface: Any, place: str) -> CharSpan:
    """Check the types of a span's fields; its range is checked against the text later."""
    for name, number in (("start", start), ("end", end)):
        if not isinstance(number, int) or isinstance(number, bool):
            raise InputError(f"{place}: expected {name} to be a whole number, got {number!r}")
    if not isinstance(label, str) or not label.strip() or "\0" in label:
        raise InputError(f"{place}: expected label to be a non-empty string, got {label!r}")
    surface = surface if isinstance(surface, str) else None
    return CharSpan(start=start, end=end, type=label, surface=surface)
