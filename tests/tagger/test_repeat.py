"""Repetition against its definition: copies by hand, explicit masks, the words of the last copy.

Logits, losses and the gradient of every adapter and of the head, by either forward.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from tokenizers.processors import ByteLevel

from lmsl.config.choices import LoRA
from lmsl.data.tags.sentence import Sentence
from lmsl.data.tags.vocabulary import IGNORED_ID
from lmsl.mask.bits import layer_bits
from lmsl.packs.alignment import Aligner
from lmsl.packs.examples import build_examples
from lmsl.packs.packing import pack
from lmsl.tagger.base import load_tokenizer
from tests.decoders import ALL_STRINGS, WINDOW, build
from tests.layers.block_tools import assembled, step
from tests.tagger.by_hand import ByHand, Text, assert_run, of_run, text_of
from tests.tagger.tagger_tools import CLASSES, CPU

TEXTS = (
    "Zoë 's ☕ costs 1,234 € near </s> <s> .",
    "x",
    "the the the the",
    "Ada Lovelace met Babbage",
)
# Each a single sub-word, so that windows and context can be counted by hand.
TEN = "the of and to a in he was that it"
CHANGES = {"vocab_size": 2048}
SETTINGS: dict[str, Any] = {
    "quantize": "none",
    "head_dropout": 0.0,
    "lora": LoRA(rank=3, alpha=6.0, dropout=0.0, targets=("q_proj", "v_proj", "down_proj")),
}
FEW = ("0000", "0011", "1010", "1111")
BLOCKS = ("own", "plain")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer("tiny")


def labelled(counts: Sequence[int]) -> list[list[int]]:
    """For each sentence labels of its words, every sixth of them unknown."""
    endless = itertools.cycle([*range(CLASSES), IGNORED_ID])
    return [list(itertools.islice(endless, count)) for count in counts]


def compare(
    tokenizer: Any,
    runs: Sequence[Sequence[Sentence]],
    strings: Sequence[str],
    block: str,
    *,
    repeat: int,
    texts: Sequence[Sequence[Text]] | None = None,
    family: str = "llama",
    label_at: str = "last",
    max_length: int = 100,
    context: int = 0,
) -> None:
    """One step on a pack, a list of sentences for each run, and each run by hand.

    Args:
        texts: for each run what is read of a copy; by default each sentence alone.
    """
    labels = [labelled([len(s.words) for s in sentences]) for sentences in runs]
    examples = [
        build_examples(
            sentences,
            Aligner(tokenizer),
            max_length=max_length,
            overflow="window",
            repeat=repeat,
            context=context,
        ).examples
        for sentences in runs
    ]
    seeds = tuple(range(1, len(runs) + 1))
    more = SETTINGS | {"string": list(strings), "seeds": seeds, "label_at": label_at}
    found = assembled(family, block, CHANGES, **more)
    assert (found.tagger.block is not None) == (block == "own")
    ours = step(found, pack(examples, labels, CPU, found.tagger.bits))
    by_hand = ByHand(
        decoder=build(family, **CHANGES),
        layers=None,
        copies=repeat + 1,
        label_at=label_at,
        scale=found.lora.alpha / found.lora.rank,
    )
    for run, (sentences, string) in enumerate(zip(runs, strings, strict=True)):
        own = (
            [
                text_of(tokenizer, s.words, own)
                for s, own in zip(sentences, labels[run], strict=True)
            ]
            if texts is None
            else texts[run]
        )
        assert_run(ours, run, by_hand.result(own, layer_bits(string, 4), of_run(found, run)))


def sentences(*texts: str, document: str | None = None) -> list[Sentence]:
    return [Sentence(words=tuple(t.split()), tags=None, document=document) for t in texts]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("string", FEW)
def test_several_sentences_in_a_pack(tokenizer: Any, string: str, block: str) -> None:
    compare(tokenizer, [sentences(*TEXTS)], [string], block, repeat=1)


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("string", ALL_STRINGS)
@pytest.mark.parametrize("repeat", [0, 1, 2, 4])
def test_every_string(tokenizer: Any, repeat: int, string: str, block: str) -> None:
    compare(tokenizer, [sentences(*TEXTS)], [string], block, repeat=repeat)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    ("family", "label_at", "repeat"),
    [
        # A window shorter than a copy, which it crosses from one to the next.
        ("mistral", "last", 1),
        ("qwen3", "first", 2),
        ("llama", "mean", 2),
    ],
)
def test_families_and_places_of_reading(
    tokenizer: Any, family: str, label_at: str, repeat: int, block: str
) -> None:
    assert len(tokenizer(TEXTS[0])["input_ids"]) > WINDOW
    pair = [sentences(*TEXTS)]
    compare(tokenizer, pair, ["0110"], block, repeat=repeat, family=family, label_at=label_at)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_tokenizer_without_a_beginning(block: str) -> None:
    """Copies touch, with nothing between them."""
    bare = load_tokenizer("tiny")
    bare.backend_tokenizer.post_processor = ByteLevel(trim_offsets=False)
    assert len(bare("the")["input_ids"]) == 1
    compare(bare, [sentences(*TEXTS)], ["0011"], block, repeat=2)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    "strings",
    [("0011", "0000", "1111"), pytest.param(ALL_STRINGS, marks=pytest.mark.slow)],
    ids=["three", "all"],
)
def test_a_stack_of_runs(tokenizer: Any, strings: Sequence[str], block: str) -> None:
    """Each run has its own sentences, so that all but the longest hold filling."""
    own = [sentences(*TEXTS[number % 4 :]) for number in range(len(strings))]
    compare(tokenizer, own, strings, block, repeat=1)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("repeat", [1, 2])
def test_windows(tokenizer: Any, repeat: int, block: str) -> None:
    """Four of ten words at a time, each window repeated; between two sentences that fit."""
    seen = (((0, 4), (0, 3)), ((2, 6), (3, 5)), ((4, 8), (5, 7)), ((6, 10), (7, 10)))
    words = TEN.split()
    first, labels, last = labelled([1, 10, 4])
    texts = [text_of(tokenizer, ["in"], first)]
    for (start, end), (read, stop) in seen:
        inside = slice(read - start, stop - start)
        texts.append(text_of(tokenizer, words[start:end], labels[read:stop], inside))
    texts.append(text_of(tokenizer, words[:4], last))
    own = [sentences("in", TEN, " ".join(words[:4]))]
    compare(tokenizer, own, ["0110"], block, repeat=repeat, texts=[texts], max_length=5)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("repeat", [1, 2])
def test_context_of_the_document(tokenizer: Any, repeat: int, block: str) -> None:
    """Two words on each side belong to every copy, and are not read."""
    words = TEN.split()
    parts = ((0, 3), (3, 5), (5, 10))
    own = sentences(*(" ".join(words[start:end]) for start, end in parts), document="d")
    texts = []
    for (start, end), labels in zip(parts, labelled([3, 2, 5]), strict=True):
        left = max(0, start - 2)
        inside = slice(start - left, end - left)
        texts.append(text_of(tokenizer, words[left : end + 2], labels, inside))
    compare(tokenizer, [own], ["0011"], block, repeat=repeat, texts=[texts], context=2)
