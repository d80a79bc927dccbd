"""A report on data before anything is trained on it.

Most surprises of a labelling run are in its files: a wrong scheme, a test sentence that is also in
train, a sentence longer than the model reads. The report says each in plain numbers.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lmsl.data.tags.schemes import IGNORED, OUTSIDE, tag_spans
from lmsl.data.tags.sentence import Dataset

CountSubwords = Callable[[Sequence[str]], Sequence[int]]
"""Number of sub-words of each word of a sentence."""

_PERCENTILES = (50, 90, 99, 100)


def check(datasets: Mapping[str, Dataset], count_subwords: CountSubwords | None = None) -> str:
    """Describe splits (name to dataset) for people; several lines, no final line end."""
    lines: list[str] = []
    for name, dataset in datasets.items():
        lines += [f"{name}: {dataset.source}", *map("  {}".format, _describe(dataset))]
        if count_subwords is not None:
            lines.append(f"  sub-words a sentence: {_subword_lengths(dataset, count_subwords)}")
    lines += between(datasets).lines
    return "\n".join(lines)


def percentile(values: Sequence[int], percent: float) -> int:
    """The smallest value that at least `percent` of all values do not exceed; 0 of nothing."""
    ordered = sorted(values)
    if not ordered:
        return 0
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def _describe(dataset: Dataset) -> list[str]:
    lengths = [len(sentence.words) for sentence in dataset]
    entities = _entities(dataset)
    missed = Counter(type_ for sentence in dataset for type_ in sentence.missed)
    documents = {s.document for s in dataset if s.document is not None}
    counts = f"{len(dataset)} sentences, {sum(lengths)} words"
    if documents:
        counts += f", {len(documents)} documents"
    if not dataset.plain:
        counts += f", {entities.total() + missed.total()} entities"
    kind = "labels" if dataset.plain else "types"
    lines = [
        counts,
        f"scheme {dataset.scheme}, {dataset.repairs} tags repaired",
        f"{kind}: {_distribution(entities)}",
        f"words a sentence: {_percentiles(lengths)}",
    ]
    if missed:
        lines.append(f"entities that tags cannot express: {_distribution(missed)}")
    if ignored := sum((s.tags or ()).count(IGNORED) for s in dataset):
        lines.append(f"words without a label: {ignored}")
    if repeated := len(dataset) - len({s.words for s in dataset}):
        lines.append(f"repeated sentences: {repeated} ({_conflicts(dataset)} tagged differently)")
    return [*lines, *(f"note: {note}" for note in dataset.notes)]


def _entities(dataset: Dataset) -> Counter[str]:
    """Entities by type, or words by label where tags are plain."""
    counts: Counter[str] = Counter()
    for sentence in dataset:
        tags = sentence.tags or ()
        if dataset.plain:
            counts.update(tag for tag in tags if tag != IGNORED)
        else:
            counts.update(span.type for span in tag_spans(tags))
    return counts


def _conflicts(dataset: Dataset) -> int:
    """Sentences that occur with more than one tagging."""
    taggings: dict[tuple[str, ...], set[tuple[str, ...] | None]] = {}
    for sentence in dataset:
        taggings.setdefault(sentence.words, set()).add(sentence.tags)
    return sum(len(tags) > 1 for tags in taggings.values())


@dataclass(frozen=True, kw_only=True)
class Between:
    """What was found between splits, in lines for people, and whether any of it is a fault."""

    lines: list[str]
    amiss: bool


def between(datasets: Mapping[str, Dataset]) -> Between:
    """Sentences that two splits share, and labels that train lacks."""
    lines = []
    amiss = False
    names = list(datasets)
    words = {name: {sentence.words for sentence in datasets[name]} for name in names}
    for position, first in enumerate(names):
        for second in names[position + 1 :]:
            shared = sum(s.words in words[first] for s in datasets[second])
            share = shared / max(1, len(datasets[second]))
            lines.append(f"{second}: {shared} sentences ({share:.1%}) are also in {first}")
            amiss |= shared > 0
    if "train" in datasets:
        known = set(_entities(datasets["train"]))
        for name in names:
            unknown = sorted(set(_entities(datasets[name])) - known - {OUTSIDE})
            if unknown:
                lines.append(f"{name}: labels unknown to train: {', '.join(unknown)}")
                amiss = True
    return Between(lines=lines, amiss=amiss)


def _subword_lengths(dataset: Dataset, count_subwords: CountSubwords) -> str:
    counts = [count_subwords(sentence.words) for sentence in dataset]
    words = sum(len(sentence.words) for sentence in dataset)
    per_word = sum(map(sum, counts)) / max(1, words)
    lengths = _percentiles([sum(sentence) for sentence in counts])
    lost = sum(count == 0 for sentence in counts for count in sentence)
    return f"{lengths}; {per_word:.2f} a word; {lost} words have none"


def _percentiles(values: Sequence[int]) -> str:
    ranks = ", ".join(f"{percentile(values, p)} ({p} %)" for p in _PERCENTILES[:-1])
    return f"{ranks}, {max(values, default=0)} at most"


def _distribution(counts: Counter[str]) -> str:
    total = counts.total()
    if not total:
        return "none"
    return ", ".join(f"{name} {n} ({n / total:.1%})" for name, n in counts.most_common())
