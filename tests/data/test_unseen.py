"""What train has shown of the entities of another split."""

import pytest

from lmsl.data.tags.schemes import IGNORED
from lmsl.data.tags.sentence import Sentence
from lmsl.data.tags.unseen import surfaces, unseen_counts


def sentence(words: str, tags: str) -> Sentence:
    read = tuple(IGNORED if tag == "?" else tag for tag in tags.split())
    return Sentence(words=tuple(words.split()), tags=read)


TRAIN = [
    sentence("New York met Ada", "B-LOC I-LOC O B-PER"),
    sentence("Washington saw Washington", "B-PER O B-LOC"),
    sentence("York is unlabelled", "? O O"),
]


def test_groups_by_surface_and_type() -> None:
    gold = [
        sentence("New York met Ada", "B-LOC I-LOC O B-LOC"),
        sentence("York saw ada and Washington", "B-LOC O B-PER O B-PER"),
    ]
    predicted = [("B-LOC", "I-LOC", "O", "B-PER"), ("B-LOC", "O", "O", "B-PER", "B-LOC")]
    found = unseen_counts(gold, predicted, surfaces(TRAIN, plain=False), plain=False)
    assert found == {
        # New York, Washington; found as well Ada as PER and Washington as LOC, which train has.
        "seen": {"gold": 2, "predicted": 3, "correct": 1},
        # Ada as LOC.
        "other_type": {"gold": 1, "predicted": 0, "correct": 0},
        # York, of which train says nothing, ada with a small letter; found "and" too.
        "unseen": {"gold": 2, "predicted": 2, "correct": 1},
    }


def test_words_without_a_label_count_nowhere() -> None:
    gold = [sentence("Ada Ada", "? B-PER")]
    found = unseen_counts(gold, [("B-PER", "B-PER")], surfaces(TRAIN, plain=False), plain=False)
    assert found["seen"] == {"gold": 1, "predicted": 1, "correct": 1}


def test_plain_tags_are_looked_at_word_by_word() -> None:
    known = surfaces([sentence("the run", "DT NN")], plain=True)
    gold = [sentence("the run run ran", "DT NN VB VB")]
    found = unseen_counts(gold, [("DT", "NN", "NN", "VB")], known, plain=True)
    assert found["seen"] == {"gold": 2, "predicted": 3, "correct": 2}
    assert found["other_type"] == {"gold": 1, "predicted": 0, "correct": 0}
    assert found["unseen"] == {"gold": 1, "predicted": 1, "correct": 1}


@pytest.mark.parametrize("gold", [[], [sentence("a b", "O O")]], ids=["none", "no entity"])
def test_nothing_to_count(gold: list[Sentence]) -> None:
    found = unseen_counts(gold, [s.tags or () for s in gold], {}, plain=False)
    assert [*found] == ["seen", "other_type", "unseen"]
    assert all(each == {"gold": 0, "predicted": 0, "correct": 0} for each in found.values())
