"""From sentences as files state them to sentences as the project knows them.

All formats meet here: the scheme is found once a file (or folder), tags become IOB2, spans become
tags, and everything that was repaired, dropped or chosen is counted into notes.
"""

from collections import Counter
from collections.abc import Sequence

from lmsl.data.formats.options import ReadOptions
from lmsl.data.formats.raw import Raw
from lmsl.data.spans import align_spans, refuse_losses
from lmsl.data.tags.schemes import IGNORED, Detected, detect_scheme, spans_to_tags, to_iob2
from lmsl.data.tags.sentence import Dataset, Sentence
from lmsl.errors import InputError

_COUNTED = {
    "repairs": "{} tags break the scheme and were repaired",
    "overlapping": "{} spans overlap a longer one and count as missed",
    "cutting": "{} spans cut a word and count as missed",
    "repeated": "{} spans stated twice, kept once",
    "mismatched": "{} spans lie beside the text they state; their offsets were kept",
    "ignored": "{} words have no label and are ignored",
    "empty": "{} sentences without words dropped",
}


def resolve(
    raws: Sequence[Raw], source: str, options: ReadOptions, notes: Sequence[str] = ()
) -> Dataset:
    """Turn the sentences of one source into a dataset; `notes` come from its reader.

    Unlabelled reading keeps sentences without words, so that predictions line up with the input;
    labelled reading drops and counts them.
    """
    if not options.labelled:
        words_only = tuple(_sentence(raw, None) for raw in raws)
        return Dataset(sentences=words_only, plain=False, source=source, notes=tuple(notes))
    kept = [raw for raw in raws if raw.words or raw.spans]
    counts = Counter(empty=len(raws) - len(kept))
    sequences = {i: _mark_ignored(raw, options, counts) for i, raw in enumerate(kept) if raw.tags}
    scheme = _scheme(list(sequences.values()), options)
    plain = scheme.scheme == "plain"
    sentences: list[Sentence] = []
    for i, raw in enumerate(kept):
        if i in sequences:
            tags, broken = to_iob2(
                sequences[i], scheme.scheme, strict=options.strict_tags, where=raw.place
            )
            counts["repairs"] += len(broken)
            sentences.append(_sentence(raw, tags))
        elif plain:
            raise InputError(f"{raw.places[0]}: spans cannot be read with --scheme plain")
        else:
            sentences.append(_with_spans(raw, options, counts))
    if not sentences:
        raise InputError(f"{source}: holds no sentence with words")
    return Dataset(
        sentences=tuple(sentences),
        plain=plain,
        source=source,
        scheme=scheme.scheme,
        repairs=counts["repairs"],
        notes=(*notes, *_notes(scheme, bool(sequences), counts, options)),
    )


def _mark_ignored(raw: Raw, options: ReadOptions, counts: Counter[str]) -> tuple[str, ...]:
    assert raw.tags is not None
    tags = tuple(IGNORED if tag in (None, options.ignore_tag) else tag for tag in raw.tags)
    counts["ignored"] += tags.count(IGNORED)
    return tags


def _scheme(sequences: Sequence[Sequence[str]], options: ReadOptions) -> Detected:
    if options.scheme != "auto":
        return Detected(options.scheme, "as chosen")
    return detect_scheme(sequences)


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
        where=raw.places[0],
    )


def _notes(
    scheme: Detected, tagged: bool, counts: Counter[str], options: ReadOptions
) -> list[str]:
    notes = []
    if tagged:
        notes.append(f"scheme {scheme.scheme}: {scheme.reason}")
    if scheme.scheme == "bare":
        notes.append("every tagged word counts as an entity of its own")
    if options.ignore_tag is not None and not counts["ignored"]:
        notes.append(f"no word has the ignored tag {options.ignore_tag!r}")
    return notes + [text.format(counts[key]) for key, text in _COUNTED.items() if counts[key]]
