"""The stacked head: each run as nn.Linear would be, in float32, and strict files."""

from pathlib import Path

import pytest
import torch
from torch import nn

from lmsl.errors import InputError
from lmsl.layers.head import StackedHead, load_head, save_head
from tests.layers.block_tools import clock_of


def head(seeds: tuple[int, ...] = (3, 4), classes: int = 5, dropout: float = 0.0) -> StackedHead:
    settings = {"hidden": 24, "classes": classes, "dropout": dropout, "seeds": seeds}
    return StackedHead(clock=clock_of(seeds), **settings)


def test_each_run_is_a_linear_layer() -> None:
    stack = head()
    hidden = torch.randn(2, 7, 24)
    logits = stack(hidden)
    for run in range(2):
        expected = nn.functional.linear(hidden[run], stack.weight[run], stack.bias[run])
        torch.testing.assert_close(logits[run], expected)


def test_initial_values_depend_on_the_seed_alone() -> None:
    stack, alone = head((3, 4)), head((4,))
    assert torch.equal(stack.weight[1], alone.weight[0])
    assert torch.equal(stack.bias[1], alone.bias[0])
    assert not torch.equal(stack.weight[0], stack.weight[1])
    bound = 24**-0.5
    assert 0.8 * bound < stack.weight.abs().max() <= bound


def test_float32_whatever_surrounds_it() -> None:
    stack = head()
    hidden = torch.randn(2, 7, 24).bfloat16()
    plain = stack(hidden.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = stack(hidden)
    assert logits.dtype == torch.float32 and torch.equal(logits, plain)


def test_no_words_give_no_logits_and_no_gradient() -> None:
    stack = head()
    logits = stack(torch.zeros(2, 0, 24))
    assert logits.shape == (2, 0, 5)
    logits.sum().backward()
    assert stack.weight.grad is not None and not stack.weight.grad.any()


def test_dropout_follows_words_and_only_in_training() -> None:
    seeds = (3, 4)
    stack = head(seeds, dropout=0.5)
    hidden = torch.randn(2, 12, 24)
    whole = stack(hidden)
    assert stack.clock is not None
    stack.clock.set(step=0, token_offset=(99, 99), word_offset=(5, 7))
    parts = torch.stack((hidden[0, 5:10], hidden[1, 7:12]))
    later = stack(parts)
    torch.testing.assert_close(later[0], whole[0, 5:10])
    torch.testing.assert_close(later[1], whole[1, 7:12])
    assert not torch.allclose(whole, stack.eval()(hidden))
    torch.testing.assert_close(stack(hidden), head(seeds)(hidden))
    with pytest.raises(InputError, match="head dropout: expected a clock"):
        StackedHead(hidden=4, classes=2, dropout=0.1, seeds=(1,))


def test_round_trip_moves_one_run(tmp_path: Path) -> None:
    saved, target = head((3, 4)), head((8, 9, 10))
    before = target.weight.detach().clone()
    save_head(saved, 1, tmp_path)
    load_head(target, 2, tmp_path)
    assert torch.equal(target.weight[2], saved.weight[1])
    assert torch.equal(target.bias[2], saved.bias[1])
    assert torch.equal(target.weight[:2], before[:2])
    assert [path.name for path in tmp_path.iterdir()] == ["head.safetensors"]


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    target = head()
    with pytest.raises(InputError, match=r"head\.safetensors: expected a safetensors file"):
        load_head(target, 0, tmp_path)
    save_head(head(classes=4), 0, tmp_path)
    before = target.weight.detach().clone()
    with pytest.raises(InputError, match=r"weight: expected shape \[5, 24\], got \[4, 24\]"):
        load_head(target, 0, tmp_path)
    assert torch.equal(target.weight, before)
    (tmp_path / "head.safetensors").write_bytes(b"not a tensor file")
    with pytest.raises(InputError, match="expected a safetensors file, got"):
        load_head(target, 0, tmp_path)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "head.safetensors").mkdir()
    with pytest.raises(OSError):
        save_head(head(), 0, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["head.safetensors"]
