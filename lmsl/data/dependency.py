"""Right-side dependency: whether the grammatical relations of tagged words lead to the right.

The right-side dependency relations ratio of Dukić and Šnajder (2024, arXiv 2401.14556) is

    edges whose other end lies to the right / all edges

over the words with a tag other than O. A word has the edge to its head, none where it is a root,
and those to its children; an edge between two tagged words is counted from each of its ends, once
to the right and once to the left. So where every word is tagged the ratio is 1/2 whatever the
trees say, and only the values of single types tell something.

Edges are counted as they are stated, also where the heads of a sentence are no tree; how many such
sentences there are is told.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lmsl.data.tags.schemes import IGNORED, OUTSIDE
from lmsl.data.tags.sentence import Dataset
from lmsl.wording import counted

Heads = Sequence[int]
"""For each word the number, from 1, of its head; 0 for a root. As HEAD in CoNLL-U."""
Trees = Callable[[Dataset], Iterable[Heads]]
"""The trees of the sentences of a data set, in order."""

_CYCLE, _ROOTS, _NO_EDGE = "with a cycle", "with more than one root", "without any edge"
_FAULTS = (_CYCLE, _ROOTS, _NO_EDGE)


@dataclass(frozen=True, kw_only=True)
class Edges:
    """Edges seen from tagged words."""

    right: int
    all: int

    def __str__(self) -> str:
        share = f"{self.right / self.all:.4f}" if self.all else "none"
        return f"{share} ({self.right} of {counted(self.all, 'edge')})"


@dataclass(frozen=True, kw_only=True)
class RightDependency:
    """The ratio's two counts, of all tagged words and of those of each type."""

    overall: Edges
    per_type: Mapping[str, Edges]
    whole: bool
    """Every word is tagged."""
    sentences: int
    damaged: Mapping[str, int]
    """Sentences whose heads are no tree, by what is wrong with them; one may count twice."""
    trees: int
    """Sentences whose heads are one."""

    def lines(self) -> list[str]:
        """For people."""
        if not self.per_type:
            return ["right-side dependency: none, no word has a tag other than O"]
        by_size = sorted(self.per_type.items(), key=lambda item: (-item[1].all, item[0]))
        of_types = ", ".join(f"{name} {edges}" for name, edges in by_size)
        why = ""
        if not self.overall.all:
            why = "; no tagged word has a head or a child"
        elif self.whole:
            why = "; every word is tagged, so this is 1/2 by definition"
        return [
            f"right-side dependency: {self.overall}{why}",
            f"right-side dependency by type: {of_types}",
            *self._note(),
        ]

    def _note(self) -> list[str]:
        number = self.sentences - self.trees
        if not number:
            return []
        faults = ", ".join(f"{count} {fault}" for fault, count in self.damaged.items() if count)
        are = "is no tree" if number == 1 else "are no trees"
        return [
            f"note: {number} of {counted(self.sentences, 'sentence')} {are} ({faults}); their "
            "edges count as stated"
        ]


def right_dependency(dataset: Dataset, trees: Iterable[Heads]) -> RightDependency:
    """Count the edges of tagged words; ``trees`` has one tree for each sentence."""
    right, total = Counter[str](), Counter[str]()
    damaged = dict.fromkeys(_FAULTS, 0)
    whole, well = True, 0
    for sentence, heads in zip(dataset, trees, strict=True):
        kinds = [_kind(tag, plain=dataset.plain) for tag in sentence.tags or ()]
        assert len(kinds) == len(heads), sentence.where
        faults = _faults(heads)
        well += not faults
        for fault in faults:
            damaged[fault] += 1
        whole &= None not in kinds
        for kind in kinds:
            if kind is not None:
                total[kind] += 0
        for place, number in enumerate(heads):
            if number == 0:
                continue
            head = number - 1
            for one, other in ((place, head), (head, place)):
                if (kind := kinds[one]) is not None:
                    total[kind] += 1
                    right[kind] += other > one
    return RightDependency(
        overall=Edges(right=right.total(), all=total.total()),
        per_type={kind: Edges(right=right[kind], all=total[kind]) for kind in total},
        whole=whole and bool(total),
        sentences=len(dataset),
        damaged=damaged,
        trees=well,
    )


def _faults(heads: Heads) -> list[str]:
    """What keeps heads from being a tree; nothing where they are one."""
    if len(heads) > 1 and not any(heads):
        return [_NO_EDGE]
    faults = [_ROOTS] if heads.count(0) > 1 else []
    return [*faults, _CYCLE] if _has_cycle(heads) else faults


def _has_cycle(heads: Heads) -> bool:
    """Whether some word leads to itself by heads; each word is looked at once."""
    seen_from = [0] * (len(heads) + 1)
    for start in range(1, len(heads) + 1):
        word = start
        while word and not seen_from[word]:
            seen_from[word] = start
            word = heads[word - 1]
        if word and seen_from[word] == start:
            return True
    return False


def _kind(tag: str, *, plain: bool) -> str | None:
    """The type of a tagged word; None where it has none. O among plain tags is a label."""
    if tag == IGNORED or (tag == OUTSIDE and not plain):
        return None
    return tag if plain else tag[2:]
