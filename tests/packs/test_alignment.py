"""Alignment: the rules of ownership by hand, and small tokenizers with odd behaviour."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

from lmsl.errors import InputError
from lmsl.packs.alignment import Aligner, AlignmentNotes, Encoding
from lmsl.packs.subwords import owners

pytestmark = pytest.mark.drift


def check(encoding: Encoding, words: list[str], bos: list[int]) -> None:
    """What holds for every encoding: nothing lost, nothing shared, no word without a sub-word."""
    starts, ends = encoding.starts.tolist(), encoding.ends.tolist()
    assert len(starts) == len(ends) == len(words)
    assert encoding.ids[: len(bos)].tolist() == bos
    assert [len(bos), *ends] == [*starts, len(encoding.ids)]
    assert all(start < end for start, end in zip(starts, ends, strict=True))


def test_the_tokenizer_is_neither_changed_nor_followed() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=wordpiece())
    aligner = Aligner(tokenizer)
    before = aligner.encode([["a", "b", "a"]])[0].ids.tolist()
    tokenizer.backend_tokenizer.enable_truncation(1)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    assert aligner.encode([["a", "b", "a"]])[0].ids.tolist() == before
    assert Aligner(tokenizer).encode([["a", "b", "a"]])[0].ids.tolist() == before
    assert not tokenizer.backend_tokenizer.encode_special_tokens


def test_a_bare_tokenizer_is_saved_too(tmp_path: Path) -> None:
    Aligner(wordpiece()).save(tmp_path)
    saved = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert pieces(saved, ["unable"])[0] == [["un", "##able"]]


def wordpiece() -> Tokenizer:
    """Lower-cases, strips accents, drops control characters, adds [CLS] and [SEP]."""
    pieces = ["[UNK]", "[CLS]", "[SEP]", "a", "b", "##b", "un", "##able", "naive", "."]
    tokenizer = Tokenizer(
        models.WordPiece(
            vocab={piece: index for index, piece in enumerate(pieces)},
            unk_token="[UNK]",
            max_input_chars_per_word=20,
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def pieces(tokenizer: Tokenizer, words: list[str]) -> tuple[list[list[str]], Encoding]:
    aligner = Aligner(tokenizer)
    encoding = aligner.encode([words])[0]
    check(encoding, words, aligner.bos)
    names = [str(tokenizer.id_to_token(token)) for token in encoding.ids.tolist()]
    ranges = zip(encoding.starts, encoding.ends, strict=True)
    return [names[start:end] for start, end in ranges], encoding


def test_wordpiece_with_stripping_keeps_a_place_for_dropped_words() -> None:
    words = ["Naïve", "\u0301", "unable", "\x00", "ab.", "é" * 30, "zz"]
    found, encoding = pieces(wordpiece(), words)
    assert found == [
        *(["naive"], ["[UNK]"], ["un", "##able"], ["[UNK]"], ["a", "##b", "."]),
        *(["[UNK]"], ["[UNK]"]),
    ]
    assert encoding.placeholders == 2 and not encoding.word_by_word
    assert encoding.ids[0] == 1 and 2 not in encoding.ids


def test_compatibility_normalisation_keeps_every_piece_in_its_word() -> None:
    vocab = [("<unk>", 0.0), ("▁", -1.0), *((letter, -2.0) for letter in "fi1.23a")]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    found, encoding = pieces(tokenizer, ["ﬁ", "①", "a", "…", "⅓a"])
    assert found[:4] == [["▁", "f", "i"], ["▁", "1"], ["▁", "a"], ["▁", ".", ".", "."]]
    assert found[4][0] == "▁" and found[4][-1] == "a"
    assert encoding.placeholders == 0


def superword() -> Tokenizer:
    """A BPE without pre-tokenisation whose merges cross a space: "of" + " " + "a" is one piece."""
    letters = ["o", "f", "a", "▁", "b"]
    merges = [("o", "f"), ("of", "▁"), ("of▁", "a")]
    vocab = {piece: index for index, piece in enumerate([*letters, "of", "of▁", "of▁a"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    return tokenizer


def test_a_piece_over_two_words_sends_only_that_sentence_word_by_word() -> None:
    found, encoding = pieces(superword(), ["b", "of", "a", "b"])
    assert found == [["b"], ["▁", "of"], ["▁", "a"], ["▁", "b"]]
    assert encoding.word_by_word
    aligner = Aligner(superword())
    many = aligner.encode([["a", "b"], ["of", "a"], ["b", "b"], ["of", "a", ""]])
    assert [each.word_by_word for each in many] == [False, True, False, True]
    assert AlignmentNotes.of(many).lines() == ["2 sentences tokenised word by word"]
    # "of " + "b" shares only the separator, which has no owner of its own: no fallback.
    assert pieces(superword(), ["of", "b"])[0] == [["of▁"], ["b"]]


def test_without_any_stand_in_a_dropped_word_is_an_error_and_nothing_else_is() -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.Fuse()
    assert pieces(tokenizer, ["ab", "b"])[0] == [["a", "b"], ["b"]]
    with pytest.raises(InputError, match="dropped to nothing"):
        Aligner(tokenizer).encode([["a", "zzz"]])


def test_a_tokenizer_without_offsets_is_refused_by_name() -> None:
    class Spelling:
        def __call__(self, text: str) -> list[int]:
            return [ord(char) for char in text]

    with pytest.raises(InputError, match=r"got Spelling; .*tokenizer\.json"):
        Aligner(Spelling())
    with pytest.raises(InputError, match="expected 'joined' or 'joined, closed', got 'words'"):
        Aligner(wordpiece(), mode="words")


def owned(words: list[str], spans: list[tuple[int, int]]) -> tuple[list[int], list[bool]]:
    found, straddles = owners([words], np.array([len(spans)]), np.array(spans).reshape(-1, 2))
    return found.tolist(), straddles.tolist()


@pytest.mark.parametrize(
    ("words", "spans", "wanted"),
    [
        pytest.param(["ab", "c"], [(0, 2), (2, 4)], [0, 1], id="offsets with the leading space"),
        pytest.param(["ab", "c"], [(0, 2), (3, 4)], [0, 1], id="offsets without it"),
        pytest.param(["ab", "c"], [(0, 3), (3, 4)], [0, 1], id="trailing space"),
        pytest.param(["ab", "c"], [(0, 2), (2, 3), (3, 4)], [0, 1, 1], id="space of its own"),
        pytest.param(["ab", "c"], [(0, 0), (0, 2), (3, 3), (3, 4)], [0, 0, 1, 1], id="empty"),
        pytest.param(["ab", "c"], [(0, 2), (2, 2), (3, 4)], [0, 1, 1], id="empty at the space"),
        pytest.param(["ab", "c"], [(0, 2), (3, 4), (4, 4)], [0, 1, 1], id="empty at the end"),
        pytest.param(["a", "é"], [(0, 1), (1, 3), (2, 3), (2, 3)], [0, 1, 1, 1], id="bytes"),
        pytest.param(["a", "", "b"], [(0, 1), (1, 2), (2, 4)], [0, 1, 2], id="empty word"),
        pytest.param(["a", "", "b"], [(0, 1), (1, 3), (3, 4)], [0, 2, 2], id="two spaces in one"),
        pytest.param([""], [(0, 0)], [0], id="no text at all"),
        pytest.param(["a "], [(0, 1), (1, 2)], [0, 0], id="word with a space"),
    ],
)
def test_rules_of_ownership(
    words: list[str], spans: list[tuple[int, int]], wanted: list[int]
) -> None:
    assert owned(words, spans) == (wanted, [False] * len(wanted))


def test_straddling_backward_and_impossible_spans() -> None:
    assert owned(["ab", "c"], [(0, 1), (1, 4)])[1] == [False, True]
    assert owned(["ab", "c"], [(3, 4), (0, 2)])[1] == [False, True]
    # Between sentences going back is the rule, and the end of one is not the start of the next.
    spans = np.array([(0, 1), (2, 3), (3, 3), (0, 1)])
    found, straddles = owners([["a", "b"], ["c"]], np.array([3, 1]), spans)
    assert found.tolist() == [0, 1, 1, 2] and not straddles.any()
    with pytest.raises(RuntimeError, match="outside the text"):
        owned(["ab"], [(0, 3)])
