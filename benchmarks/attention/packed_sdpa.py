"""What the groups of ``impl="sdpa"`` gain over simpler ways to attend within sentences.

    python -m benchmarks.attention.packed_sdpa
    python -m benchmarks.attention.packed_sdpa --threads 2 --sentences 16 --rounds 5

One layer's attention, forward and backward, over one pack of sentences, by four contenders: a call
of torch's attention for every sentence; for one rectangle padded to the longest; for each group of
similar length; and batched products over the same groups, what ``lmsl_kernels`` chooses. Indices
and masks are made during the warm-up, as in training, where all layers share them. Projections are
left out.

First comes the gate: in float64 output and gradients of all four are those of the reference, and
in float32, which is timed, off them by at most twice the error of torch's own attention called
sentence by sentence, plus a rounding. Where one is not, no time is shown.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.shared.flags import at_least, command
from benchmarks.shared.machine import machine, machine_lines
from benchmarks.shared.record import RESULTS, table, told, write_json
from benchmarks.shared.timing import Contender, Timing, interleave, summary
from lmsl.errors import InputError
from lmsl_kernels import attention, reference_attention
from lmsl_kernels.plan import PackPlan, plan_lengths
from lmsl_kernels.sdpa.groups import layout_of
from lmsl_kernels.sdpa.packed import grouped_attention

CPU = torch.device("cpu")
BASELINE, PADDED, GROUPS = "one call a sentence", "one padded group", "a call a group"
PRODUCTS = "products by group (chosen)"
WAYS = (BASELINE, PADDED, GROUPS, PRODUCTS)
PARTS = ("output", "dq", "dk", "dv")
EXACT = 1e-11
# Lengths are those of newspaper sentences, roughly: lognormal, between the shortest and longest.
SHORTEST, LONGEST = 10, 60
LOG_MEAN, LOG_DEVIATION = 3.1, 0.5
Attend = Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and for how long."""

    sentences: tuple[int, ...] = (16, 64, 200)
    """Sizes of the packs."""
    heads: int = 6
    """Query heads."""
    kv_heads: int = 2
    """Key and value heads."""
    head_dim: int = 32
    """Size of a head."""
    rounds: int = 12
    """How often all contenders take their turn."""
    calls: int = 10
    """Forward and backward passes of a turn."""
    warmup: int = 3
    """Passes of each contender before the first round."""
    threads: int = 1
    """Threads of torch."""
    seed: int = 1
    """Of lengths and values."""
    output: Path = RESULTS / "packed_sdpa_cpu.json"
    """Where the record is written."""


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Queries, keys and values of sentences end to end, and the gradient of the output."""

    lengths: tuple[int, ...]
    inputs: tuple[Tensor, Tensor, Tensor]
    grad: Tensor

    @property
    def plan(self) -> PackPlan:
        return plan_lengths(self.lengths)

    def passes(self, attend: Attend) -> tuple[Tensor, ...]:
        """Output and the gradients of queries, keys and values."""
        out = attend()
        return out, *torch.autograd.grad(out, self.inputs, self.grad)

    def doubled(self) -> "Pack":
        """The same numbers in float64."""
        q, k, v = (x.detach().double().requires_grad_() for x in self.inputs)
        return replace(self, inputs=(q, k, v), grad=self.grad.double())


def run(settings: Settings) -> int:
    """Measure and report; the exit status."""
    _check(settings)
    torch.set_num_threads(settings.threads)
    found = machine(CPU)
    print(*machine_lines(found), sep="\n")
    packs = [make_pack(settings, size) for size in settings.sentences]
    wrong = [line for pack in packs for causal in (True, False) for line in gate(pack, causal)]
    if wrong:
        print(*wrong, "no times: the results above are wrong", sep="\n", file=sys.stderr)
        return 1
    print(f"gate: ok for {', '.join(WAYS)}")
    figures = [_measure(settings, pack) for pack in packs]
    print(
        f"ms forward + backward, causal / bidirectional, best of {settings.rounds}: "
        f"{settings.heads} query and {settings.kv_heads} kv heads of {settings.head_dim}, float32"
    )
    print(_table(figures))
    record = {
        "benchmark": "packed_sdpa",
        "machine": found,
        "settings": told(settings),
        "packs": figures,
    }
    write_json(settings.output, record)
    print(f"written: {settings.output}")
    return 0


def make_pack(settings: Settings, sentences: int) -> Pack:
    """Random sentences of random lengths; equal settings give equal packs."""
    generator = torch.Generator().manual_seed(settings.seed)
    drawn = torch.empty(sentences).log_normal_(LOG_MEAN, LOG_DEVIATION, generator=generator)
    lengths = tuple(drawn.round().clamp(SHORTEST, LONGEST).int().tolist())
    heads = (settings.heads, settings.kv_heads, settings.kv_heads, settings.heads)
    q, k, v, grad = (
        torch.randn(sum(lengths), count, settings.head_dim, generator=generator) for count in heads
    )
    for x in (q, k, v):
        x.requires_grad_()
    return Pack(lengths=lengths, inputs=(q, k, v), grad=grad)


def contenders(pack: Pack, is_causal: bool) -> dict[str, Attend]:
    """The ways to attend, by name."""
    q, k, v = pack.inputs
    plan = pack.plan
    # A plan that does not know its lengths makes one rectangle of them.
    unknown = replace(plan, lengths=None, cache={})
    bounds = list(pairwise(plan.cu_seqlens.tolist()))

    def sentence_by_sentence() -> Tensor:
        parts = [
            attention(
                q[None, start:end],
                k[None, start:end],
                v[None, start:end],
                is_causal=is_causal,
                impl="sdpa",
            )
            for start, end in bounds
        ]
        return torch.cat(parts, dim=1)[0]

    def by_group(plan: PackPlan) -> Attend:
        layout = layout_of(plan, len(q))
        return lambda: grouped_attention(
            q,
            k,
            v,
            layout=layout,
            is_causal=is_causal,
            window=None,
            softcap=None,
            scale=q.shape[-1] ** -0.5,
        )

    def products() -> Tensor:
        return attention(q, k, v, is_causal=is_causal, plan=plan, impl="sdpa")

    ways = (sentence_by_sentence, by_group(unknown), by_group(plan), products)
    return dict(zip(WAYS, ways, strict=True))


def gate(pack: Pack, is_causal: bool) -> list[str]:
    """What is wrong with the results of each contender; nothing is the hope."""
    double, bounds = pack.doubled(), pack.plan.cu_seqlens
    true = double.passes(
        lambda: reference_attention(*double.inputs, is_causal=is_causal, cu_seqlens=bounds)
    )
    ways = contenders(double, is_causal)
    exact = {name: _errors(double.passes(attend), true) for name, attend in ways.items()}
    ways = contenders(pack, is_causal)
    rounded = {name: _errors(pack.passes(attend), true) for name, attend in ways.items()}
    rounding = torch.finfo(torch.float32).eps
    allowed = [
        2 * error + rounding * float(value.detach().abs().max())
        for error, value in zip(rounded[BASELINE], true, strict=True)
    ]
    kind = "causal" if is_causal else "bidirectional"
    return [
        f"gate: {len(pack.lengths)} sentences, {kind}, {name}: {part} is off by {error64:.1e} in "
        f"float64 (allowed {EXACT}), by {error32:.1e} in float32 (allowed {most:.1e})"
        for name in ways
        for part, error64, error32, most in zip(
            PARTS, exact[name], rounded[name], allowed, strict=True
        )
        # Written so that a NaN does not pass.
        if not (error64 <= EXACT and error32 <= most)
    ]


def _errors(found: Sequence[Tensor], true: Sequence[Tensor]) -> list[float]:
    """Largest difference of output and each gradient."""
    return [float((x - y).detach().abs().max()) for x, y in zip(found, true, strict=True)]


def _measure(settings: Settings, pack: Pack) -> dict[str, Any]:
    """Time the contenders in turns, causal and bidirectional."""
    tokens = sum(pack.lengths)
    figures: dict[str, Any] = {
        "sentences": len(pack.lengths),
        "tokens": tokens,
        "longest": max(pack.lengths),
        "groups": len(layout_of(pack.plan, tokens).groups),
    }
    for kind, is_causal in (("causal", True), ("bidirectional", False)):
        timings = interleave(
            [
                Contender(name=name, step=_step(pack, attend))
                for name, attend in contenders(pack, is_causal).items()
            ],
            rounds=settings.rounds,
            steps=settings.calls,
            warmup=settings.warmup,
        )
        figures[kind] = {
            name: _figures(timing, timings[BASELINE], settings.calls)
            for name, timing in timings.items()
        }
    return figures


def _step(pack: Pack, attend: Attend) -> Callable[[], int]:
    def step() -> int:
        pack.passes(attend)
        return sum(pack.lengths)

    return step


def _figures(timing: Timing, baseline: Timing, calls: int) -> dict[str, Any]:
    best = 1e3 * min(timing.seconds) / calls
    return {"best_ms": best, **summary(timing, baseline, calls)}


def _table(figures: Sequence[dict[str, Any]]) -> str:
    rows = []
    for one in figures:
        times = [
            f"{one['causal'][name]['best_ms']:.2f} / {one['bidirectional'][name]['best_ms']:.2f}"
            for name in WAYS
        ]
        rows.append([f"{one['sentences']} ({one['tokens']:,})", *times, str(one["groups"])])
    return table(["sentences (tokens)", *WAYS, "groups"], rows)


def _check(settings: Settings) -> None:
    at_least(settings, heads=1, kv_heads=1, head_dim=1, rounds=1, calls=1, warmup=1, threads=1)
    if not settings.sentences or min(settings.sentences) < 1:
        given = " ".join(map(str, settings.sentences)) or "none"
        raise InputError(f"--sentences: expected one or more from 1, got {given}")
    if settings.heads % settings.kv_heads:
        raise InputError(
            f"--kv-heads: expected a divisor of --heads {settings.heads}, got {settings.kv_heads}"
        )


main = command(Settings, run, "benchmarks.attention.packed_sdpa")

if __name__ == "__main__":
    sys.exit(main())
