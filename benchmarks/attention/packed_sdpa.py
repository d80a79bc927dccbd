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

from benchmarks.attention.batch import Batch, lay_out, make_batch
from benchmarks.attention.cells import Cell
from benchmarks.attention.gate import PARTS
from benchmarks.shared.flags import at_least, command
from benchmarks.shared.machine import machine, machine_lines
from benchmarks.shared.record import RESULTS, table, told, write_json
from benchmarks.shared.timing import interleave, summary
from lmsl.errors import InputError
from lmsl_kernels import attention, reference_attention
from lmsl_kernels.plan import PackPlan, plan_lengths
from lmsl_kernels.sdpa.groups import layout_of
from lmsl_kernels.sdpa.packed import grouped_attention

BASELINE, PADDED, GROUPS = "one call a sentence", "one padded group", "a call a group"
PRODUCTS = "products by group (chosen)"
WAYS = (BASELINE, PADDED, GROUPS, PRODUCTS)
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


def run(settings: Settings) -> int:
    """Measure and report; the exit status."""
    _check(settings)
    torch.set_num_threads(settings.threads)
    found = machine(torch.device("cpu"))
    print(*machine_lines(found), sep="\n")
    packs = [make_pack(settings, size) for size in settings.sentences]
    wrong = [line for pack in packs for one in masked(pack).values() for line in gate(one)]
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
    record = {"benchmark": "packed_sdpa", "machine": found, "settings": told(settings)}
    write_json(settings.output, record | {"packs": figures})
    print(f"written: {settings.output}")
    return 0


def make_pack(settings: Settings, sentences: int) -> Batch:
    """Random sentences of random lengths; equal settings give equal packs."""
    generator = torch.Generator().manual_seed(settings.seed)
    drawn = torch.empty(sentences).log_normal_(LOG_MEAN, LOG_DEVIATION, generator=generator)
    lengths = tuple(drawn.round().clamp(SHORTEST, LONGEST).int().tolist())
    cell = Cell(
        sentences=sentences,
        mean_length=sum(lengths) // sentences,
        is_causal=True,
        heads=settings.heads,
        kv_heads=settings.kv_heads,
        head_dim=settings.head_dim,
        dtype="float32",
    )
    return lay_out(make_batch(cell, torch.device("cpu"), settings.seed, lengths), "packed")


def masked(pack: Batch) -> dict[str, Batch]:
    """The same under both masks."""
    return {
        name: replace(pack, cell=replace(pack.cell, is_causal=name == "causal"))
        for name in ("causal", "bidirectional")
    }


def contenders(pack: Batch) -> dict[str, Attend]:
    """The ways to attend, by name."""
    q, k, v = pack.leaves
    is_causal, plan = pack.cell.is_causal, plan_lengths(pack.lengths)
    # A plan that does not know its lengths makes one rectangle of them.
    unknown = replace(plan, lengths=None, cache={})
    bounds = list(pairwise(pack.bounds))

    def sentence_by_sentence() -> Tensor:
        sentences = [[x[None, start:end] for x in (q, k, v)] for start, end in bounds]
        parts = [attention(*one, is_causal=is_causal, impl="sdpa") for one in sentences]
        return torch.cat(parts, dim=1)[0]

    def by_group(plan: PackPlan) -> Attend:
        layout, scale = layout_of(plan, len(q)), pack.cell.head_dim**-0.5
        options = {"is_causal": is_causal, "window": None, "softcap": None, "scale": scale}
        return lambda: grouped_attention(q, k, v, layout=layout, **options)

    def products() -> Tensor:
        return attention(q, k, v, is_causal=is_causal, plan=plan, impl="sdpa")

    ways = (sentence_by_sentence, by_group(unknown), by_group(plan), products)
    return dict(zip(WAYS, ways, strict=True))


def gate(pack: Batch) -> list[str]:
    """What is wrong with the results of each contender; nothing is the hope."""
    double, is_causal = lay_out(pack, "packed", torch.float64), pack.cell.is_causal
    out = reference_attention(*double.leaves, is_causal=is_causal, cu_seqlens=pack.bounds)
    true = double.passes(out)
    exact, rounded = (
        {name: _errors(own.passes(attend()), true) for name, attend in contenders(own).items()}
        for own in (double, pack)
    )
    rounding = torch.finfo(torch.float32).eps
    allowed = [
        2 * error + rounding * float(value.detach().abs().max())
        for error, value in zip(rounded[BASELINE], true, strict=True)
    ]
    return [
        f"gate: {pack.cell.name}, {name}: {part} is off by {error64:.1e} in float64 (allowed "
        f"{EXACT}), by {error32:.1e} in float32 (allowed {most:.1e})"
        for name in WAYS
        for part, error64, error32, most in zip(
            PARTS, exact[name], rounded[name], allowed, strict=True
        )
        # Written so that a NaN does not pass.
        if not (error64 <= EXACT and error32 <= most)
    ]


def _errors(found: Sequence[Tensor], true: Sequence[Tensor]) -> list[float]:
    """Largest difference of output and each gradient."""
    return [float((x - y).detach().abs().max()) for x, y in zip(found, true, strict=True)]


def _measure(settings: Settings, pack: Batch) -> dict[str, Any]:
    """Time the contenders in turns, causal and bidirectional."""
    tokens, calls = sum(pack.lengths), settings.calls
    figures: dict[str, Any] = {
        "sentences": len(pack.lengths),
        "tokens": tokens,
        "longest": pack.longest,
        "groups": len(layout_of(plan_lengths(pack.lengths), tokens).groups),
    }
    for kind, own in masked(pack).items():
        steps = {name: _step(own, attend) for name, attend in contenders(own).items()}
        timings = interleave(steps, rounds=settings.rounds, calls=calls, warmup=settings.warmup)
        figures[kind] = {
            name: {"best_ms": 1e3 * min(timing.seconds) / calls}
            | summary(timing, timings[BASELINE], calls)
            for name, timing in timings.items()
        }
    return figures


def _step(pack: Batch, attend: Attend) -> Callable[[], int]:
    def step() -> int:
        pack.passes(attend())
        return sum(pack.lengths)

    return step


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
