"""Ranges of the settings that are numbers: on the command line and in what a run left on disk."""

import math
from typing import Any

from lmsl.errors import InputError
from lmsl.wording import shortened

_LEAST: dict[str, float] = {
    "groups": 1,
    "repeat": 0,
    "exit_layer": 1,
    "max_length": 2,
    "context": 0,
    "epochs": 1,
    "max_steps": 1,
    "batch_size": 1,
    "tokens_per_batch": 1,
    "keep_every": 1,
    "split_seed": 0,
    "seed": 0,
    "lr": 0,
    "warmup_mntp": 0,
    "epsilon": 0,
    "weight_decay": 0,
    "max_grad_norm": 1e-12,
    "lora_rank": 1,
    "lora_alpha": 0,
    "patience": 1,
    "save_minutes": 0,
}
_MOST: dict[str, float] = {
    "repeat": 1000,
    "exit_layer": 10_000,
    "max_length": 10_000_000,
    "context": 10_000_000,
    "batch_size": 10_000_000,
    "tokens_per_batch": 1_000_000_000,
    "warmup_mntp": 10_000_000,
    "lora_rank": 16_384,
    "lora_alpha": 1e6,
    "seed": 2**63 - 1,
}
"""Beyond these a number is a slip, and would be an endless wait or a failed allocation."""
_SHARES = ("lora_dropout", "head_dropout", "warmup", "beta2")
_POSITIVE = {"temperature": 100.0, "top_p": 1.0}
"""More than 0, and at most so much."""


def check_range(place: str, name: str, value: Any) -> None:
    """Refuse a number that its setting cannot be; None and settings without a range pass.

    Args:
        place: how the message begins.

    Raises:
        InputError: out of range, or not finite.
    """
    if value is not None and name in _LEAST and not value >= _LEAST[name]:
        raise InputError(f"{place}: expected at least {_LEAST[name]}, got {value}")
    if value is not None and name in _MOST and value > _MOST[name]:
        raise InputError(f"{place}: expected at most {_MOST[name]}, got {shortened(str(value))}")
    if name in _SHARES and not 0 <= value < 1:
        raise InputError(f"{place}: expected at least 0 and less than 1, got {value}")
    if name in _POSITIVE and not 0 < value <= _POSITIVE[name]:
        most = f"{_POSITIVE[name]:g}"
        raise InputError(f"{place}: expected more than 0 and at most {most}, got {value}")
    # Without a bound gradients are never clipped.
    if value == math.inf and name != "max_grad_norm":
        raise InputError(f"{place}: expected a finite number, got {value}")
