"""A run of a stack against the same run alone, after 20 updates, weight by weight."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from lmsl.errors import InputError
from lmsl.mask.flags import pack_flags
from tests.layers import block_tools
from tests.layers.block_tools import packed, sentences
from tests.tagger.tagger_tools import CPU, Built, build_task
from tests.training.training_tools import CONFIG, assert_near, train

GRID = [f"{value:04b}" for value in range(16)]
EIGHT = ["0000", "0011", "0101", "0110", "1001", "1010", "1100", "1111"]
LONG = replace(CONFIG, epochs=10, max_steps=20, batch_size=3)


def built(strings: Sequence[str], seeds: Sequence[int], block: str, dropout: float) -> Built:
    """A stack over the same small decoder, whatever runs it is made of."""
    return block_tools.built(seeds, string=list(strings), block=block, dropout=dropout)


def compare(strings: Sequence[str], seeds: Sequence[int], block: str, dropout: float) -> None:
    """Train the stack, then each run alone; lengths differ, so different seeds need filling."""
    task, config = build_task(6), replace(LONG, tokens_per_batch=60)
    stack = built(strings, seeds, block, dropout)
    start = stack.weights(0)
    together = train(stack, task, config, lr=1e-3)
    assert len(together) == 20
    for run, (string, seed) in enumerate(zip(strings, seeds, strict=True)):
        single = built([string], [seed], block, dropout)
        alone = train(single, task, config, lr=1e-3)
        assert_near(stack.weights(run), single.weights(), 1e-5)
        assert [u.alone(run).tokens for u in together] == [u.tokens for u in alone]
        assert together[-1].loss[run] == pytest.approx(alone[-1].loss[0], rel=1e-4)
    moved = [float((stack.weights(0)[name] - start[name]).abs().max()) for name in start]
    assert min(moved) > 1e-3, "all weights move further than the tolerance"


@pytest.mark.parametrize(
    ("block", "strings"),
    [
        ("own", EIGHT),
        # Of a stack they differ in flags alone, which both forwards take from the same pack.
        ("plain", ["0000", "0110", "1011", "1111"]),
        pytest.param("own", GRID, marks=pytest.mark.slow),
        pytest.param("plain", GRID, marks=pytest.mark.slow),
    ],
    ids=["own, eight", "plain, four", "own", "plain"],
)
def test_all_strings_train_as_alone(block: str, strings: list[str]) -> None:
    compare(strings, [1] * len(strings), block, dropout=0.0)


@pytest.mark.parametrize("block", ["own", "plain"])
def test_every_run_has_its_own_order_and_its_own_dropout(block: str) -> None:
    compare(["0011", "1100", "0011", "1111"], [1, 2, 3, 3], block, dropout=0.3)


def test_strings_differ_in_a_stack() -> None:
    """What the tests above compare would be equal were the flags not obeyed at all."""
    stack = built(GRID, [1] * 16, "own", 0.0)
    batch = packed(*[sentences([5, 3])] * 16)
    stack.tagger.eval()
    with torch.no_grad():
        batch = replace(
            batch,
            attention=replace(
                batch.attention, is_causal=pack_flags(stack.tagger.bits or [], [2] * 16, CPU)
            ),
        )
        logits = stack.tagger(batch)
    assert len({tuple(own.flatten().tolist()) for own in logits}) == 16


def test_layers_in_which_all_agree_have_a_plain_flag() -> None:
    flags = pack_flags([[True, False, True], [True, False, False]], [2, 3], CPU)
    assert flags[:2] == (False, True)
    assert isinstance(flags[2], torch.Tensor)
    assert flags[2].tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("block", ["own", "plain"])
def test_a_stack_without_flags_in_its_pack_is_refused(block: str) -> None:
    """A layer in which runs differ has no flag to fall back on: it would be somebody's else."""
    stack = built(["0011", "0111"], [1, 1], block, 0.0)
    with pytest.raises(InputError, match="runs of this stack differ here"):
        stack.tagger(packed(sentences([3]), sentences([3])))


def test_a_stack_is_measured_run_by_run(monkeypatch: Any) -> None:
    """Flags handed to the wrong runs are found before anything is trained."""
    from lmsl.mask import probing

    honest = probing.pack_flags
    monkeypatch.setattr(
        probing, "pack_flags", lambda bits, *rest: honest([bits[1], bits[0]], *rest)
    )
    with pytest.raises(InputError, match=r"packed \(run 1 of 2\) call: layer 1 is bidirectional"):
        built(["0011", "0111"], [1, 1], "plain", 0.0)
