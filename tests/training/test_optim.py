"""The default rate, and what decays."""

import math

import pytest
import torch

from lmsl.errors import InputError
from lmsl.training.optim import build_optimizer, default_lr, resolve_optimizer

NUMBERS = {"lr": 0.1, "beta2": 0.9, "epsilon": 1e-5, "weight_decay": 0.0}


def test_the_default_rate_at_both_ends() -> None:
    """2e-4 where the papers use it; ten times that for the smallest, and no more."""
    assert default_lr(4096) == pytest.approx(2e-4)
    assert default_lr(192) == 3e-3
    assert default_lr(2048) == pytest.approx(4e-4)
    rates = [default_lr(width) for width in (64, 256, 1024, 4096, 8192)]
    assert rates == sorted(rates, reverse=True)


def test_matrices_decay_and_biases_do_not() -> None:
    names = ("layers.0.q_proj.lora_A", "layers.0.q_proj.lora_B", "head.weight", "head.bias")
    shapes = {name: (2,) if name.endswith("bias") else (2, 2) for name in names}
    parameters = {name: torch.ones(shapes[name], requires_grad=True) for name in names}
    optimizer = build_optimizer(parameters, name="auto", **NUMBERS | {"weight_decay": 0.5})
    assert isinstance(optimizer, torch.optim.AdamW)
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in parameters.items():
        expected = 1.0 if name.endswith("bias") else 1.0 - 0.1 * 0.5
        torch.testing.assert_close(parameter.detach(), torch.full(shapes[name], expected))
        parameter.grad = torch.ones_like(parameter)
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    optimizer.step()
    for name, parameter in parameters.items():
        assert (parameter < before[name]).all(), "all of them learn"


def test_one_step_of_adamw_by_hand() -> None:
    """The rate, epsilon and second moment go where they belong."""
    weight = torch.tensor([2.0], requires_grad=True)
    numbers = NUMBERS | {"beta2": 0.5, "epsilon": 1.0}
    optimizer = build_optimizer({"weight": weight}, name="adamw", **numbers)
    expected, first, second = 2.0, 0.0, 0.0
    for step, gradient in enumerate((3.0, -1.0), start=1):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        first, second = 0.9 * first + 0.1 * gradient, 0.5 * second + 0.5 * gradient**2
        mean, square = first / (1 - 0.9**step), second / (1 - 0.5**step)
        expected -= 0.1 * mean / (math.sqrt(square) + 1.0)
        assert weight.item() == pytest.approx(expected, rel=1e-5)


def test_the_eight_bit_optimizer_is_for_cuda() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 1)
    with pytest.raises(InputError, match=r"--optimizer adamw8bit: needs CUDA, got cpu; use"):
        build_optimizer({"weight": torch.ones(1)}, name="adamw8bit", **NUMBERS)
    asked = [("auto", cpu), ("auto", cuda), ("adamw", cuda), ("adamw8bit", cuda)]
    found = [resolve_optimizer(name, device) for name, device in asked]
    assert found == ["adamw", "adamw8bit", "adamw", "adamw8bit"]
