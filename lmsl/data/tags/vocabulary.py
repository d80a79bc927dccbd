"""The set of labels a run predicts, fixed by its training data.

The order is a function of the set alone, so two runs on the same data agree on label ids. Labels
of dev and test must be in it: a model can never predict an unknown one, and finding out before
training is kinder than a score that is too low. A file that is scored later may have others: they
count as missed, and it is said.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from lmsl.data.tags.schemes import IGNORED, OUTSIDE, parse_tag
from lmsl.data.tags.sentence import Dataset
from lmsl.errors import InputError
from lmsl.wording import counted, quoted, shortened

IGNORED_ID = -100
"""Id of words without a label: what torch's losses skip by default."""


@dataclass(frozen=True)
class LabelSet:
    """Labels in id order; `plain` ones are no spans."""

    names: tuple[str, ...]
    plain: bool = False
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {name: i for i, name in enumerate(self.names)})

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, tag: str) -> bool:
        return tag in self._ids

    def ids(self, tags: Sequence[str]) -> list[int]:
        """Ids of known tags; IGNORED_ID for words without a label."""
        return [IGNORED_ID if tag == IGNORED else self._ids[tag] for tag in tags]

    @property
    def types(self) -> tuple[str, ...]:
        """Entity types in id order; the labels themselves where they are plain."""
        if self.plain:
            return self.names
        return tuple(name[2:] for name in self.names if name.startswith("B-"))


def label_vocabulary(datasets: Iterable[Dataset]) -> LabelSet:
    """Collect the labels of training data: O first, then sorted by type, B- before I-.

    Either of B-X and I-X brings both, as neither says anything about the other's existence. Types
    that occur only as missed entities are left out: there is nothing to learn them from.
    """
    datasets = list(datasets)
    plain = any(dataset.plain for dataset in datasets)
    assert all(dataset.plain == plain for dataset in datasets)
    seen = {tag for dataset in datasets for sentence in dataset for tag in sentence.tags or ()}
    seen.discard(IGNORED)
    if plain:
        return LabelSet(tuple(sorted(seen, key=lambda tag: (tag != OUTSIDE, tag))), plain=True)
    types = sorted({parsed[1] for tag in seen if (parsed := parse_tag(tag))})
    return LabelSet((OUTSIDE, *(f"{prefix}-{type_}" for type_ in types for prefix in "BI")))


def check_labels(dataset: Dataset, labels: LabelSet) -> None:
    """Raise InputError for the first tag of `dataset` that is not among `labels`."""
    if not unknown_labels(dataset, labels):
        return
    for sentence in dataset:
        for word, tag in zip(sentence.words, sentence.tags or (), strict=False):
            if tag != IGNORED and tag not in labels:
                found = chain.from_iterable(each.tags or () for each in dataset)
                others = sorted({t for t in found if t not in (tag, IGNORED) and t not in labels})
                nor = f", nor do {shortened(', '.join(others))}," if others else ""
                raise InputError(
                    f"{sentence.where}: tag {quoted(tag)} of {quoted(word)} does not occur{nor} "
                    f"in the training data, which has {_known(labels)}; correct it, or score that "
                    "file with lmsl evaluate, which counts it as missed"
                )


def unknown_labels(dataset: Dataset, labels: LabelSet) -> list[str]:
    """Lines on tags of `dataset` that are not among `labels`: no prediction can be right there.

    Raises:
        InputError: spans where labels are plain, or plain tags where they are not.
    """
    if dataset.plain != labels.plain and any(len(sentence.words) for sentence in dataset):
        kinds = {True: "plain tags", False: "spans (O, B-TYPE, I-TYPE)"}
        raise InputError(
            f"{dataset.source}: expected {kinds[labels.plain]} as in the training data, "
            f"got {kinds[dataset.plain]}; check --tag-column and --scheme"
        )
    counts = Counter(chain.from_iterable(sentence.tags or () for sentence in dataset))
    foreign = {tag: n for tag, n in counts.items() if tag != IGNORED and tag not in labels}
    if labels.plain:
        missed = foreign
        what, unit = "label", "word"
    else:
        missed = {tag[2:]: n for tag, n in foreign.items() if tag.startswith("B-")}
        what, unit = "type", "entity"
    if not foreign:
        return []
    listed = shortened(", ".join(sorted(missed)))
    return [
        f"{dataset.source}: {counted(len(missed), what)} unknown to the run ({listed}): "
        f"{counted(sum(missed.values()), unit)} counted as missed"
    ]


def _known(labels: LabelSet, limit: int = 30) -> str:
    names = labels.types
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ("labels " if labels.plain else "types ") + shortened(", ".join(names[:limit])) + more
