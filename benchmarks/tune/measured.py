"""Tuning on a GPU: of the candidates that compile, the one that takes the least time.

Each is first compared with the reference under the rule of ``lmsl_kernels.proof.tolerances`` and
left out, loudly, where it is wrong. Then both masks are timed on lengths that the entry is for, as
CUDA graphs, and their sum decides; window and softcap are not timed. Results are written at once
and what matters most comes first, so a run may be cut off.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.attention.batch import Batch, lay_out, make_batch
from benchmarks.attention.cells import Cell
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
    with closing(Compiler(jobs=options.jobs)) as compiler:
        for place in sorted(places, key=_urgency):
            if options.head_dim and place.head_dim not in options.head_dim:
                continue
            if deadline is not None and time.monotonic() > deadline:
                print(f"stopped after {options.minutes} minutes, before {describe(place)}")
                break
            chosen[place] = fastest(name, place, compiler) or chosen[place]
            own = [e for p in places if p.head_dim == place.head_dim for e in chosen[p]]
            write_table(path, tidy(own), place.head_dim)
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
    device = torch.device("cuda")
    small, large = (make_problem(place, device, toy=toy) for toy in (True, False))
    seconds: dict[Tiles, float] = {}
    for entry, ok in zip(options, plain, strict=True):
        if not ok:
            continue
        wrong = gate(entry, small)
        if wrong:
            print(f"WRONG {describe(entry)}: {'; '.join(wrong)}", flush=True)
            continue
        seconds[entry] = sum(time_entry(entry, one) for one in masked(large))
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


def make_problem(place: Tiles, device: torch.device, *, toy: bool) -> Batch:
    """A pack with lengths that the key is for; a toy one is cheap to compute in float64."""
    low, high, sequences = place.longest // 2 + 1, place.longest, 64
    if place.kernel not in SINGLE:
        low, high, sequences = (129, MEDIUM, 32) if place.longest else (4096, 4096, 4)
    if toy:
        high = min(high, 700)
        low, sequences = min(low, high // 2), 3
    step = (high - low) / (sequences - 1)
    kv_heads = 2 if toy else 8
    cell = Cell(
        sentences=sequences,
        mean_length=(low + high) // 2,
        is_causal=True,
        heads=kv_heads * (place.group or GROUP),
        kv_heads=kv_heads,
        head_dim=place.head_dim,
    )
    lengths = tuple(round(low + step * number) for number in range(sequences))
    return make_batch(cell, device, 1, lengths)


def masked(batch: Batch) -> Iterator[Batch]:
    """The same under both masks."""
    for is_causal in (True, False):
        yield replace(batch, cell=replace(batch.cell, is_causal=is_causal))


def gate(entry: Tiles, problem: Batch) -> list[str]:
    """What is wrong with the results of an entry; nothing is the hope."""
    wrong = []
    for one in masked(problem):
        truth = _reference(lay_out(one, "packed", torch.float64), upcast=True)
        plain = _reference(lay_out(one, "packed"), upcast=False)
        results = [x.clone() for x in plain]
        for launch in launches(entry, one, results):
            launch.run()
        wrong += [str(error) for error in compare(results, truth, plain) if not error.ok]
    return wrong


def time_entry(entry: Tiles, problem: Batch) -> float:
    """Seconds of one launch of an entry's kernel."""
    results = [torch.empty_like(x) for x in (problem.q, *problem.leaves)]
    made = launches(entry, problem, results)
    for launch in made:
        launch.run()
    own = next(launch for launch in made if launch.tiles == entry)
    return time_calls(own.run, torch.cuda.Stream()).seconds


def launches(entry: Tiles, problem: Batch, results: Sequence[Tensor]) -> list[Launch]:
    """The launch of an entry and those that it needs before it, into ``results`` (o, dq, dk, dv).

    What other kernels write goes elsewhere.
    """
    # An upper bound, as a plan may have: toy problems of regime L are shorter than its sequences.
    longest = max(*problem.lengths, 0 if entry.longest else MEDIUM + 1)
    call = make_call(
        *problem.leaves,
        plan=plan_pack(problem.bounds, longest, device=problem.q.device),
        is_causal=problem.cell.is_causal,
        window=None,
        softcap=None,
        scale=problem.cell.head_dim**-0.5,
        table=_table(entry),
    )
    writes = WRITES[entry.kernel]
    o, dq, dk, dv = (x if i in writes else torch.empty_like(x) for i, x in enumerate(results))
    log_total = torch.empty(call.heads, call.rows, dtype=torch.float32, device=o.device)
    made = [
        *forward_launches(call, *problem.leaves, o, log_total),
        *backward_launches(call, *problem.leaves, o, log_total, problem.dout, (dq, dk, dv)),
    ]
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


def _reference(problem: Batch, *, upcast: bool) -> list[Tensor]:
    bounds, is_causal = problem.bounds, problem.cell.is_causal
    out = reference_attention(
        *problem.leaves, is_causal=is_causal, cu_seqlens=bounds, upcast=upcast
    )
    return [x.detach() for x in problem.passes(out)]


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
