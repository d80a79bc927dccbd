"""Examples cut behind a word: in every copy, with the word still where it was."""

from collections.abc import Sequence

import numpy as np
import pytest

from lmsl.data.tags.sentence import Sentence
from lmsl.packs.alignment import CLOSED, Aligner
from lmsl.packs.examples import Example, build_examples
from lmsl.packs.prefixes import cut_behind, each_word_last
from lmsl.tagger.base import load_tokenizer
from tests.encoders import encoder_tokenizer


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    return Aligner(load_tokenizer("tiny"))


def made(aligner: Aligner, *texts: str, **settings: int) -> Sequence[Example]:
    sentences = [Sentence(words=tuple(text.split()), tags=None, document="d") for text in texts]
    given = {"max_length": 64} | settings
    return build_examples(sentences, aligner, overflow="window", **given).examples


@pytest.mark.parametrize("repeat", [0, 1, 3])
def test_a_cut_sentence_is_the_sentence_without_its_end(aligner: Aligner, repeat: int) -> None:
    words = ["Velmora", "is", "not", "in", "the", "town", "of", "Brastivor"]
    (whole,) = made(aligner, " ".join(words), repeat=repeat)
    cuts = list(each_word_last([whole], repeat + 1))
    assert len(cuts) == len(words)
    for number, cut in enumerate(cuts):
        (expected,) = made(aligner, " ".join(words[: number + 1]), repeat=repeat)
        assert cut.ids.tolist() == expected.ids.tolist()
        assert cut.first_word == number and cut.sentence == whole.sentence
        assert cut.starts.tolist() == expected.starts[-1:].tolist()
        assert cut.ends.tolist() == expected.ends[-1:].tolist() == [len(cut.ids)]


def test_context_on_the_left_stays_and_on_the_right_goes(aligner: Aligner) -> None:
    texts = ("One two .", "Ada saw it .", "Five six .")
    _, whole, _ = made(aligner, *texts, context=8, repeat=1)
    assert whole.ends[-1] < len(whole.ids), "there is context behind it"
    size = len(whole.ids) // 2
    for number, cut in enumerate(each_word_last([whole], 2)):
        stop = int(whole.ends[number]) - size
        assert cut.ids.tolist() == [*whole.ids[:stop]] * 2
        assert np.array_equal(
            cut.ids[cut.starts[0] : cut.ends[0]],
            whole.ids[whole.starts[number] : whole.ends[number]],
        )


def test_words_of_a_window_keep_their_place_in_the_sentence(aligner: Aligner) -> None:
    examples = made(aligner, " ".join(["word"] * 40), max_length=16)
    assert len(examples) > 2
    cuts = list(each_word_last(examples, 1))
    assert [cut.first_word for cut in cuts] == list(range(40))
    assert all(len(cut.starts) == 1 and cut.ends[0] == len(cut.ids) <= 16 for cut in cuts)


def test_several_words_can_be_read_in_what_is_left(aligner: Aligner) -> None:
    (whole,) = made(aligner, "Ada saw it again and again")
    cut = cut_behind(whole, 1, 1, 3)
    assert cut.first_word == 1 and cut.starts.tolist() == whole.starts[1:3].tolist()
    assert cut.ids.tolist() == whole.ids[: whole.ends[2]].tolist()


@pytest.mark.parametrize("repeat", [0, 2])
def test_what_closes_a_text_closes_a_cut_one(repeat: int) -> None:
    closed = Aligner(encoder_tokenizer(), CLOSED)
    words = ["ada", "met", "babbage", "."]
    (whole,) = made(closed, " ".join(words), repeat=repeat)
    for number, cut in enumerate(each_word_last([whole], repeat + 1, closed.eos)):
        (expected,) = made(closed, " ".join(words[: number + 1]), repeat=repeat)
        assert cut.ids.tolist() == expected.ids.tolist() and cut.ids[-1] == closed.eos[0]
        assert cut.starts.tolist() == expected.starts[-1:].tolist()


def test_nothing_to_read_gives_nothing(aligner: Aligner) -> None:
    assert list(each_word_last([], 1)) == [] == list(each_word_last(made(aligner, ""), 1))
