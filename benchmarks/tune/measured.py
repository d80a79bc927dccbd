"""Tuning on a GPU: of the candidates that compile, the one that takes the least time.

Each is first compared with the reference under the rule of ``lmsl_kernels.proof.tolerances`` and
left out, loudly, where it is wrong. Then both masks are timed on lengths that the entry is for, as
CUDA graphs, and their sum decides; window and softcap are not timed. Results are written at once
and what matters most comes first, so a run may be cut off.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from benchmarks.attention.timing import time_calls
from benchmarks.compile_report.pool import Compiler
from benchmarks.tune.candidates import SINGLE, candidates, places_of_table
from benchmarks.tune.search import Search
from benchmarks.tune.tables import describe, expand, tidy, write_table
from lmsl_kernels.flash.call import make_call
from lmsl_kernels.flash.launch import INTERPRETED, Launch, backward_launches, forward_launches
from lmsl_kernels.flash.tuning import KERNELS, MEDIUM, Table, Tiles, architecture, parse_table
from lmsl_kernels.plan import plan_pack
from lmsl_kernels.proof.tolerances import compare
from lmsl_kernels.reference import reference_attention

GROUP = 4
# Which of o, dq, dk, dv a kernel writes.
WRITES = {
    "single_forward": (0,),
    "single_backward": (1, 2, 3),
    "tiled_forward": (0,),
    "backward_rows": (1,),
    "backward_keys": (2, 3),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """A pack to compute, in bfloat16."""

    lengths: tuple[int, ...]
    q: Tensor
    k: Tensor
    v: Tensor
    dout: Tensor


def measure_tables(options: argparse.Namespace) -> int:
    """What ``python -m benchmarks.tune`` does without ``--offline``."""
    reason = no_gpu(options.arch)
    if reason:
        print(f"cannot measure: {reason} (--offline chooses without a GPU)", file=sys.stderr)
        return 2
    name = architecture(torch.device("cuda"))
    path = options.output / f"{name}.json"
    known = parse_table(path.read_text()) if path.is_file() else ()
    places = list(places_of_table(name))
    chosen = {place: expand(known, place) for place in places}
    deadline = time.monotonic() + 60 * options.minutes if options.minutes else None
    compiler = Compiler(jobs=options.jobs)
    try:
        for place in sorted(places, key=_urgency):
            if options.head_dim and place.head_dim not in options.head_dim:
                continue
            if deadline is not None and time.monotonic() > deadline:
                print(f"stopped after {options.minutes} minutes, before {describe(place)}")
                break
            found = fastest(name, place, compiler)
            chosen[place] = found or chosen[place]
            own = [e for p in places if p.head_dim == place.head_dim for e in chosen[p]]
            write_table(path, tidy(own), place.head_dim)
    finally:
        compiler.close()
    return 0


def no_gpu(asked: Sequence[str]) -> str | None:
    """Why nothing can be measured here, or ``None``."""
    if INTERPRETED:
        return "TRITON_INTERPRET is set"
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    found = architecture(torch.device("cuda"))
    others = [name for name in asked if name != found]
    return f"this GPU's table is {found}, not {', '.join(others)}" if others else None


def fastest(name: str, place: Tiles, compiler: Compiler) -> list[Tiles]:
    """The fastest entry for plain calls, and the fastest for all where that is another."""
    options = candidates(name, place)
    search = Search(architecture=name, compilers=[compiler])
    with ThreadPoolExecutor(compiler.jobs) as threads:
        plain = list(threads.map(search.fits, map(_for_plain_calls, options)))
        general = list(threads.map(lambda e, ok: ok and search.fits(e), options, plain))
    small, large = make_problem(place, toy=True), make_problem(place, toy=False)
    seconds: dict[Tiles, float] = {}
    for entry, ok in zip(options, plain, strict=True):
        if not ok:
            continue
        wrong = gate(entry, small)
        if wrong:
            print(f"WRONG {describe(entry)}: {'; '.join(wrong)}", flush=True)
            continue
        seconds[entry] = sum(time_entry(entry, large, flag) for flag in (True, False))
        print(f"{1e6 * seconds[entry]:9.1f} us {describe(entry)}", flush=True)
    if not seconds:
        return []
    best = min(seconds, key=seconds.__getitem__)
    for_all = [
        entry for entry, ok in zip(options, general, strict=True) if ok and entry in seconds
    ]
    if not for_all:
        return [_for_plain_calls(best)]
    best_for_all = min(for_all, key=seconds.__getitem__)
    return [best] if best is best_for_all else [_for_plain_calls(best), best_for_all]


def _for_plain_calls(entry: Tiles) -> Tiles:
    return replace(entry, plain=True)


def make_problem(place: Tiles, *, toy: bool) -> Problem:
    """A pack with lengths that the key is for; a toy one is cheap to compute in float64."""
    low, high, sequences = place.longest // 2 + 1, place.longest, 64
    if place.kernel not in SINGLE:
        low, high, sequences = (129, MEDIUM, 32) if place.longest else (4096, 4096, 4)
    if toy:
        high = min(high, 700)
        low, sequences = min(low, high // 2), 3
    step = (high - low) / (sequences - 1)
    lengths = tuple(round(low + step * number) for number in range(sequences))
    kv_heads, group = 2 if toy else 8, place.group or GROUP
    generator = torch.Generator(device="cuda").manual_seed(1)
    q, k, v, dout = (
        torch.randn(
            (sum(lengths), heads * kv_heads, place.head_dim),
            generator=generator,
            device="cuda",
            dtype=torch.bfloat16,
        )
        for heads in (group, 1, 1, group)
    )
    return Problem(lengths=lengths, q=q, k=k, v=v, dout=dout)


def gate(entry: Tiles, problem: Problem) -> list[str]:
    """What is wrong with the results of an entry; nothing is the hope."""
    wrong = []
    for is_causal in (True, False):
        exact = [x.double() for x in (problem.q, problem.k, problem.v, problem.dout)]
        truth = _reference(exact, problem, is_causal, upcast=True)
        inputs = [problem.q, problem.k, problem.v, problem.dout]
        plain = _reference(inputs, problem, is_causal, upcast=False)
        results = [x.clone() for x in plain]
        for launch in launches(entry, problem, is_causal, results):
            launch.run()
        wrong += [str(error) for error in compare(results, truth, plain) if not error.ok]
    return wrong


def time_entry(entry: Tiles, problem: Problem, is_causal: bool) -> float:
    """Seconds of one launch of an entry's kernel."""
    results = [torch.empty_like(x) for x in (problem.q, problem.q, problem.k, problem.v)]
    made = launches(entry, problem, is_causal, results)
    for launch in made:
        launch.run()
    own = next(launch for launch in made if launch.tiles == entry)
    return time_calls(own.run, torch.cuda.Stream()).seconds


def launches(
    entry: Tiles, problem: Problem, is_causal: bool, results: Sequence[Tensor]
) -> list[Launch]:
    """The launch of an entry and those that it needs before it, into ``results`` (o, dq, dk, dv).

    What other kernels write goes elsewhere.
    """
    bounds = list(accumulate(problem.lengths, initial=0))
    # An upper bound, as a plan may have: toy problems of regime L are shorter than its sequences.
    longest = max(*problem.lengths, 0 if entry.longest else MEDIUM + 1)
    call = make_call(
        problem.q,
        problem.k,
        problem.v,
        plan=plan_pack(bounds, longest, device="cuda"),
        is_causal=is_causal,
        window=None,
        softcap=None,
        scale=problem.q.shape[-1] ** -0.5,
        table=_table(entry),
    )
    writes = WRITES[entry.kernel]
    o, dq, dk, dv = (x if i in writes else torch.empty_like(x) for i, x in enumerate(results))
    log_total = torch.empty(call.heads, call.rows, dtype=torch.float32, device="cuda")
    inputs = (problem.q, problem.k, problem.v)
    forward = forward_launches(call, *inputs, o, log_total)
    backward = backward_launches(call, *inputs, o, log_total, problem.dout, (dq, dk, dv))
    made = [*forward, *backward]
    if entry.kernel in SINGLE:
        return [launch for launch in made if launch.tiles == entry]
    return made[: next(i for i, launch in enumerate(made) if launch.tiles == entry) + 1]


def _table(entry: Tiles) -> Table:
    """The entry, and for other kernels tiles that fit anywhere."""
    others = [name for name in KERNELS if name != entry.kernel]
    if entry.kernel in SINGLE:
        return (entry, *(replace(entry, kernel=name) for name in others if name in SINGLE))
    safe = replace(entry, rows=16, keys=16, warps=4, stages=1, described=False)
    return (entry, *(replace(safe, kernel=name) for name in others if name not in SINGLE))


def _reference(
    tensors: Sequence[Tensor], problem: Problem, is_causal: bool, *, upcast: bool
) -> list[Tensor]:
    q, k, v = (x.detach().clone().requires_grad_() for x in tensors[:3])
    out = reference_attention(
        q,
        k,
        v,
        is_causal=is_causal,
        cu_seqlens=list(accumulate(problem.lengths, initial=0)),
        upcast=upcast,
    )
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), tensors[3])]


def _urgency(place: Tiles) -> tuple[int, int, int, int]:
    """Head dim 128 first, then sentences before texts, then groups as models have them."""
    head_dims = (128, 64, 256, 96, 80, 32)
    lengths = (32, 64, 16, 128, MEDIUM, 0)
    groups = (4, 1, 8, 2, 0)
    return (
        head_dims.index(place.head_dim),
        lengths.index(place.longest),
        groups.index(place.group),
        KERNELS.index(place.kernel),
    )
