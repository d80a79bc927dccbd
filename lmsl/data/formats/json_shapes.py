"""Sentences of other tools brought to our shapes, and the fields of those.

Read are exports of doccano (``label`` or ``entities`` beside ``text``), Label Studio (``data`` and
``annotations``), GLiNER (``tokenized_text`` and ``ner``), Hugging Face (``tokens`` and
``ner_tags`` as text), and NLU++ (``slots``; Casanueva et al. 2022). What was recognised is said.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from lmsl.data.formats.raw import CharSpan
from lmsl.data.tags.notation import has_control
from lmsl.errors import InputError
from lmsl.wording import quoted, shortened

TAG_KEYS = ("tags", "ner_tags", "labels", "chunk_tags", "pos_tags")
"""Where tags beside words may stand; the first that is there counts."""

_DOCCANO = ("entities", "label", "labels")


NO_SPANS = "text alone"
"""NLU++ leaves ``slots`` out where there are none, so one sentence cannot tell the shape."""


def standard(value: Any, place: str, *, labelled: bool) -> tuple[dict[str, Any], str | None]:
    """A sentence in one of our shapes, and the name of the shape it came in where it is another's.

    Raises:
        InputError: no object, or one that misses what its shape has.
    """
    if not isinstance(value, dict):
        raise InputError(f"{place}: expected a JSON object, got {type(value).__name__}")
    if "tokenized_text" in value and "tokens" not in value:
        return _gliner(value, place, labelled=labelled), "GLiNER"
    if isinstance(value.get("data"), dict) and "text" not in value:
        return _label_studio(value, place, labelled=labelled), "Label Studio"
    if not labelled:
        return value, None
    if "slots" in value and not value.keys() & {"spans", "tokens"}:
        return {**value, "spans": _slots(value["slots"], place)}, "NLU++"
    if isinstance(value.get("tokens"), list) and "tags" not in value and "spans" not in value:
        key = next((key for key in TAG_KEYS if key in value), None)
        if key is not None:
            return {**value, "tags": _texts(value, key, place)}, f"words with {key!r}"
    if "text" in value and "spans" not in value and "tokens" not in value:
        key = next((key for key in _DOCCANO if isinstance(value.get(key), list)), None)
        if key is not None:
            spans = [s for item in value[key] for s in _doccano(item, place)]
            return {**value, "spans": spans}, f"text with {key!r}"
        if "spans" not in value and isinstance(value["text"], str):
            return {**value, "spans": []}, NO_SPANS
    return value, None


def _gliner(value: dict[str, Any], place: str, *, labelled: bool) -> dict[str, Any]:
    """Spans over words, the last one included; the text is the words with spaces between."""
    words = value["tokenized_text"]
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise InputError(f'{place}: expected "tokenized_text" to be a list of non-empty strings')
    ends = list(accumulate(len(word) + 1 for word in words))
    tokens = [
        {"text": word, "start": end - 1 - len(word), "end": end - 1}
        for word, end in zip(words, ends, strict=True)
    ]
    found = {**value, "tokens": tokens, "text": " ".join(words)}
    if not labelled:
        return found
    spans = []
    entities = value.get("ner")
    for entity in entities if isinstance(entities, list) else [None]:
        first, last, label = entity if _is_triple(entity) else (None, None, None)  # type: ignore
        if not (isinstance(first, int) and isinstance(last, int) and first <= last):
            raise InputError(
                f'{place}: expected "ner" to be a list of [first word, last word, label], got '
                f"{quoted(entity)}"
            )
        if first < 0 or last >= len(words):
            raise InputError(
                f"{place}: expected words from 0 to {len(words) - 1}, got {quoted(entity)}"
            )
        start, end = tokens[first]["start"], tokens[last]["end"]
        spans.append({"start": start, "end": end, "label": label})
    return {**found, "spans": spans}


def _label_studio(value: dict[str, Any], place: str, *, labelled: bool) -> dict[str, Any]:
    """The text of a task and the spans of its one annotation that was not cancelled."""
    texts = [text for text in value["data"].values() if isinstance(text, str)]
    text = value["data"].get("text", texts[0] if len(texts) == 1 else None)
    found = {"text": text, **{key: value[key] for key in ("id",) if key in value}}
    if not labelled:
        return found
    given = value.get("annotations", value.get("completions"))
    annotations = [
        a
        for a in (given if isinstance(given, list) else [])
        if isinstance(a, dict) and not a.get("was_cancelled")
    ]
    if len(annotations) != 1:
        raise InputError(
            f'{place}: expected one entry of "annotations" that was not cancelled, got '
            f"{len(annotations)}; export one annotation a task"
        )
    spans = []
    for result in annotations[0].get("result", ()):
        marked = result.get("value") if isinstance(result, dict) else None
        if not isinstance(marked, dict) or not isinstance(marked.get("labels"), list):
            raise InputError(
                f'{place}: expected results with "value": {{"start", "end", "labels"}}, got '
                f"{quoted(result)}"
            )
        spans += [{**marked, "label": label} for label in marked["labels"]]
    return {**found, "spans": spans}


def _doccano(item: Any, place: str) -> list[dict[str, Any]]:
    """A span as [start, end, label], or as an object with these under names of several tools."""
    if _is_triple(item):
        return [dict(zip(("start", "end", "label"), item, strict=True))]
    if isinstance(item, dict):
        start, end = (item.get(key, item.get(f"{key}_offset")) for key in ("start", "end"))
        labels = item.get("labels", [item.get("label")])
        if isinstance(labels, list):
            return [{**item, "start": start, "end": end, "label": label} for label in labels]
    raise InputError(f"{place}: expected spans as [start, end, label], got {quoted(item)}")


def _is_triple(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3


def _slots(slots: Any, place: str) -> list[dict[str, Any]]:
    if not isinstance(slots, dict):
        raise InputError(f'{place}: expected "slots" to be an object')
    spans = []
    for label, slot in slots.items():
        where = slot.get("span") if isinstance(slot, dict) else None
        if not isinstance(where, list) or len(where) != 2:
            raise InputError(
                f'{place}: expected slot {quoted(label)} to have "span": [start, end]'
            )
        span = {"start": where[0], "end": where[1], "label": label, "text": slot.get("text")}
        spans.append(span)
    return spans


def found_keys(value: dict[str, Any]) -> str:
    """What an object has instead, for messages."""
    return f"got keys {shortened(', '.join(value))}" if value else "got no keys"


def _texts(value: dict[str, Any], key: str, place: str) -> Any:
    tags = value[key]
    if isinstance(tags, list) and any(isinstance(tag, int) for tag in tags):
        raise InputError(
            f'{place}: expected "{key}" to be tags as text, got numbers without names (keys '
            f"{shortened(', '.join(value))}); write the names of the tags instead"
        )
    return tags


def tags_of(value: dict[str, Any], expected: int, place: str) -> tuple[str | None, ...]:
    """Tags beside words, one each."""
    tags = value.get("tags")
    if not isinstance(tags, list):
        raise InputError(f'{place}: expected "tags" beside "tokens", {found_keys(value)}')
    if len(tags) != expected:
        raise InputError(f"{place}: expected as many tags as tokens ({expected}), got {len(tags)}")
    for tag in tags:
        if tag is not None and not (isinstance(tag, str) and tag.strip() and "\0" not in tag):
            raise InputError(f"{place}: expected tags to be strings or null, got {quoted(tag)}")
    return tuple(tags)


def tokens_of(tokens: Sequence[Any], text: str, place: str) -> tuple[tuple[int, int], ...]:
    """Characters of words stated beside the text, in order."""
    offsets: list[tuple[int, int]] = []
    before = 0
    for token in tokens:
        stated = token if isinstance(token, dict) else {}
        places = [stated.get("start"), stated.get("end")]
        start, end = (place if isinstance(place, int) else -1 for place in places)
        if not before <= start < end <= len(text):
            raise InputError(
                f'{place}: expected tokens with "start" and "end" in the order of the text, got '
                f"{quoted(token)}"
            )
        if token.get("text", text[start:end]) != text[start:end]:
            raise InputError(
                f"{place}: expected the token {quoted(token['text'])} at [{start}, {end}), found "
                f"{quoted(text[start:end])} there"
            )
        offsets.append((start, end))
        before = end
    return tuple(offsets)


def spans_of(value: dict[str, Any], place: str) -> list[CharSpan]:
    """Spans beside a text."""
    spans = value.get("spans")
    if not isinstance(spans, list):
        raise InputError(
            f'{place}: expected "spans" (a list) beside "text", got keys '
            f"{shortened(', '.join(value))}"
        )
    return [_span(span, place) for span in spans]


def _span(span: Any, place: str) -> CharSpan:
    keys = ("start", "end", "label")
    if not isinstance(span, dict) or any(key not in span for key in keys):
        raise InputError(
            f'{place}: expected a span with "start", "end" and "label", got {quoted(span)}'
        )
    return char_span(span["start"], span["end"], span["label"], span.get("text"), place)


def char_span(start: Any, end: Any, label: Any, surface: Any, place: str) -> CharSpan:
    """Check the types of a span's fields; its range is checked against the text later."""
    for name, number in (("start", start), ("end", end)):
        if not isinstance(number, int) or isinstance(number, bool):
            raise InputError(
                f"{place}: expected {name} to be a whole number, got {quoted(number)}"
            )
    if not isinstance(label, str) or not label.strip() or has_control(label):
        raise InputError(
            f"{place}: expected label to be a non-empty string without control characters, got "
            f"{quoted(label)}"
        )
    surface = surface if isinstance(surface, str) else None
    return CharSpan(start=start, end=end, type=label, surface=surface)
