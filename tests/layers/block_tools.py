"""One training step by either forward over the same tiny random decoder, and their comparison."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from lmsl.config.choices import LoRA
from lmsl.layers.dropout import DropoutClock
from lmsl.layers.fused.linear import FusedLinear
from lmsl.layers.fused.ops import PLAIN, LayerOps
from lmsl.layers.fused.tail import Tail
from lmsl.layers.lora import RunParameters, stacked_layers, trainable_parameters
from lmsl.mask.bits import layer_bits
from lmsl.packs.examples import Example
from lmsl.packs.packing import Pack, pack
from lmsl.tagger.assemble import Assembled, Operators, Storage, Trained, assemble
from lmsl.tagger.base import Base
from lmsl.training.eager_step import word_losses
from tests.decoders import build
from tests.tagger.tagger_tools import CLASSES, CPU, Built, example

QV = ("q_proj", "v_proj")
SETTINGS: dict[str, Any] = {
    "string": "0101",
    "classes": CLASSES,
    "label_at": "last",
    "lora": LoRA(rank=3, alpha=6.0, dropout=0.2, targets=QV),
    "head_dropout": 0.1,
    "seeds": (1,),
    "quantize": "nf4",
    "resident": "yes",
    "device": CPU,
    "dtype": torch.float32,
}
PARTS: dict[str, Any] = {"trained": Trained, "storage": Storage, "operators": Operators}


def assembled(
    family: str = "llama",
    block: str = "own",
    changes: dict[str, Any] | None = None,
    base: Base | None = None,
    **more: Any,
) -> Assembled:
    """A tagger in training mode whose adapters matter: B is not zero."""
    base = base or Base(
        decoder=build(family, **(changes or {})).to(more.get("dtype", torch.float32)),
        tokenizer=None,
        name=family,
        revision=None,
        depth=4,
    )
    given: dict[str, Any] = SETTINGS | {"block": block} | more
    string = given.pop("string")
    strings = [string] * len(given["seeds"]) if isinstance(string, str) else string
    # A string divides all layers, and fewer may be kept.
    kept = base.decoder.config.num_hidden_layers
    bits = [layer_bits(one, base.depth)[:kept] for one in strings]
    parts: dict[str, Any] = {
        name: kind(**{f.name: given.pop(f.name) for f in fields(kind) if f.name in given})
        for name, kind in PARTS.items()
    }
    found = assemble(base, bits=bits, **parts, **given)
    for layer in stacked_layers(found.tagger.decoder).values():
        for run, seed in enumerate(found.clock.seeds):
            generator = torch.Generator().manual_seed(seed + layer.site % 1000)
            layer.lora_B.data[run].normal_(0.0, 0.1, generator=generator)
    found.tagger.train()
    return found


def clock_of(seeds: Sequence[int], **place: Any) -> DropoutClock:
    """Of runs that are, by default, at the beginning of their first update."""
    clock, zeros = DropoutClock(seeds=tuple(seeds)), (0,) * len(seeds)
    clock.set(**{"step": 0, "token_offset": zeros, "word_offset": zeros} | place)
    return clock


def built(seeds: Sequence[int] = (1,), *, dropout: float = 0.3, **more: Any) -> Built:
    """The same with what training it needs; every adapter and the head with dropout."""
    shape = LoRA(rank=3, alpha=6.0, dropout=dropout, targets=QV)
    settings = {"string": "0011", "lora": shape, "head_dropout": dropout, "seeds": tuple(seeds)}
    found = assembled(**settings | more)
    parameters = RunParameters(trainable_parameters(found.tagger), len(seeds))
    return Built(tagger=found.tagger, clock=found.clock, parameters=parameters)


def sentences(counts: Sequence[int], seed: int = 0) -> list[Example]:
    """Sentences of so many words, of one to three sub-words each."""
    return [
        example([1 + (index + word) % 3 for word in range(count)], sentence=index, seed=seed)
        for index, count in enumerate(counts)
    ]


def packed(*runs: Sequence[Example]) -> Pack:
    labels = [[[word % CLASSES for word in range(40)] for _ in range(40)] for _ in runs]
    return pack(runs, labels, CPU)


@dataclass(frozen=True)
class Result:
    """What one training step computed."""

    logits: Tensor
    losses: Tensor
    grads: dict[str, Tensor]


def step(found: Assembled, batch: Pack, number: int = 3) -> Result:
    runs = batch.runs
    found.clock.set(step=number, token_offset=(5,) * runs, word_offset=(2,) * runs)
    logits = found.tagger(batch)
    losses = word_losses(logits, batch, "ce")
    losses.sum().backward()
    grads = {n: p.grad.clone() for n, p in trainable_parameters(found.tagger).items()}
    for parameter in trainable_parameters(found.tagger).values():
        parameter.grad = None
    return Result(logits.detach(), losses.detach(), grads)


def assert_equal_results(one: Result, other: Result, tolerance: float = 2e-5) -> None:
    """Equal to rounding, each tensor on the scale of its largest number."""
    pairs = {"logits": (one.logits, other.logits), "losses": (one.losses, other.losses)}
    assert one.grads.keys() == other.grads.keys()
    pairs |= {name: (grad, other.grads[name]) for name, grad in one.grads.items()}
    for name, (mine, its) in pairs.items():
        assert mine.shape == its.shape and mine.dtype == its.dtype, name
        scale = its.abs().max()
        assert scale > 0, name
        error = float((mine - its).abs().max() / scale)
        assert error < tolerance, f"{name}: {error:.1e}"


def compare(batch: Pack, family: str = "llama", tolerance: float = 2e-5, **more: Any) -> None:
    own, plain = assembled(family, "own", **more), assembled(family, "plain", **more)
    assert own.tagger.block is not None and plain.tagger.block is None
    assert_equal_results(step(own, batch), step(plain, batch), tolerance)


def assert_same_bits(one: Result, other: Result) -> None:
    assert torch.equal(one.logits, other.logits)
    assert all(torch.equal(grad, other.grads[name]) for name, grad in one.grads.items())


def random_tail(
    ops: LayerOps = PLAIN, dtype: torch.dtype = torch.float32
) -> tuple[Tail, list[torch.nn.Linear]]:
    """The end of a layer of 40 features, behind heads of 24 and around an MLP of 56."""
    torch.manual_seed(0)
    sizes = ((24, 40), (40, 56), (40, 56), (56, 40))
    linears = [torch.nn.Linear(*size, dtype=dtype).requires_grad_(False) for size in sizes]
    out, gate, up, down = linears
    norm = WideNorm(torch.nn.Parameter(torch.rand(40, dtype=dtype), requires_grad=False), 1e-5)
    groups = FusedLinear([out]), FusedLinear([gate, up]), FusedLinear([down])
    return Tail(groups[0], groups[1].frozen, groups[2].frozen, norm, ops), linears


class WideNorm(torch.nn.Module):
    """The RMSNorm of transformers without its cast to float32."""

    def __init__(self, weight: torch.nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = weight, epsilon

    def forward(self, states: Tensor) -> Tensor:
        variance = states.pow(2).mean(-1, keepdim=True)
        return self.weight * (states * torch.rsqrt(variance + self.variance_epsilon))
