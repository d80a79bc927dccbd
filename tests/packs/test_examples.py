"""Examples: every word read once and from its own sub-words, under every overflow and layout."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer

from lmsl.data.tags.sentence import Sentence
from lmsl.errors import InputError
from lmsl.packs.alignment import Aligner
from lmsl.packs.examples import Examples, build_examples
from tests.shared import DATA, TOKENIZERS, needs_shared


def letters(bos: bool = True) -> Aligner:
    """One sub-word a letter, so that a word's length is its number of sub-words."""
    alphabet = "<s>?abcdefghijklmnopqrstuvwxyz"
    vocab = {"<s>": 0, "?": 1} | {letter: order + 2 for order, letter in enumerate(alphabet[4:])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return Aligner(tokenizer)


LETTERS = letters()


def text(ids: np.ndarray) -> str:
    return "".join("^?abcdefghijklmnopqrstuvwxyz"[index] for index in ids.tolist())


def sentence(words: str, document: str | None = None) -> Sentence:
    return Sentence(words=tuple(words.split()), tags=None, document=document, where="f.txt:7")


def texts_of(found: Examples) -> list[str]:
    return [text(each.ids) for each in found.examples]


def build(texts: list[str], **options: object) -> Examples:
    options = {"max_length": 100, "overflow": "window"} | options
    return build_examples([sentence(each) for each in texts], LETTERS, **options)  # type: ignore[arg-type]


def read(found: Examples) -> list[tuple[int, int, str]]:
    """(sentence, word, letters at its range) of everything that is read, in order."""
    return [
        (each.sentence, each.first_word + order, text(each.ids[start:end]))
        for each in found.examples
        for order, (start, end) in enumerate(zip(each.starts, each.ends, strict=True))
    ]


def all_words(texts: list[str]) -> list[tuple[int, int, str]]:
    return [(i, j, word) for i, each in enumerate(texts) for j, word in enumerate(each.split())]


def test_short_sentences_are_one_example_each_and_empty_ones_none() -> None:
    texts = ["ab c", "", "d", "   "]
    found = build(texts)
    assert texts_of(found) == ["^abc", "^d"]
    assert [each.sentence for each in found.examples] == [0, 2]
    assert read(found) == all_words(texts)
    assert found.truncated == [0, 0, 0, 0]
    assert found.notes.lines() == []
    assert build([]).examples == []
    first = found.examples[0]
    assert {each.dtype.name for each in (first.ids, first.starts, first.ends)} == {"int32"}


def test_a_sentence_of_exactly_the_limit_is_whole_and_one_more_is_not() -> None:
    assert len(build(["ab cd"], max_length=5, overflow="error").examples) == 1
    with pytest.raises(
        InputError, match=r"f\.txt:7: expected at most 4 sub-words.*got 5; .*window"
    ):
        build(["ab cd"], max_length=4, overflow="error")
    assert len(build(["ab cd"], max_length=4).examples) == 2


def test_windows_read_each_word_where_its_poorer_side_sees_most() -> None:
    # Ten words of one letter, windows of four: starts 0, 2, 4, 6.
    found = build(["a b c d e f g h i j"], max_length=5)
    assert texts_of(found) == ["^abcd", "^cdef", "^efgh", "^ghij"]
    seen = [
        text(np.concatenate([each.ids[s:e] for s, e in zip(each.starts, each.ends, strict=True)]))
        for each in found.examples
    ]
    assert seen == ["abc", "de", "fg", "hij"]
    assert found.notes.lines() == ["1 sentence split into overlapping windows"]


def test_the_last_window_is_full_and_the_earlier_one_reads_where_both_see_as_much() -> None:
    found = build(["a b c d e"], max_length=5)
    assert texts_of(found) == ["^abcd", "^bcde"]
    assert [each.first_word for each in found.examples] == [0, 3]


def test_a_word_longer_than_a_window_keeps_both_its_ends() -> None:
    found = build(["x abcdefghijklmn y"], max_length=7)
    assert [word for _, _, word in read(found)] == ["x", "abn", "y"]
    assert text(found.examples[0].ids) == "^xabny"
    assert found.notes.cut_words == 1 and found.notes.windowed == 0
    assert "without sub-words of the middle" in found.notes.lines()[0]
    # Lonely, and with room for a single sub-word: still read, never an endless loop.
    assert [word for _, _, word in read(build(["abcdef ghi j"], max_length=2))] == ["a", "g", "j"]
    assert [word for _, _, word in read(build(["abcdef" * 2000], max_length=5))] == ["af"]


def test_truncation_keeps_whole_words_and_counts_the_rest() -> None:
    texts = ["ab cde f", "abcdefgh a", "a b", ""]
    found = build(texts, max_length=5, overflow="truncate")
    assert found.truncated == [2, 2, 0, 0]
    assert read(found) == [(0, 0, "ab"), (2, 0, "a"), (2, 1, "b")]
    assert found.notes.lines() == [
        "2 sentences truncated",
        "4 words beyond the maximum length and not read",
    ]


def test_repetition_lays_equal_copies_end_to_end_and_reads_the_last() -> None:
    found = build(["ab c"], repeat=2, max_length=4)
    (only,) = found.examples
    assert text(only.ids) == "^abc^abc^abc"
    assert only.starts.tolist() == [9, 11] and only.ends.tolist() == [11, 12]
    no_bos = build_examples(
        [sentence("ab c")], letters(bos=False), max_length=3, overflow="error", repeat=1
    )
    assert text(no_bos.examples[0].ids) == "abcabc"
    windowed = build(["ab cd ef"], repeat=1, max_length=5)
    assert texts_of(windowed) == ["^abcd^abcd", "^cdef^cdef"]
    assert read(windowed) == all_words(["ab cd ef"])


def contextual(
    texts: Sequence[tuple[str, str | None]], context: int, max_length: int = 100, repeat: int = 0
) -> Examples:
    return build_examples(
        [sentence(words, document) for words, document in texts],
        LETTERS,
        max_length=max_length,
        overflow="window",
        context=context,
        repeat=repeat,
    )


def test_context_comes_from_neighbours_of_the_same_document_only() -> None:
    texts = [("a bb", "1"), ("c", "1"), ("", "1"), ("dd e", "1"), ("f", "2"), ("g", None)]
    texts += [("h", None), ("i", "1"), ("j", "1")]
    found = contextual(texts, context=2)
    assert texts_of(found) == [
        *("^abbcdd", "^abbcdde", "^bbcdde", "^f", "^g", "^h", "^ij", "^ij"),
    ]
    assert read(found) == all_words([words for words, _ in texts])
    assert text(contextual(texts, 100).examples[0].ids) == "^abbcdde"


@pytest.mark.parametrize(
    ("max_length", "left", "right"),
    [(6, 0, 0), (7, 0, 1), (8, 1, 1), (10, 2, 2), (11, 2, 3), (15, 2, 7), (90, 2, 8)],
)
def test_context_shrinks_to_the_room_left_and_uses_all_of_it(
    max_length: int, left: int, right: int
) -> None:
    texts = [("l l", "1"), ("mm mmm", "1"), ("r r r r r r r r", "1")]
    found = contextual(texts, context=20, max_length=max_length)
    (middle,) = (each for each in found.examples if each.sentence == 1)
    assert text(middle.ids) == "^" + "l" * left + "mmmmm" + "r" * right
    assert read(found) == all_words([words for words, _ in texts])


def test_context_takes_room_left_over_whole_words_and_none_beside_windows() -> None:
    texts = [("l l l l", "1"), ("mm", "1"), ("r", "1")]
    assert texts_of(contextual(texts, 9, max_length=7))[1] == "^lllmmr"
    texts = [("lll", "1"), ("m", "1"), ("rrr", "1")]
    assert texts_of(contextual(texts, 5, max_length=6))[1] == "^m"
    assert texts_of(contextual(texts, 5, max_length=7))[1] == "^mrrr"
    long = [("a", "1"), ("b c d e f g h", "1"), ("i", "1")]
    found = contextual(long, 5, max_length=5)
    assert {
        char for each in found.examples if each.sentence == 1 for char in text(each.ids)
    } == set("^bcdefgh")
    assert read(found) == all_words([words for words, _ in long])


def test_repetition_repeats_the_context_too() -> None:
    found = contextual([("a", "1"), ("b", "1"), ("c", "1")], context=1, repeat=1)
    assert texts_of(found) == ["^ab^ab", "^abc^abc", "^bc^bc"]
    assert [word for _, _, word in read(found)] == ["a", "b", "c"]
    assert found.examples[1].starts.tolist() == [6]


@settings(max_examples=80)
@given(
    sizes=st.lists(st.lists(st.integers(1, 6), max_size=12), max_size=6),
    documents=st.lists(st.sampled_from(["1", "2", None]), min_size=6, max_size=6),
    max_length=st.integers(7, 20),
    overflow=st.sampled_from(["window", "truncate"]),
    repeat=st.integers(0, 2),
    context=st.integers(0, 8),
)
def test_every_word_is_read_once_or_counted(
    sizes: list[list[int]],
    documents: list[str | None],
    max_length: int,
    overflow: str,
    repeat: int,
    context: int,
) -> None:
    texts = [
        " ".join("abcdef"[:size] + "xyz"[order % 3] for order, size in enumerate(each))
        for each in sizes
    ]
    data = [sentence(each, document) for each, document in zip(texts, documents, strict=False)]
    found = build_examples(
        data,
        LETTERS,
        max_length=max_length + 1,
        overflow=overflow,  # type: ignore[arg-type]
        repeat=repeat,
        context=context,
    )
    kept = [
        (index, word, letters)
        for index, word, letters in all_words(texts)
        if word < len(data[index].words) - found.truncated[index]
    ]
    assert read(found) == kept
    assert sum(found.truncated) == found.notes.truncated_words
    for each in found.examples:
        copy = each.ids[: len(each.ids) // (repeat + 1)]
        assert each.ids.tolist() == np.tile(copy, repeat + 1).tolist()
        assert len(copy) <= max_length + 1
        assert copy[0] == 0 and 0 not in copy[1:]
        assert each.starts[0] > len(copy) * repeat


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 1}, "--max-length: expected at least 2"),
        (
            {"overflow": "split"},
            "--overflow: expected one of window, error, truncate, got 'split'",
        ),
        ({"repeat": -1}, "--repeat: expected 0 or more, got -1"),
        ({"context": -3}, "--context: expected 0 or more, got -3"),
    ],
)
def test_bad_arguments_get_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build(["a"], **options)
    assert "\n" not in str(caught.value)


@needs_shared
def test_novels_as_ten_thousand_word_sentences() -> None:
    """Whole documents in one sentence: read once each, and equal to the sub-words of the whole."""
    folder = DATA / "litbank_events" / "tsv"
    words = [
        row.split("\t")[0]
        for path in sorted(folder.glob("*.tsv"))[:6]
        for row in path.read_text("utf-8").splitlines()
        if row.strip()
    ]
    assert len(words) > 10_000
    aligner = Aligner(AutoTokenizer.from_pretrained(TOKENIZERS / "mistral-7b-v0.1"))
    whole = aligner.encode([words])[0]
    data = [Sentence(words=tuple(words), tags=None)]
    found = build_examples(data, aligner, max_length=256, overflow="window", repeat=1)
    times_read = Counter(
        each.first_word + order for each in found.examples for order in range(len(each.starts))
    )
    assert times_read == Counter(range(len(words)))
    for each in found.examples:
        assert len(each.ids) <= 512
        for order, (start, end) in enumerate(zip(each.starts, each.ends, strict=True)):
            word = each.first_word + order
            assert (
                each.ids[start:end].tolist()
                == whole.ids[whole.starts[word] : whole.ends[word]].tolist()
            )
    with pytest.raises(InputError, match=r"^sentence 1: expected at most 256"):
        build_examples(data, aligner, max_length=256, overflow="error")
