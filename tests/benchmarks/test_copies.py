"""What copies and early exit cost by formula, against what torch counts of an update."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.search import copies
from lmsl.config.config import Config
from lmsl.packs.packing import pack
from tests.benchmarks.conftest import Refused
from tests.decoders import build
from tests.layers.block_tools import SETTINGS, assembled, sentences, step
from tests.tagger.tagger_tools import CLASSES, CPU

SMALL = ("--data", "synthetic", "--batch-size", "2")


def test_multiply_adds_are_those_that_torch_counts() -> None:
    """Of transformers' layers with eager attention, whose scores are whole squares."""
    lora = replace(SETTINGS["lora"], targets=("all-linear",))
    config = Config(lora_rank=lora.rank, lora_targets=lora.targets)
    shape = copies.shape_of(build("llama"), config)
    found = assembled(block="plain", string="1111", lora=lora, quantize="none", attention="eager")
    examples = sentences([9, 9])
    tokens = sum(len(one.ids) for one in examples)
    expected = copies.cost(
        shape, [True] * 4, Counter(len(one.ids) for one in examples), copies=1, share=1.0
    )
    with FlopCounterMode(display=False) as counter:
        step(found, pack([examples], [[[0] * 9] * 2], CPU))
    head = 3 * 18 * 32 * CLASSES
    # Nothing goes back into the embeddings: neither by query, key and value nor by their adapters.
    first = tokens * 32 * (32 + 16 + 16) + tokens * 3 * lora.rank * 32
    assert counter.get_total_flops() == 2 * (expected.work + head - first)


def test_copies_and_masks_by_hand() -> None:
    shape = copies.Shape(frozen=[10, 20, 40], adapters=[1, 2, 4], features=1)
    found = copies.cost(shape, [False, True], {3: 2, 1: 1}, copies=2, share=0.5)
    assert found.tokens == 0.5 * 2 * 7
    assert found.frozen == 2 * 7 * 30 and found.adapters == 3 * 7 * 3
    causal = sum(int(torch.ones(n, n).tril().sum()) for n in (6, 6, 2))
    assert found.attention == 0.5 * 6 * (causal + 36 + 36 + 4)


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert copies.main([*SMALL, "--repeats", "0", "2", "--layers", "8", "4"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert [(row[0], row[2]) for row in rows] == [("8", "0"), ("8", "2"), ("4", "0"), ("4", "2")]
    ratios = [float(row[-1]) for row in rows]
    assert [row[6] for row in rows] == ["1.00", "3.00", "1.00", "3.00"]
    assert ratios[0] == 1 and ratios[1] > 3 and ratios[2] < 0.5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--layers", "9"), "--layers: expected numbers from 1 to 8, got 9"),
        (("--repeats", "-1"), "--repeats: expected at least 0, got -1"),
        (("--data", "lengths:x"), "--data lengths:x: expected one of"),
    ],
)
def test_bad_flags_are_refused(refused: Refused, flags: tuple[str, ...], message: str) -> None:
    refused(copies.main, [*SMALL, *flags], message)
