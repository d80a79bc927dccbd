"""LoRA for a stack of runs over one frozen base.

The base model sees one long batch ``[1, runs * tokens, hidden]`` and multiplies it once. Each
adapted linear then views it as ``[runs, tokens, hidden]`` and adds the low-rank term of every run
with two batched products. A run in a stack computes what it would alone: initial values and
dropout masks depend on its own seed and on the name of the place, on nothing else.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lmsl.errors import InputError
from lmsl.layers.dropout import (
    DropoutClock,
    check_probability,
    dropout_mask,
    seeded_generator,
    site_number,
)
from lmsl.layers.linears import replace_module
from lmsl.layers.products import add_adapter
from lmsl.layers.quantize import NF4Linear
from lmsl.layers.targets import chosen_layers


class StackedLoRALinear(nn.Module):
    """A frozen linear layer plus ``scaling * B A dropout(x)`` with its own A and B for each run.

    Args:
        base: frozen ``nn.Linear``, ``Conv1D`` or ``NF4Linear``.
        rank: the inner size of the adapter.
        alpha: the adapter is scaled by ``alpha / rank``.
        dropout: probability for the adapter's input, in train mode.
        seeds: one for each run.
        site: number of this place, see ``lmsl.layers.dropout.site_number``.
        clock: where training stands; needed when ``dropout`` is not 0.
    """

    def __init__(
        self,
        base: nn.Module,
        *,
        rank: int,
        alpha: float,
        dropout: float,
        seeds: Sequence[int],
        site: int,
        clock: DropoutClock | None = None,
    ) -> None:
        super().__init__()
        if dropout > 0 and clock is None:
            raise InputError(f"dropout: expected a clock for dropout {dropout}, got none")
        self.base = base
        self.in_features, self.out_features, device = _geometry(base)
        self.rank, self.runs = rank, len(seeds)
        self.alpha, self.scaling, self.dropout = alpha, alpha / rank, dropout
        self.site, self.clock = site, clock
        # PEFT's initial values: uniform in 1/sqrt(in) for A, zeros for B.
        bound = 1.0 / math.sqrt(self.in_features)
        starts = [
            torch.empty(rank, self.in_features).uniform_(
                -bound, bound, generator=seeded_generator(seed, site)
            )
            for seed in seeds
        ]
        self.lora_A = nn.Parameter(torch.stack(starts).to(device))
        self.lora_B = nn.Parameter(torch.zeros(self.runs, self.out_features, rank, device=device))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``[..., in_features]`` to ``[..., out_features]``; the rows of run 0 come first."""
        outputs: torch.Tensor = self.base(inputs)
        rows = inputs.reshape(self.runs, -1, self.in_features)
        factors = self.dropout_factors(rows.shape[1], rows.device)
        by_run = outputs.reshape(self.runs, -1, self.out_features)
        total, *_ = add_adapter(by_run, rows, factors, self.lora_A, self.lora_B, self.scaling)
        return total.reshape(outputs.shape)

    def dropout_factors(self, tokens: int, device: torch.device) -> torch.Tensor | None:
        """Factors [runs, tokens, in_features] of the adapter's input; None without dropout."""
        if not self.training or self.dropout == 0:
            return None
        assert self.clock is not None
        return dropout_mask(
            self.clock,
            site=self.site,
            tokens=tokens,
            features=self.in_features,
            p=self.dropout,
            device=device,
        )

    def keep(self, runs: Sequence[int]) -> None:
        """Leave only these runs of the stack; the parameters are new ones."""
        self.lora_A, self.lora_B = kept_runs(self.lora_A, runs), kept_runs(self.lora_B, runs)
        self.runs = len(runs)

    def extra_repr(self) -> str:
        return f"runs={self.runs}, rank={self.rank}, alpha={self.alpha}, dropout={self.dropout}"


def add_lora(
    model: nn.Module,
    *,
    targets: Sequence[str],
    rank: int,
    alpha: float,
    dropout: float,
    seeds: Sequence[int],
    clock: DropoutClock | None = None,
) -> list[str]:
    """Freeze ``model`` and wrap its target layers in ``StackedLoRALinear``, in place.

    Args:
        model: a Hugging Face decoder, quantised or not.
        targets: see ``lmsl.layers.targets``.
        rank: inner size of the adapters.
        alpha: adapters are scaled by ``alpha / rank``.
        dropout: probability for the adapters' inputs.
        seeds: one for each run of the stack.
        clock: of this stack, with the same seeds; needed when ``dropout`` is not 0.

    Returns:
        The full names of the adapted layers.

    Raises:
        InputError: an unknown target, a rank below 1, or a probability outside [0, 1).
    """
    assert seeds and (clock is None or tuple(clock.seeds) == tuple(seeds))
    if rank < 1:
        raise InputError(f"rank: expected at least 1, got {rank}")
    check_probability("dropout", dropout)
    assert not stacked_layers(model), "the model already has LoRA layers"
    chosen = chosen_layers(model, targets)
    sites = {name: site_number(_local_name(name)) for name in chosen}
    assert len(set(sites.values())) == len(sites), "two layers share a site number"
    model.requires_grad_(False)
    for name, base in chosen.items():
        wrapped = StackedLoRALinear(
            base,
            rank=rank,
            alpha=alpha,
            dropout=dropout,
            seeds=seeds,
            site=sites[name],
            clock=clock,
        )
        replace_module(model, name, wrapped.train(base.training))
    return list(chosen)


def kept_runs(parameter: nn.Parameter, runs: Sequence[int]) -> nn.Parameter:
    """A parameter of its own with these runs of a stacked one."""
    return nn.Parameter(parameter.detach()[list(runs)], requires_grad=parameter.requires_grad)


def stacked_layers(model: nn.Module) -> dict[str, StackedLoRALinear]:
    """The adapted layers by full name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, StackedLoRALinear)}


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Inside, adapted layers compute what they would without their adapters."""
    layers = list(stacked_layers(model).values())
    before = [layer.scaling for layer in layers]
    try:
        for layer in layers:
            layer.scaling = 0.0
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling = scaling


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that take gradients, by full name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


class RunParameters:
    """The stacked parameters as separate ones for each run, for optimizers and clipping.

    A view is a leaf tensor that shares its storage with one run's slice, so a step on the view is
    a step on the model. Create it after the model is on its device. In each update: ``backward``,
    ``bind_gradients()``, clip and step on the views, ``zero_gradients()``.

    Args:
        parameters: name to ``[runs, ...]``.
        runs: size of the stack.
        whole: names of those that belong to the only run as they are, without a dimension of runs:
            the weights of the model itself.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], runs: int, whole: Collection[str] = ()
    ) -> None:
        assert runs == 1 or not whole, "weights of the model itself belong to one run"
        for name, parameter in parameters.items():
            stacked = name in whole or parameter.shape[0] == runs
            assert stacked, f"{name} is not stacked over {runs} runs"
        self._parameters, self._whole = dict(parameters), frozenset(whole)
        self.views: list[dict[str, torch.Tensor]] = [
            {
                name: self._of(run, name, p.detach()).requires_grad_()
                for name, p in parameters.items()
            }
            for run in range(runs)
        ]

    def _of(self, run: int, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The part of a run in a parameter or its gradient."""
        return tensor if name in self._whole else tensor[run]

    def bind_gradients(self) -> None:
        """Let each view's gradient be its slice of the parameter's, without a copy."""
        for run, views in enumerate(self.views):
            for name, view in views.items():
                grad = self._parameters[name].grad
                view.grad = None if grad is None else self._of(run, name, grad)

    def clip_gradients(self, max_norm: float) -> list[float]:
        """Scale the gradients of every run whose norm is above ``max_norm``; the norms before.

        Run by run it is ``torch.nn.utils.clip_grad_norm_``, computed for all of them at once.
        """
        grads = [p.grad for p in self._parameters.values() if p.grad is not None]
        if not grads:
            return [0.0] * len(self.views)
        if self._whole:
            norm = torch.stack(torch._foreach_norm(grads)).norm()[None]
        else:
            # Not vector_norm: over a dimension it takes milliseconds on CPU.
            norm = torch.cat([grad.flatten(1) for grad in grads], 1).square_().sum(1).sqrt()
        factors = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        of_each = [factors.view(-1, *[1] * (grad.dim() - 1)) for grad in grads]
        torch._foreach_mul_(grads, of_each)
        return norm.tolist()

    def zero_gradients(self) -> None:
        """Forget the gradients of parameters and views."""
        for tensor in (*self._parameters.values(), *(v for d in self.views for v in d.values())):
            tensor.grad = None


def _geometry(base: nn.Module) -> tuple[int, int, torch.device]:
    if isinstance(base, NF4Linear):
        return base.in_features, base.out_features, base.packed.device
    if isinstance(base, Conv1D):
        return (*base.weight.shape, base.weight.device)
    assert isinstance(base, nn.Linear)
    return base.in_features, base.out_features, base.weight.device


def _local_name(name: str) -> str:
    """The name from the list of layers on: the same with and without wrappers around the model."""
    parts = name.split(".")
    first_index = next(place for place, part in enumerate(parts) if part.isdecimal())
    return ".".join(parts[max(0, first_index - 1) :])
