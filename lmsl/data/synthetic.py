"""A seeded generator of NER-like English whose tags depend on the right context to a set degree.

Every sentence has one or two clauses and every clause one name. The name itself says nothing:
all four types (PER, LOC, ORG, PROD) draw from one lexicon of invented words. What decides is a
*cue*, a phrase such as ``, plainly a harbour ,`` at 1 to 12 words from the name. The *dial* is the
probability that it stands to the right of the name; otherwise the same phrases stand at the same
distances to the left. Both sides also hold *distractors* (``, never a brewery ,``), whose nouns
are drawn independently of the type:

    dial 1: We asked about Velmora slowly near the old gate , plainly a harbour , with a nod .
    dial 0: We asked about , plainly a harbour , slowly near the old gate Velmora with a nod .

A tagger that reads left to right sees no more than a coin with four sides wherever the cue stands
to the right; :func:`left_to_right_ceiling` is the best F1 it can expect. Names, openers and
closers are dealt out to the splits: what dev and test use occurs neither in train nor in the text
that the model `tiny` was pre-trained on, whose filler is made of other words too.
"""

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from lmsl.data import phrases
from lmsl.data.tags.sentence import Dataset, Sentence
from lmsl.errors import InputError

TYPES = tuple(sorted(phrases.CUE_NOUNS))
MAX_DISTANCE = 12
DEFAULT_DIAL = 0.8
SIZES = {"train": 1600, "dev": 250, "test": 1000}

# The sixths of a list that belong to a split: of names, openers and closers; of the openers and
# closers that pre-training has no part in; and of filler words.
_SHARES = {"pretrain": (0, 1), "train": (2, 3), "dev": (4,), "test": (5,)}
_TASK_SHARES = {"pretrain": (), "train": (0, 1, 2, 3), "dev": (4,), "test": (5,)}
_FILLER_SHARES = {split: (0, 1) if split == "pretrain" else (2, 3, 4, 5) for split in _SHARES}
_ONSETS = "b br d dr f g gr h j k kl l m n p pr qu r s sk st t tr v w z"
_VOWELS = "a e i o u ae ei ou"
_CODAS = "l m n r s sh th ck nd rt x v"


def openers(split: str) -> list[str]:
    """What clauses of ``split`` begin with; no opener belongs to two splits."""
    own = _share(phrases.OPENERS, _SHARES[split])
    return own + _share(phrases.TASK_OPENERS, _TASK_SHARES[split])


def closers(split: str) -> list[str]:
    """What clauses of ``split`` end with; no closer belongs to two splits."""
    own = _share(phrases.CLOSERS, _SHARES[split])
    return own + _share(phrases.TASK_CLOSERS, _TASK_SHARES[split])


def _share(items: list[str], sixths: tuple[int, ...]) -> list[str]:
    return [item for index, item in enumerate(items) if index % 6 in sixths]


def name_words(split: str) -> list[str]:
    """The invented name words of ``split``; no word belongs to two splits."""
    openings = [onset + vowel for onset, vowel in product(_ONSETS.split(), _VOWELS.split())]
    endings = ["".join(parts) for parts in product("mrtv", "aeio", _CODAS.split())]
    words = [(start + end).capitalize() for start in openings for end in endings]
    rng = random.Random("lmsl synthetic lexicon")
    chosen = sorted(rng.sample(sorted(set(words)), 3600))
    return [word for word in chosen if zlib.crc32(word.encode()) % 6 in _SHARES[split]]


@dataclass(frozen=True)
class Clause:
    """Words of one clause, the place and type of its name, and on which side its cue stands."""

    words: tuple[str, ...]
    start: int
    end: int
    type: str
    cue_right: bool


class Writer:
    """Writes clauses with the phrases of one split."""

    def __init__(self, split: str, dial: float, rng: random.Random):
        self.dial = dial
        self.rng = rng
        self.names = name_words(split)
        self.openers, self.closers = openers(split), closers(split)
        sixths = _FILLER_SHARES[split]
        self.adverbs = _share(phrases.ADVERBS, sixths)
        self.times = _share(phrases.TIMES, sixths)
        self.adjectives = _share(phrases.ADJECTIVES, sixths)
        self.places = _share(phrases.PLACES, sixths)

    def name(self) -> tuple[str, ...]:
        """One to three name words."""
        count = self.rng.choices((1, 2, 3), weights=(6, 3, 1))[0]
        return tuple(self.rng.sample(self.names, count))

    def filler(self, length: int) -> list[str]:
        """Exactly ``length`` words of adverbials that say nothing about a name."""
        pick = self.rng.choice
        words: list[str] = []
        while (left := length - len(words)) > 0:
            size = self.rng.randint(1, min(4, left))
            if size == 1:
                words += [pick(self.adverbs)]
            elif size == 2:
                words += [pick(("until", "by", "before", "after")), pick(self.times)]
            elif size == 3:
                words += [pick(("near", "behind", "under", "past")), "the", pick(self.places)]
            else:
                place = [pick(self.adjectives), pick(self.places)]
                words += [pick(("near", "behind", "under", "past")), "the", *place]
        return words

    def phrase(self, frames: list[str], type: str) -> list[str]:
        """A frame and a noun of ``type`` between commas, the same on both sides of a name."""
        noun = self.rng.choice(phrases.CUE_NOUNS[type])
        article = "an" if noun[0] in "aeio" else "a"
        return [",", *self.rng.choice(frames).split(), article, noun, ","]

    def distractor(self) -> list[str]:
        return self.phrase(phrases.DISTRACTOR_FRAMES, self.rng.choice(TYPES))

    def side(self, cue: list[str], rightwards: bool) -> list[str]:
        """``cue`` at 1 to 12 words from the name, with distractors before and behind it.

        Built in reading order for either side, so that both see the same phrases at the same
        distances.
        """
        gap = self.rng.randint(0, MAX_DISTANCE - 1)
        distractor = self.distractor()
        spare = gap - len(distractor)
        if spare >= 0 and self.rng.random() < 0.5:
            first = self.rng.randint(0, spare)
            between = self.filler(first) + distractor + self.filler(spare - first)
        else:
            between = self.filler(gap)
        beyond = []
        if self.rng.random() < 0.15:
            filler = self.filler(self.rng.randint(1, 4))
            beyond = filler + self.distractor() if rightwards else self.distractor() + filler
        words = between + cue + beyond if rightwards else beyond + cue + between
        # Two phrases side by side share the comma between them.
        return [
            w for w, before in zip(words, ["", *words], strict=False) if (w, before) != (",", ",")
        ]

    def clause(self, name: tuple[str, ...], type: str, relative: tuple[str, ...] = ()) -> Clause:
        """One clause about ``name``; the dial decides on which side its cue stands.

        ``relative`` words follow a name whose cue stands left: only the text for pre-training has
        them.
        """
        cue_right = self.rng.random() < self.dial
        cue = self.phrase(phrases.DECIDING_FRAMES, type)
        left = self.side(self.distractor() if cue_right else cue, rightwards=False)
        right = self.side(cue if cue_right else self.distractor(), rightwards=True)
        before = self.rng.choice(self.openers).split() + left
        after = right if cue_right else [*relative, *right]
        words = (*before, *name, *after, *self.rng.choice(self.closers).split())
        return Clause(words, len(before), len(before) + len(name), type, cue_right)

    def sentence(self) -> list[Clause]:
        """One clause, or two in one of ten sentences, about names of independent types."""
        count = 2 if self.rng.random() < 0.1 else 1
        return [self.clause(self.name(), self.rng.choice(TYPES)) for _ in range(count)]


def join(clauses: list[Clause]) -> tuple[list[str], list[str]]:
    """Words and IOB2 tags of a sentence; clauses are separated by a semicolon."""
    words: list[str] = []
    tags: list[str] = []
    for index, clause in enumerate(clauses):
        tagged = ["O"] * len(clause.words)
        tagged[clause.start] = f"B-{clause.type}"
        tagged[clause.start + 1 : clause.end] = [f"I-{clause.type}"] * (
            clause.end - clause.start - 1
        )
        words += clause.words
        tags += tagged
        words.append(";" if index + 1 < len(clauses) else ".")
        tags.append("O")
    return words, tags


def load(dial: float = DEFAULT_DIAL) -> dict[str, Dataset]:
    """Train, dev and test at ``dial``; the same call gives the same sentences everywhere."""
    if not 0 <= dial <= 1:
        raise InputError(f"--data synthetic:DIAL: expected a dial from 0 to 1, got {dial}")
    return {split: generate(split, dial, size) for split, size in SIZES.items()}


def generate(split: str, dial: float, size: int) -> Dataset:
    """``size`` sentences of one split."""
    writer = Writer(split, dial, random.Random(f"lmsl synthetic {split}"))
    sentences = []
    for index in range(size):
        words, tags = join(writer.sentence())
        where = f"synthetic:{dial:g} {split}:{index + 1}"
        sentences.append(
            Sentence(words=tuple(words), tags=tuple(tags), id=f"{split}-{index}", where=where)
        )
    return Dataset(
        sentences=tuple(sentences), plain=False, source=f"synthetic:{dial:g} {split}", notes=()
    )


def left_to_right_ceiling(dial: float) -> float:
    """The best expected micro-F1 (0-1) of any tagger that sees nothing right of a word.

    It knows the type where the cue stands left (a share ``1 - dial`` of the names) and is left
    with equal odds elsewhere. Guessing there gives precision = recall = (1 - dial) + dial / types;
    keeping silent gives precision 1 and recall 1 - dial. F1 is a ratio of linear functions of the
    share of guesses, so one of the two extremes is best.
    """
    guess = (1 - dial) + dial / len(TYPES)
    silent = 2 * (1 - dial) / (2 - dial)
    return max(guess, silent)


def pretraining_paragraphs(seed: int) -> Iterator[str]:
    """An endless stream of paragraphs for pre-training, each about one name.

    They mix clauses like those of the task, but with the phrases and names of the split
    ``pretrain`` and cues on either side alike, with plain statements ("Velmora is a harbour .",
    "Velmora overlooks the bay .") and relative clauses ("Velmora that overlooks the bay"). All
    that is said of a name fits one type, as in any text that makes sense, so a language model has
    a reason to find out what a name stands for.
    """
    rng = random.Random(f"lmsl synthetic pretrain {seed}")
    writer = Writer("pretrain", 0.5, rng)
    while True:
        name, type = writer.name(), rng.choice(TYPES)
        sentences = [_statement(rng, name, type) for _ in range(rng.randint(3, 6))]
        for _ in range(rng.randint(1, 3)):
            relative = ("that", *rng.choice(phrases.PREDICATES[type]).split())
            clause = writer.clause(name, type, relative if rng.random() < 0.5 else ())
            sentences.append(" ".join(join([clause])[0]))
        rng.shuffle(sentences)
        yield " ".join(sentences)


def _statement(rng: random.Random, name: tuple[str, ...], type: str) -> str:
    """A short sentence that fits the type: what the name is, does or is like."""
    named, noun = " ".join(name), rng.choice(phrases.CUE_NOUNS[type])
    predicate = rng.choice(phrases.PREDICATES[type])
    article = "an" if noun[0] in "aeio" else "a"
    forms = (
        f"{named} {predicate} .",
        f"{named} {predicate} .",
        f"{named} is {article} {noun} .",
        f"{named} , {article} {noun} , {predicate} .",
        f"The {noun} {named} {predicate} .",
    )
    return rng.choice(forms)
