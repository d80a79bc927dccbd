"""The tables of one run as text: scores, types, kinds of errors, partial credit, the unseen."""

from dataclasses import dataclass
from typing import Any

from lmsl.data.tags.unseen import GROUPS
from lmsl.report.errors import ERRORS, MEANING, Kind
from lmsl.report.semeval import semeval_scores
from lmsl.report.tally import Tally
from lmsl.statistics.metrics_file import SPLITS, refuse_other
from lmsl.statistics.one_run import OneRun
from lmsl.statistics.words import percent

FEW = 10
"""A type with fewer gold entities than this may look weak or strong by chance."""
MOST_ROWS = 15
"""Of a table by type; the others are folded away."""
NONE = "\u2013"

Row = tuple[str, ...]

GROUP_NAMES = {
    "seen": "with this type in train",
    "other_type": "in train with other types only",
    "unseen": "not in train",
}
_WORDS: dict[Kind, str] = {"right": "right", **ERRORS}
_AGREE = {
    "strict": "words and type",
    "exact": "words, whatever the type",
    "partial": "a shared word, whatever the type",
    "type": "the type, where a word is shared",
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under heads; some of them folded away."""

    heads: Row
    rows: tuple[Row, ...]
    folded: tuple[Row, ...] = ()
    fold: str = ""
    """What the folded rows are."""
    words: tuple[int, ...] = ()
    """Columns of words instead of numbers, beside the first."""


def score_table(one: OneRun) -> Table:
    """Each split that was scored."""
    scored = [(split, one.run.metrics[split]) for split in SPLITS if split in one.run.metrics]
    if one.plain:
        rows = [
            (split, percent(m["accuracy"]), percent(m["macro_f1"]), _number(m["gold"]))
            for split, m in reversed(scored)
        ]
        return Table(heads=("split", "accuracy", "macro-F1", "words"), rows=tuple(rows))
    rows_of_spans = tuple(
        (
            split,
            percent(m["f1"]),
            percent(m["precision"]),
            percent(m["recall"]),
            percent(m["macro_f1"]),
            *map(_number, (m["gold"], m["predicted"], m["correct"])),
        )
        for split, m in reversed(scored)
    )
    names = ("split", "F1", "precision", "recall", "macro-F1", "gold", "predicted", "right")
    return Table(heads=names, rows=rows_of_spans)


def type_table(one: OneRun, most: int = MOST_ROWS) -> Table:
    """Every type by F1, the weakest first; those with few gold entities apart."""
    found = one.metrics["per_type"]
    order = sorted(found, key=lambda kind: (found[kind]["f1"], -found[kind]["gold"], kind))
    rows = {
        kind: (
            kind,
            *map(_number, (found[kind]["gold"], found[kind]["predicted"])),
            *(percent(found[kind][name]) for name in ("precision", "recall", "f1")),
        )
        for kind in order
    }
    enough = [kind for kind in order if found[kind]["gold"] >= FEW]
    few = [kind for kind in order if found[kind]["gold"] < FEW]
    heads = ("tag" if one.plain else "type", "gold", "predicted", "precision", "recall", "F1")
    first = enough[:most] or few[:most]
    better, rest = enough[most:], [kind for kind in few if kind not in first]
    said = [f"{len(better)} with a higher F1"] if better else []
    said += [f"{len(rest)} with fewer than {FEW} in gold"] if rest else []
    return Table(
        heads=heads,
        rows=tuple(rows[kind] for kind in first),
        folded=tuple(rows[kind] for kind in (*better, *rest)),
        fold=", ".join(said),
    )


def kind_table(tally: Tally) -> Table:
    """Each kind of finding, with its share of either side."""
    kinds = tally.by_kind
    gold, predicted = tally.gold.total(), tally.predicted.total()
    rows = tuple(
        (
            _WORDS[kind],
            _number(kinds[kind]),
            NONE if kind == "spurious" else _share(kinds[kind], gold),
            NONE if kind == "missed" else _share(kinds[kind], predicted),
        )
        for kind in MEANING
    )
    return Table(heads=("kind", "count", "of gold", "of predicted"), rows=rows)


def meanings() -> tuple[tuple[str, str], ...]:
    """Each kind of finding and what it is."""
    return tuple((_WORDS[kind], meaning) for kind, meaning in MEANING.items())


def kinds_by_type(tally: Tally, most: int = MOST_ROWS) -> Table:
    """Each type with its findings of each kind, those with the most errors first."""
    size = tally.gold + tally.predicted
    order = sorted(size, key=lambda kind: (-tally.errors(kind), -size[kind], kind))
    rows = tuple(
        (
            kind,
            _number(tally.gold[kind]),
            *(
                _with_share(tally.kinds[each, kind], tally.gold[kind])
                for each in MEANING
                if each != "spurious"
            ),
            _with_share(tally.kinds["spurious", kind], tally.predicted[kind]),
        )
        for kind in order
    )
    heads = ("type", "gold", *MEANING)
    rest = rows[most:]
    return Table(heads=heads, rows=rows[:most], folded=rest, fold=f"{len(rest)} with fewer errors")


def semeval_table(tally: Tally) -> Table:
    """The four schemata of SemEval-2013."""
    rows = tuple(
        (
            each.schema,
            *map(
                _number,
                (each.correct, each.incorrect, each.partial, each.missing, each.spurious),
            ),
            *map(percent, (each.precision, each.recall, each.f1)),
            _AGREE[each.schema],
        )
        for each in semeval_scores(tally.by_kind)
    )
    counts = ("COR", "INC", "PAR", "MIS", "SPU")
    heads = ("schema", *counts, "precision", "recall", "F1", "what has to agree")
    return Table(heads=heads, rows=rows, words=(9,))


def confused_table(tally: Tally, most: int = 10) -> Table:
    """The most frequent pairs of two types."""
    rows = tuple(
        (str(gold), str(given), _number(count), _share(count, tally.gold[str(gold)]))
        for (gold, given), count in tally.confused[:most]
    )
    return Table(heads=("gold", "predicted", "count", "of this gold"), rows=rows, words=(1,))


def unseen_counts_of(one: OneRun) -> dict[str, dict[str, int]] | None:
    """What metrics.json says of entities and train; None in runs that are older than it.

    Raises:
        InputError: something else stands there.
    """
    found = one.metrics.get("unseen")
    if found is None:
        return None
    good = isinstance(found, dict) and all(_is_group(found.get(group)) for group in GROUPS)
    refuse_other(one.run.folder / "metrics.json", f"{one.split}: unseen", good, {})
    return {group: found[group] for group in GROUPS}


def unseen_table(one: OneRun) -> Table | None:
    """Scores by what train showed."""
    counts = unseen_counts_of(one)
    if counts is None:
        return None
    what = "word" if one.plain else "entity"
    rows = []
    for group, found in counts.items():
        gold, correct, predicted = found["gold"], found["correct"], found.get("predicted")
        cells = [_number(gold), _number(correct), _rate(correct, gold)]
        if predicted is None:
            cells += [NONE] * 3
        else:
            cells += [
                _number(predicted),
                _rate(correct, predicted),
                _rate(2 * correct, gold + predicted),
            ]
        rows.append((GROUP_NAMES[group], *cells))
    heads = (what, "gold", "right", "recall", "predicted", "precision", "F1")
    return Table(heads=heads, rows=tuple(rows))


def answer_table(one: OneRun) -> Table | None:
    """What was wrong with the answers of a model that writes them."""
    found = one.metrics.get("generation")
    if found is None:
        return None
    path = one.run.folder / "metrics.json"
    good = isinstance(found, dict) and all(isinstance(n, int) for n in found.values())
    refuse_other(path, f"{one.split}: generation", good and "answers" in found, {})
    of = {"unparsable": "answers", "truncated": "answers", "answers": "", "spans": ""}
    rows = []
    for name, count in found.items():
        whole = of.get(name, "spans")
        share = f"{_share(count, found.get(whole, 0))} of {whole}" if whole else NONE
        rows.append((name.replace("_", " "), _number(count), share))
    return Table(heads=("answers", "count", "share"), rows=tuple(rows))


def _is_group(found: Any) -> bool:
    if not isinstance(found, dict) or not {"gold", "correct"} <= found.keys():
        return False
    return all(isinstance(n, int) and n >= 0 for n in found.values())


def _number(count: int) -> str:
    return f"{count:,}"


def _share(count: int, of: int) -> str:
    return f"{100 * count / of:.1f} %" if of else NONE


def _with_share(count: int, of: int) -> str:
    return f"{count:,} ({100 * count / of:.0f} %)" if count and of else _number(count)


def _rate(count: int, of: int) -> str:
    return percent(count / of) if of else NONE
