"""The optimizer of one run, and the peak of its learning rate."""

from collections.abc import Mapping

import torch

from lmsl.config.choices import Tune
from lmsl.config.config import Config
from lmsl.errors import InputError
from lmsl.layers.lora import RunParameters

# The published recipes are for models of this width; see default_lr.
_PUBLISHED_WIDTH, _PUBLISHED_LR = 4096, 2e-4


def default_lr(hidden: int, tune: Tune = "lora") -> float:
    """The peak rate for a model of this width: 2e-4 at 4,096, more for narrower ones.

    It goes with the inverse of the width, up to 3e-3, which is where the package's own `tiny` (192
    wide) trains best; only that end of the rule was measured here. All weights are trained at a
    tenth of the rate of adapters, the ratio that Schulman et al. 2025 ("LoRA Without Regret")
    found.
    """
    rate = min(3e-3, _PUBLISHED_LR * _PUBLISHED_WIDTH / hidden)
    return rate if tune == "lora" else rate / 10


def optimizers_of(
    parameters: RunParameters, config: Config, lr: float
) -> list[torch.optim.Optimizer]:
    """One for each run, as a configuration says."""
    return [
        build_optimizer(
            views,
            name=config.optimizer,
            lr=lr,
            beta2=config.beta2,
            epsilon=config.epsilon,
            weight_decay=config.weight_decay,
        )
        for views in parameters.views
    ]


def build_optimizer(
    parameters: Mapping[str, torch.Tensor],
    *,
    name: str,
    lr: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """AdamW over one run's parameters; matrices decay, biases and norms do not.

    Raises:
        InputError: the 8-bit optimizer was asked for off CUDA.
    """
    groups = [
        {"params": [p for p in parameters.values() if p.ndim > 1]},
        {"params": [p for p in parameters.values() if p.ndim < 2]},
    ]
    groups[0]["weight_decay"] = weight_decay  # type: ignore[assignment]
    groups[1]["weight_decay"] = 0.0  # type: ignore[assignment]
    device = next(iter(parameters.values())).device
    if resolve_optimizer(name, device) == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(0.9, beta2), eps=epsilon, fused=True)
    from bitsandbytes.optim import AdamW8bit

    optimizer: torch.optim.Optimizer = AdamW8bit(groups, lr=lr, betas=(0.9, beta2), eps=epsilon)
    return optimizer


def resolve_optimizer(name: str, device: torch.device) -> str:
    """``auto`` made definite: the 8-bit optimizer runs on CUDA only."""
    if name == "auto":
        return "adamw8bit" if device.type == "cuda" else "adamw"
    if name == "adamw8bit" and device.type != "cuda":
        raise InputError(
            f"--optimizer adamw8bit: needs CUDA, got {device.type}; use adamw or auto"
        )
    return name
