"""The three measurements of one cell: bare kernels, a stream of batches, a mix of masks.

Each returns a record of plain figures. A contender's own failure is a line of that record, with
its reason, and never ends the run.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any

import torch

from benchmarks.attention.batch import Batch, lay_out, make_batch
from benchmarks.attention.cells import (
    DIRECTIONS,
    Cell,
    Direction,
    Rates,
    dense_cell,
    floor_seconds,
    moved_bytes,
    operations,
)
from benchmarks.attention.gate import errors, fault, passes, reference_passes
from benchmarks.attention.peers import OURS, OURS_BEGIN, Peer, peers
from benchmarks.attention.timing import Sample, time_calls, time_directions, time_stream

Measure = Callable[[Peer], dict[str, Any]]
MIXES = ("0000", "0011", "1111")
# Lengths that are drawn for the warm-up of a stream must not be those that are timed.
_OTHER_SEEDS, _TIMED_SEEDS = 10_000, 20_000


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all cells of a run share."""

    device: torch.device
    contenders: tuple[Peer, ...]
    rates: Rates | None
    """Of the device, where they are known."""
    seed: int
    ends: float | None
    """By ``time.monotonic``; None is never."""
    steps: int
    layers: int

    @property
    def out_of_time(self) -> bool:
        return self.ends is not None and time.monotonic() > self.ends


def kernels_of(run: Run, cell: Cell) -> dict[str, Any]:
    """Gate and time every contender's forward, backward and both."""
    batch = make_batch(cell, run.device, run.seed)
    figures = _describe(cell, batch.lengths)
    if run.rates is not None:
        figures["floor_us"] = {
            d: 1e6 * floor_seconds(cell, batch.lengths, d, run.rates) for d in DIRECTIONS
        }

    def measure(peer: Peer, own: Batch) -> dict[str, Any]:
        times = time_directions(peer, own)
        return {"times": {d: _rated(run, cell, batch, d, times[d]) for d in DIRECTIONS}}

    return figures | {"contenders": dict(_each(run, cell, _gated(batch, measure)))}


def _gated(batch: Batch, measure: Callable[[Peer, Batch], dict[str, Any]]) -> Measure:
    """A measurement in the layout of the peer, and behind the gate."""
    truth = reference_passes(batch)

    def gated(peer: Peer) -> dict[str, Any]:
        own = lay_out(batch, peer.layout)
        found = errors(peer, own, truth)
        if wrong := fault(found, batch.cell.dtype):
            # JSON knows no NaN.
            shown = {
                name: error if isfinite(error) else str(error) for name, error in found.items()
            }
            return {"status": "wrong", "reason": wrong, "errors": shown}
        return {"status": "timed", "errors": found} | measure(peer, own)

    return gated


def _rated(
    run: Run, cell: Cell, batch: Batch, direction: Direction, sample: Sample
) -> dict[str, Any]:
    """A time with what it means; see ``cells`` for the formulas."""
    seconds = sample.seconds
    record = sample.record() | {
        "tflops": operations(cell, batch.lengths, direction) / seconds / 1e12,
        "gbytes_per_second": moved_bytes(cell, batch.lengths, direction) / seconds / 1e9,
    }
    if run.rates is not None:
        floor = floor_seconds(cell, batch.lengths, direction, run.rates)
        record["percent_of_floor"] = 100 * floor / seconds
    return record


def streams_of(run: Run, cell: Cell) -> dict[str, Any]:
    """Gate every contender on one batch and time it over a stream, twice."""
    tokens = [sum(cell.lengths(_TIMED_SEEDS + step)) for step in range(run.steps)]
    batch = make_batch(cell, run.device, run.seed)

    def measure(peer: Peer, own: Batch) -> dict[str, Any]:
        time_stream(peer, _stream(run, cell, peer, _OTHER_SEEDS), run.layers)
        batches = _stream(run, cell, peer, _TIMED_SEEDS)
        first = time_stream(peer, batches, run.layers)
        again = time_stream(peer, batches, run.layers)
        return {
            "first_ms": 1e3 * first,
            "again_ms": 1e3 * again,
            "first_us_per_layer": 1e6 * first / run.layers,
            "again_us_per_layer": 1e6 * again / run.layers,
            "tokens_per_second": sum(tokens) / len(tokens) / first,
        }

    figures = _describe(cell, batch.lengths)
    figures |= {"steps": run.steps, "layers": run.layers, "mean_tokens": sum(tokens) / len(tokens)}
    return figures | {"contenders": dict(_each(run, cell, _gated(batch, measure)))}


def _stream(run: Run, cell: Cell, peer: Peer, seeds: int) -> list[Batch]:
    """Batches of new lengths, in the peer's layout, all cut from the same memory."""
    drawn = [cell.lengths(seeds + step) for step in range(run.steps)]
    padded = peer.layout == "padded"
    rows = max(len(n) * max(n) if padded else sum(n) for n in drawn)
    whole = make_batch(
        replace(cell, sentences=1, mean_length=rows, equal=True), run.device, run.seed
    )

    def cut(x: torch.Tensor, lengths: tuple[int, ...]) -> torch.Tensor:
        if padded:
            x = x[: len(lengths) * max(lengths)].unflatten(0, (len(lengths), max(lengths)))
        else:
            x = x[: sum(lengths)]
        return x.detach()

    batches = []
    for lengths in drawn:
        q, k, v = (cut(x, lengths).requires_grad_() for x in whole.leaves)
        dout = cut(whole.dout, lengths)
        batches.append(Batch(cell=cell, lengths=lengths, q=q, k=k, v=v, dout=dout))
    return batches


def mixes_of(run: Run, cell: Cell) -> dict[str, Any]:
    """Four layers of ours, forward and backward, under each string."""
    batch = make_batch(cell, run.device, run.seed)

    def measure(peer: Peer) -> dict[str, Any]:
        own = lay_out(batch, peer.layout)
        derived = peer.derive(own)
        stream = torch.cuda.Stream() if own.q.is_cuda else None
        seconds = {}
        for string in MIXES:
            layers = [replace(own, cell=replace(cell, is_causal=bit == "0")) for bit in string]

            def call(layers: list[Batch] = layers) -> None:
                for layer in layers:
                    passes(peer, layer, derived)

            seconds[string] = time_calls(call, stream).seconds
        mean = (seconds["0000"] + seconds["1111"]) / 2
        times = {string: 1e6 * taken for string, taken in seconds.items()}
        return {"status": "timed", "us": times, "against_mean": seconds["0011"] / mean}

    ours = tuple(peer for peer in run.contenders if peer.name.startswith(OURS_BEGIN))
    only_ours = replace(run, contenders=ours)
    return _describe(cell, batch.lengths) | {"contenders": dict(_each(only_ours, cell, measure))}


def warm_up(device: torch.device, number: int, total: int) -> None:
    """Compile a share of what ours needs for all cells; the compiled kernels stay on disk."""
    ours = next(peer for peer in peers() if peer.name == OURS)
    cells = [
        Cell(sentences=4, mean_length=n, is_causal=mask, kv_heads=kv_heads, equal=True)
        for n in (16, 32, 64, 128, 512, 1500)
        for kv_heads in (8, 32)
        for mask in (False, True)
    ]
    masks = (False, True)
    cells += [dense_cell(2048, mask, kv_heads) for kv_heads in (16, 4) for mask in masks]
    for cell in cells[number::total]:
        if ours.why_not(cell, device) is None:
            batch = lay_out(make_batch(cell, device, 1), ours.layout)
            passes(ours, batch, ours.derive(batch))


def _each(run: Run, cell: Cell, measure: Measure) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every contender's figures, or why there are none."""
    for peer in run.contenders:
        reason = "out of time" if run.out_of_time else peer.why_not(cell, run.device)
        if reason is not None:
            yield peer.name, {"status": "skipped", "reason": reason}
            continue
        try:
            with peer.context():
                yield peer.name, measure(peer)
        # Whatever a peer raises is its own affair: torch's compiler alone has dozens of errors.
        except Exception as error:
            text = " ".join(str(error).split())
            reason = f"{type(error).__name__}: {text:.300}"
            yield peer.name, {"status": "cannot run", "reason": reason}
        if run.device.type == "cuda":
            torch.cuda.empty_cache()


def _describe(cell: Cell, lengths: tuple[int, ...]) -> dict[str, Any]:
    tokens, longest = sum(lengths), max(lengths)
    return {
        "cell": asdict(cell) | {"name": cell.name},
        "tokens": tokens,
        "longest": longest,
        "padding": 1 - tokens / (len(lengths) * longest),
    }
