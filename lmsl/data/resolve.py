"""From sentences as files state them to sentences as the project knows them.

All formats meet here: notation and scheme of the tags are found once a file (or folder), tags
become IOB2, spans become tags, and everything that was repaired, dropped or chosen is counted into
notes.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from lmsl.data.formats.options import ReadOptions
from lmsl.data.formats.raw import Raw
from lmsl.data.spans import align_spans, refuse_losses
from lmsl.data.tags.notation import check_number, has_control, read_notation
from lmsl.data.tags.schemes import IGNORED, Detected, detect_scheme, spans_to_tags, to_iob2
from lmsl.data.tags.sentence import Dataset, Sentence
from lmsl.errors import InputError
from lmsl.wording import quoted

EMPTY_WORD = "\ufffd"
"""Stands for a word without a character: what was there was lost before the file was written."""

# What is counted, in the singular and the plural.
_COUNTED = {
    "repairs": (
        "1 tag breaks the scheme and was repaired",
        "{} tags break the scheme and were repaired",
    ),
    "overlapping": (
        "1 span overlaps a longer one and counts as missed",
        "{} spans overlap a longer one and count as missed",
    ),
    "cutting": (
        "1 span cuts a word and counts as missed",
        "{} spans cut a word and count as missed",
    ),
    "repeated": ("1 span stated twice, kept once", "{} spans stated twice, kept once"),
    "mismatched": (
        "1 span lies beside the text it states; its offsets were kept",
        "{} spans lie beside the text they state; their offsets were kept",
    ),
    "ignored": ("1 word has no label and is ignored", "{} words have no label and are ignored"),
    "blank": (
        f"1 row has a tag and no word: it is a word of its own, shown as {EMPTY_WORD}",
        f"{{}} rows have a tag and no word: they are words of their own, shown as {EMPTY_WORD}",
    ),
    "empty": ("1 sentence without words dropped", "{} sentences without words dropped"),
}


def resolve(
    raws: Iterable[Raw], source: str, options: ReadOptions, notes: Sequence[str] = ()
) -> Dataset:
    """Turn the sentences of one source into a dataset; `notes` come from its reader.

    Unlabelled reading keeps sentences without words, so that predictions line up with the input;
    labelled reading drops and counts them. `notes` is read when `raws` is at its end.
    """
    if not options.labelled:
        words_only = tuple(unlabelled(raw) for raw in raws)
        return Dataset(sentences=words_only, plain=False, source=source, notes=tuple(notes))
    counts: Counter[str] = Counter()
    kept = []
    for raw in raws:
        if raw.words or raw.spans:
            kept.append(raw)
        counts["empty"] += not (raw.words or raw.spans)
    scheme, said = _bring_to_scheme(kept, source, options, counts)
    plain = scheme.scheme == "plain"
    sentences: list[Sentence] = []
    for raw in kept:
        if "" in raw.words:
            _fill_blanks(raw, options, counts)
        if raw.tags is not None:
            tags, broken = to_iob2(
                _known(raw.tags), scheme.scheme, strict=options.strict_tags, where=raw.place
            )
            counts["repairs"] += len(broken)
            sentences.append(_sentence(raw, tags))
        elif plain:
            raise InputError(f"{raw.where}: spans cannot be read with --scheme plain")
        else:
            sentences.append(_with_spans(raw, options, counts))
    if not sentences:
        raise InputError(f"{source}: holds no sentence with words{_because(notes)}")
    if any(raw.spans for raw in kept):
        check_number(source, {span.type for raw in kept for span in raw.spans or ()})
    return Dataset(
        sentences=tuple(sentences),
        plain=plain,
        source=source,
        scheme=scheme.scheme,
        repairs=counts["repairs"],
        doubts=counts["mismatched"] + counts["blank"],
        notes=(*notes, *said, *_notes(scheme, counts, options)),
    )


def unlabelled(raw: Raw) -> Sentence:
    """The words alone."""
    if "" in raw.words:
        raw.words = tuple(word or EMPTY_WORD for word in raw.words)
    return _sentence(raw, None)


def _bring_to_scheme(
    raws: Sequence[Raw], source: str, options: ReadOptions, counts: Counter[str]
) -> tuple[Detected, list[str]]:
    """Find the scheme, and write the tags of all sentences in its usual notation."""
    kinds = set[str | None]().union(*(raw.tags for raw in raws if raw.tags))
    ignored = {None, options.ignore_tag}
    stated = {kind for kind in kinds if kind is not None and kind not in ignored}
    check_number(source, stated)
    if bad := next((kind for kind in sorted(stated) if has_control(kind)), None):
        place = next(r.place(r.tags.index(bad)) for r in raws if r.tags and bad in r.tags)
        raise InputError(f"{place}: expected tags without control characters, got {quoted(bad)}")
    try:
        certain = options.scheme != "auto"
        table: dict[str | None, str] = {}
        note = None
        if options.scheme not in ("plain", "bare"):
            table_of_tags, note = read_notation(stated, certain=certain)
            table.update(table_of_tags)
        table.update(dict.fromkeys(ignored, IGNORED))
        if table.keys() & kinds:
            for raw in raws:
                if raw.tags is not None:
                    raw.tags = tuple([table.get(tag, tag) for tag in raw.tags])
                    counts["ignored"] += raw.tags.count(IGNORED)
        if certain:
            scheme = Detected(options.scheme, "as chosen")
        else:
            scheme = detect_scheme([_known(raw.tags) for raw in raws if raw.tags])
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    tagged = any(raw.tags for raw in raws)
    said = [note] if note else []
    said += [f"scheme {scheme.scheme}: {scheme.reason}"] if tagged else []
    return scheme, said


def _known(tags: tuple[str | None, ...]) -> tuple[str, ...]:
    return tags  # type: ignore[return-value]


def _because(notes: Sequence[str]) -> str:
    return f" ({'; '.join(notes)})" if notes else ""


def _fill_blanks(raw: Raw, options: ReadOptions, counts: Counter[str]) -> None:
    if options.strict_tags:
        place = raw.place(raw.words.index(""))
        raise InputError(
            f"{place}: expected a word beside the tag, got nothing; put the word there, or leave "
            "out --strict-tags to have it read as a word of its own"
        )
    counts["blank"] += raw.words.count("")
    raw.words = tuple(word or EMPTY_WORD for word in raw.words)


def _with_spans(raw: Raw, options: ReadOptions, counts: Counter[str]) -> Sentence:
    alignment = align_spans(raw)
    if options.strict_tags:
        refuse_losses(raw, alignment)
    counts["overlapping"] += len(alignment.overlapping)
    counts["cutting"] += len(alignment.cutting)
    counts["repeated"] += alignment.repeated
    counts["mismatched"] += alignment.mismatched
    tags = spans_to_tags(alignment.spans, len(raw.words))
    return _sentence(raw, tags, missed=alignment.missed)


def _sentence(raw: Raw, tags: tuple[str, ...] | None, missed: tuple[str, ...] = ()) -> Sentence:
    return Sentence(
        words=raw.words,
        tags=tags,
        missed=missed,
        document=raw.document,
        id=raw.id,
        text=raw.text,
        offsets=raw.offsets,
        tokenized=raw.tokenized,
        where=raw.where,
    )


def _notes(scheme: Detected, counts: Counter[str], options: ReadOptions) -> list[str]:
    notes = []
    if scheme.scheme == "bare":
        notes.append("every tagged word counts as an entity of its own")
    if options.ignore_tag is not None and not counts["ignored"]:
        notes.append(f"no word has the ignored tag {quoted(options.ignore_tag)}")
    for key, (one, several) in _COUNTED.items():
        if number := counts[key]:
            notes.append(one if number == 1 else several.format(number))
    return notes
