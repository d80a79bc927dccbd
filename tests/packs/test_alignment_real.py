"""Alignment of six real tokenizers over every shared text, and over hostile words.

On real data the check is byte-exact and word by word: the bytes of the sub-words that a word was
given must be that word's bytes, behind the one space that separates it.
"""

import json
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lmsl.packs.alignment import Aligner, AlignmentNotes, Encoding
from tests.packs.test_alignment import check
from tests.shared import DATA, TOKENIZERS, needs_shared

pytestmark = needs_shared

NAMES = ("gpt2", "mistral-7b-v0.1", "olmo-gpt-neox", "phi-3-mini", "qwen2", "roberta-base")
BOS = {"mistral-7b-v0.1": [1], "roberta-base": [0]}
COMPOSING = ("olmo-gpt-neox", "qwen2")
COLUMNS = {"conll2000": ("*.txt", 0), "wnut17": ("**/*", 0), "uner": ("*/*.iob2", 1)}
COLUMNS["litbank_events"] = ("tsv/*.tsv", 0)


def columns(folder: str) -> Iterator[list[str]]:
    pattern, column = COLUMNS[folder]
    for path in sorted((DATA / folder).glob(pattern)):
        if path.suffix in (".md", "") or "LICENSE" in path.name or not path.is_file():
            continue
        for block in re.split(r"\n[ \t]*\n", path.read_text("utf-8")):
            rows = [row.split() for row in block.split("\n") if row.strip()]
            words = [row[column] for row in rows if row[0] != "#" and len(row) > column]
            if words:
                yield words


def running_text() -> Iterator[str]:
    for path in sorted(DATA.glob("snips/**/seq.in")):
        yield from path.read_text("utf-8").splitlines()
    for path in sorted(DATA.glob("nlupp/data/*/fold*.json")):
        yield from (each["text"] for each in json.loads(path.read_text("utf-8")))
    for path in sorted(DATA.glob("mams_atsa/*.xml")):
        yield from (each.text or "" for each in ElementTree.parse(path).iter("text"))


@cache
def shared_sentences() -> tuple[list[str], ...]:
    found = [words for folder in COLUMNS for words in columns(folder)]
    for number, text in enumerate(running_text()):
        split = text.split() if number % 2 else re.findall(r"\w+|[^\w\s]", text)
        found += [split] if split else []
    return tuple(found)


@cache
def real(name: str) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(TOKENIZERS / name)


@cache
def real_aligner(name: str) -> Aligner:
    return Aligner(real(name))


@cache
def byte_table(name: str) -> list[bytes]:
    """What each id stands for, as bytes, from the vocabulary alone."""
    backend = real(name).backend_tokenizer
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable}
    byte_of |= {chr(256 + order): byte for order, byte in enumerate(other)}
    added = {token.content for token in backend.get_added_tokens_decoder().values()}
    table = [b""] * (max(backend.get_vocab().values()) + 1)
    for token, index in backend.get_vocab().items():
        if token in added:
            table[index] = token.encode()
        elif name not in ("mistral-7b-v0.1", "phi-3-mini"):
            table[index] = bytes(byte_of[char] for char in token)
        elif re.fullmatch(r"<0x[0-9A-F]{2}>", token):
            table[index] = bytes([int(token[3:5], 16)])
        else:
            table[index] = token.replace("▁", " ").encode()
    return table


def expected_pieces(name: str, words: list[str]) -> list[bytes]:
    """The bytes each word's sub-words must spell, its space included."""
    composed = [
        unicodedata.normalize("NFC", word) if name in COMPOSING else word for word in words
    ]
    first = b" " if name in ("mistral-7b-v0.1", "phi-3-mini") else b""
    return [(b" " if order else first) + word.encode() for order, word in enumerate(composed)]


def spelt(name: str, encoding: Encoding) -> list[bytes]:
    table = byte_table(name)
    ranges = zip(encoding.starts, encoding.ends, strict=True)
    return [b"".join(table[token] for token in encoding.ids[a:z].tolist()) for a, z in ranges]


def check_real(name: str, sentences: tuple[list[str], ...]) -> None:
    aligner = real_aligner(name)
    encodings = aligner.encode(sentences)
    assert aligner.bos == BOS.get(name, [])
    assert AlignmentNotes.of(encodings) == AlignmentNotes()
    for words, encoding in zip(sentences, encodings, strict=True):
        check(encoding, words, aligner.bos)
        assert spelt(name, encoding) == expected_pieces(name, words), words


@pytest.mark.parametrize("name", NAMES)
def test_every_word_of_some_shared_data_gets_exactly_its_bytes(name: str) -> None:
    check_real(name, shared_sentences()[NAMES.index(name) :: 50])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_word_of_all_shared_data_gets_exactly_its_bytes(name: str) -> None:
    check_real(name, shared_sentences())


@pytest.mark.parametrize("name", NAMES)
def test_decoding_gives_the_sentences_back_and_the_ids_are_the_tokenizers_own(name: str) -> None:
    sentences = shared_sentences()[::397]
    tokenizer, aligner = real(name), real_aligner(name)
    for words, encoding in zip(sentences, aligner.encode(sentences), strict=True):
        text = " ".join(words)
        wanted = unicodedata.normalize("NFC", text) if name in COMPOSING else text
        decoded = tokenizer.backend_tokenizer.decode(encoding.ids[len(aligner.bos) :].tolist())
        assert decoded.strip() == wanted
        end = [2] if name == "roberta-base" else []
        assert tokenizer(text)["input_ids"] == [*encoding.ids.tolist(), *end]


HOSTILE = [
    *("", " ", "\t", "\n", "\r\n", "\xa0", "\u3000", "\u200b", "\u200d", "\ufeff", "\x00", "\x1f"),
    *("e\u0301", "\u0301", "ﬁ", "①", "שָׁלוֹם", "مرحبا", "日本語", "👩‍👩‍👧", "🇩🇰", "🤗", "7", "..."),
    *(
        "</s>",
        "<s>",
        "<unk>",
        "<|endoftext|>",
        "b<|endoftext|>c",
        "<|im_start|>",
        "<mask>",
        "<0x0A>",
        "▁",
        "Ġ",
    ),
    *("San  Francisco", " lead", "trail ", "\ufffd", "\U0010ffff", "\ud800", "a\udfffb", "don't"),
]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_words_alone_and_between_others(name: str) -> None:
    aligner = real_aligner(name)
    sentences = [[word] for word in HOSTILE]
    sentences += [["a", word, "b"] for word in HOSTILE]
    sentences += [[word, word] for word in HOSTILE] + [HOSTILE, HOSTILE[::-1], ["x" * 10_000], []]
    special = set(real(name).all_special_ids)
    for words, encoding in zip(sentences, aligner.encode(sentences), strict=True):
        check(encoding, words, aligner.bos)
        assert encoding.repaired == sum(word in ("\ud800", "a\udfffb") for word in words)
        if not encoding.placeholders:
            assert not special & set(encoding.ids[len(aligner.bos) :].tolist()), words


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(NAMES),
    words=st.lists(st.sampled_from(HOSTILE) | st.text(max_size=6), min_size=1, max_size=8),
)
def test_any_words_are_all_there_in_order(name: str, words: list[str]) -> None:
    aligner = real_aligner(name)
    encoding = aligner.encode([words])[0]
    check(encoding, words, aligner.bos)
    if not (encoding.placeholders or encoding.word_by_word or encoding.repaired):
        found = b"".join(spelt(name, encoding))
        assert unspaced(found) == unspaced(b"".join(expected_pieces(name, words)))


def unspaced(text: bytes) -> bytes:
    """Without spaces and what Metaspace takes for one: some tokenizers swallow single ones."""
    return text.replace("▁".encode(), b"").replace(b" ", b"")


def test_order_and_results_do_not_depend_on_the_company() -> None:
    aligner = real_aligner("gpt2")
    sentences = [[], ["Ada", "met", "Babbage"], ["", ""], [], ["🤗"]] * 250
    together = aligner.encode(sentences)
    for index in (0, 1, 2, 4, 1023, 1024, 1026, 1249):
        alone = aligner.encode([sentences[index]])[0]
        assert alone.ids.tolist() == together[index].ids.tolist()
        assert alone.starts.tolist() == together[index].starts.tolist()
    assert AlignmentNotes.of(together).lines() == [
        "250 words without a sub-word, read at a placeholder"
    ]


@pytest.mark.parametrize("name", ["gpt2", "phi-3-mini", "roberta-base"])
def test_a_saved_tokenizer_encodes_alike(name: str, tmp_path: Path) -> None:
    aligner = real_aligner(name)
    aligner.save(tmp_path)
    sentences = [*shared_sentences()[::997], HOSTILE]
    saved = Aligner(AutoTokenizer.from_pretrained(tmp_path)).encode(sentences)
    for one, other in zip(aligner.encode(sentences), saved, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.starts.tolist() == other.starts.tolist()


def test_ids_of_real_words_survive_a_word_by_word_fallback() -> None:
    tokenizer = real("gpt2")
    joined = real_aligner("gpt2").encode([["The", "cat", "sat"]])[0].ids.tolist()
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.add_tokens([AddedToken("cat sat", normalized=False)])
    encoding = Aligner(backend).encode([["The", "cat", "sat"]])[0]
    assert encoding.word_by_word
    assert encoding.ids.tolist() == joined
