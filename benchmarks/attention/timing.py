"""How long it takes: bare kernels on a GPU, whole streams of batches on the host's clock.

Kernels are captured into a CUDA graph, many calls in a row, and its replays are timed by events,
so that neither Python nor launches count; inputs stay in the caches, as activations just computed
do. What cannot be captured is timed call by call by Triton's ``do_bench``, which empties the
caches before each; the record says which it was. On a CPU the clock of the host serves.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks.attention.batch import Batch
from benchmarks.attention.cells import Direction
from benchmarks.attention.gate import passes
from benchmarks.attention.peers import Peer

_GRAPH_MS, _REPLAYS, _SAMPLES = 4.0, 3, 7
_MOST_CALLS = 100
_SLOW_MS = 20.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A time in seconds: the median and what it was taken from."""

    seconds: float
    lowest: float
    highest: float
    timer: str
    note: str | None = None
    """Why it is not the first choice of timers."""

    def record(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def time_directions(peer: Peer, batch: Batch) -> dict[Direction, Sample]:
    """Forward, backward and both; the batch in the peer's layout."""
    stream = torch.cuda.Stream() if batch.q.is_cuda else None
    always = peer.derive_timed == "always"
    derived = None if always else peer.derive(batch)
    # Deriving reads lengths on the host, which no capture allows.
    obstacle = "it derives its mask in every call" if always else None

    def forward() -> torch.Tensor:
        return peer.call(batch, peer.derive(batch) if always else derived)

    # Autograd runs a backward where its forward ran, and a capture allows one stream alone.
    with nullcontext() if stream is None else torch.cuda.stream(_joined(stream)):
        out = forward()

    def backward() -> object:
        return torch.autograd.grad(out, batch.leaves, batch.dout, retain_graph=True)

    def both() -> object:
        return torch.autograd.grad(forward(), batch.leaves, batch.dout)

    return {
        "forward": time_calls(forward, stream, obstacle),
        "backward": time_calls(backward, stream),
        "both": time_calls(both, stream, obstacle),
    }


def time_calls(
    call: Callable[[], object], stream: torch.cuda.Stream | None, obstacle: str | None = None
) -> Sample:
    """Time one call. ``stream`` is the one to capture on, or None on the CPU; ``obstacle`` is why
    it cannot be captured, where that is known."""
    if stream is None:
        return _clocked(call)
    if obstacle is None:
        try:
            return _sample(_graphed(call, stream), "CUDA graph")
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            torch.cuda.synchronize()
            obstacle = " ".join(str(error).split())
    from triton.testing import do_bench

    with torch.cuda.stream(_joined(stream)):
        times = do_bench(call, warmup=10, rep=60, return_mode="all")
    return _sample([ms / 1e3 for ms in times], "do_bench", f"no CUDA graph: {obstacle:.160}")


def _joined(stream: torch.cuda.Stream) -> torch.cuda.Stream:
    stream.wait_stream(torch.cuda.current_stream())
    return stream


def _graphed(call: Callable[[], object], stream: torch.cuda.Stream) -> list[float]:
    """Seconds of one call, of several samples."""
    with torch.cuda.stream(_joined(stream)):
        call()
        began = torch.cuda.Event(enable_timing=True)
        ended = torch.cuda.Event(enable_timing=True)
        began.record()
        for _ in range(3):
            call()
        ended.record()
    ended.synchronize()
    # Bound by the host for small kernels, so this is at most how long a call takes.
    once = max(began.elapsed_time(ended) / 3, 1e-3)
    calls = int(min(max(_GRAPH_MS / once, 1), _MOST_CALLS))
    graph = torch.cuda.CUDAGraph()
    with _no_collection(), torch.cuda.graph(graph, stream=stream):
        for _ in range(calls):
            call()
    seconds = []
    samples, replays = (_SAMPLES, _REPLAYS) if once < _SLOW_MS else (3, 1)
    with torch.cuda.stream(stream):
        graph.replay()
        for _ in range(samples):
            # Replays in a row: only the first waits for its launch.
            graph.replay()
            began.record()
            for _ in range(replays):
                graph.replay()
            ended.record()
            ended.synchronize()
            seconds.append(began.elapsed_time(ended) / 1e3 / (calls * replays))
    return seconds


@contextmanager
def _no_collection() -> Iterator[None]:
    """A compiled kernel that is collected during a capture unloads itself and breaks it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _clocked(call: Callable[[], object]) -> Sample:
    call()
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return _sample(seconds, "host clock")


def _sample(seconds: Sequence[float], timer: str, note: str | None = None) -> Sample:
    return Sample(
        seconds=statistics.median(seconds),
        lowest=min(seconds),
        highest=max(seconds),
        timer=timer,
        note=note,
    )


def time_stream(peer: Peer, batches: Sequence[Batch], layers: int) -> float:
    """Seconds a step: derive once, then ``layers`` times forward and backward; wait at the end.

    Nothing is waited for in between, as in training, unless the peer itself waits.
    """
    before = [peer.derive(batch) for batch in batches] if peer.derive_timed == "never" else None
    _wait(batches[0])
    began = time.perf_counter()
    for number, batch in enumerate(batches):
        derived = peer.derive(batch) if before is None else before[number]
        for _ in range(layers):
            passes(peer, batch, derived)
    _wait(batches[0])
    return (time.perf_counter() - began) / len(batches)


def _wait(batch: Batch) -> None:
    if batch.q.is_cuda:
        torch.cuda.synchronize()
