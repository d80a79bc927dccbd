"""A report on data before anything is trained on it.

Most surprises of a labelling run are in its files: a wrong scheme, a test sentence that is also in
train, a sentence longer than the model reads. The report says each in plain numbers.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from lmsl.data.dependency import Trees, right_dependency
from lmsl.data.tags.schemes import IGNORED, OUTSIDE
from lmsl.data.tags.sentence import Dataset
from lmsl.wording import counted, shortened

CountSubwords = Callable[[Sequence[str]], Sequence[int]]
"""Number of sub-words of each word of a sentence."""

_PERCENTILES = (50, 90, 99, 100)


def check(
    datasets: Mapping[str, Dataset],
    count_subwords: CountSubwords | None = None,
    trees: Trees | None = None,
) -> str:
    """Describe splits (name to dataset) for people; several lines, no final line end."""
    lines: list[str] = []
    for name, dataset in datasets.items():
        head = name if name == dataset.source else f"{name}: {dataset.source}"
        lines += [head, *map("  {}".format, _describe(dataset))]
        if count_subwords is not None:
            lines.append(f"  sub-words a sentence: {_subword_lengths(dataset, count_subwords)}")
        if trees is not None:
            lines += map("  {}".format, right_dependency(dataset, trees(dataset)).lines())
    lines += between(datasets).lines
    return "\n".join(lines)


def counts(datasets: Mapping[str, Dataset]) -> dict[str, Any]:
    """What is counted of each split, for machines: see the lines of ``check``."""
    return {
        name: {
            "source": dataset.source,
            "sentences": len(dataset),
            "words": sum(len(sentence.words) for sentence in dataset),
            "scheme": dataset.scheme,
            "repaired_tags": dataset.repairs,
            "labels" if dataset.plain else "types": dict(_entities(dataset).most_common()),
            "not_expressible": dict(Counter(chain.from_iterable(s.missed for s in dataset))),
            "words_without_label": sum((s.tags or ()).count(IGNORED) for s in dataset),
            "repeated_sentences": len(dataset) - len({s.words for s in dataset}),
            "longest": max((len(sentence.words) for sentence in dataset), default=0),
            "notes": list(dataset.notes),
        }
        for name, dataset in datasets.items()
    }


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
    size = f"{counted(len(dataset), 'sentence')}, {counted(sum(lengths), 'word')}"
    if documents:
        size += f", {counted(len(documents), 'document')}"
    if not dataset.plain:
        size += f", {counted(entities.total() + missed.total(), 'entity')}"
    kind = "labels" if dataset.plain else "types"
    lines = [
        size,
        f"scheme {dataset.scheme}, {counted(dataset.repairs, 'tag')} repaired",
        f"{kind}: {_distribution(entities)}",
        f"words a sentence: {_percentiles(lengths)}",
    ]
    if missed:
        lines.append(f"entities that tags cannot express: {_distribution(missed)}")
    if ignored := sum((s.tags or ()).count(IGNORED) for s in dataset):
        lines.append(f"words without a label: {ignored}")
    if repeated := len(dataset) - len({s.words for s in dataset}):
        conflicts = _conflicts(dataset)
        lines.append(f"repeated sentences: {repeated} ({conflicts} tagged differently)")
    return [*lines, *(f"note: {note}" for note in dataset.notes)]


def _entities(dataset: Dataset) -> Counter[str]:
    """Entities by type, or words by label where tags are plain."""
    tags = Counter(chain.from_iterable(sentence.tags or () for sentence in dataset))
    if dataset.plain:
        return Counter({tag: number for tag, number in tags.items() if tag != IGNORED})
    # In IOB2 every entity has one B-.
    return Counter({tag[2:]: number for tag, number in tags.items() if tag.startswith("B-")})


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
            are = "is" if shared == 1 else "are"
            lines.append(
                f"{second}: {counted(shared, 'sentence')} ({share:.1%}) {are} also in {first}"
            )
            amiss |= shared > 0
    if "train" in datasets:
        found = {name: _entities(dataset) for name, dataset in datasets.items()}
        known = set(found["train"])
        for name in names:
            unknown = sorted(set(found[name]) - known - {OUTSIDE})
            if unknown:
                lines.append(f"{name}: labels unknown to train: {shortened(', '.join(unknown))}")
                amiss = True
    return Between(lines=lines, amiss=amiss)


def _subword_lengths(dataset: Dataset, count_subwords: CountSubwords) -> str:
    counts = [count_subwords(sentence.words) for sentence in dataset]
    words = sum(len(sentence.words) for sentence in dataset)
    per_word = sum(map(sum, counts)) / max(1, words)
    lengths = _percentiles([sum(sentence) for sentence in counts])
    lost = sum(count == 0 for sentence in counts for count in sentence)
    have = "has" if lost == 1 else "have"
    return f"{lengths}; {per_word:.2f} a word; {counted(lost, 'word')} {have} none"


def _percentiles(values: Sequence[int]) -> str:
    ranks = ", ".join(f"{percentile(values, p)} ({p} %)" for p in _PERCENTILES[:-1])
    return f"{ranks}, {max(values, default=0)} at most"


def _distribution(counts: Counter[str]) -> str:
    total = counts.total()
    if not total:
        return "none"
    return ", ".join(f"{name} {n} ({n / total:.1%})" for name, n in counts.most_common())
