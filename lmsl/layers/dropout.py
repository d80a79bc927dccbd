"""Random numbers that belong to a run, not to the batch it happens to travel in.

A dropout mask drawn from a running generator changes whenever an update is cut into other
micro-batches, a pack is padded further or another run joins the stack. Here every mask element is
a pure function of (run seed, step, site, token, feature): the counter of numpy's Philox4x64-10 is
set to the place of the token inside its run's update, so any slice of the update can be drawn
alone, again (gradient checkpointing) and in any company, always with the same bits.

Each Philox block gives 256 bits, that is 16 elements of 16 bits; the features of a token are
padded up to whole blocks, so that a token starts at block ``token * ceil(features / 16)``.
Sixteen bits round the drop probability to a multiple of 1/65536; the kept elements are scaled by
the rounded probability, so that the expectation is exact.

On a CPU numpy draws them; on CUDA ``dropout_kernel`` draws the same bits where they are used.
"""

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from lmsl.device import sent
from lmsl.errors import InputError

Unit = Literal["token", "word"]

# Columns of a place on the device.
_COLUMNS = {"token": 2, "word": 3}

_LEVELS = 1 << 16
_ELEMENTS_PER_BLOCK = 16
_WORD = 1 << 64


@dataclass(kw_only=True)
class DropoutClock:
    """Where a stack of runs stands in its training; set by the loop before each micro-batch.

    Nothing may move it between a forward and its backward, which recomputes masks when gradient
    checkpointing is on.
    """

    seeds: tuple[int, ...]
    """One seed for each run of the stack."""

    step: int = -1
    """Number of the update, from 0; -1 until the clock is set for the first time."""

    token_offset: tuple[int, ...] = ()
    """For each run, the tokens of this update that earlier micro-batches held."""

    word_offset: tuple[int, ...] = ()
    """For each run, the words read in this update that earlier micro-batches held."""

    _placed: torch.Tensor | None = field(default=None, repr=False, compare=False)

    def set(
        self, *, step: int, token_offset: tuple[int, ...], word_offset: tuple[int, ...]
    ) -> None:
        """Move to a micro-batch of update ``step``; offsets count real tokens, not filling."""
        assert step >= 0 and len(token_offset) == len(word_offset) == len(self.seeds)
        self.step, self.token_offset, self.word_offset = step, token_offset, word_offset
        self._placed = None

    def place(self) -> torch.Tensor:
        """The place as numbers of the host, int64 [runs, 4]: seed, step, token and word offset."""
        rows = zip(self.seeds, self.token_offset, self.word_offset, strict=True)
        wide = [[seed % _WORD, self.step, token, word] for seed, token, word in rows]
        return torch.from_numpy(np.array(wide, dtype=np.uint64).view(np.int64))

    def place_on(self, device: torch.device) -> torch.Tensor:
        """``place`` on a device; sent there once for all masks of a micro-batch."""
        assert self.step >= 0, "the dropout clock was never set"
        if self._placed is None or self._placed.device != device:
            self._placed = sent(self.place(), device)
        return self._placed

    @contextmanager
    def reading(self, place: torch.Tensor) -> Iterator[None]:
        """Inside, masks belong to the place that a tensor holds at the moment they are drawn.

        A CUDA graph that is captured inside follows what is written to the tensor later. Seeds
        must stay, and runs of one seed must stay at one place.
        """
        if place.device.type == "cpu":
            _, steps, tokens, words = place.T.tolist()
            self.set(step=steps[0], token_offset=tuple(tokens), word_offset=tuple(words))
        before, self._placed = self._placed, place
        try:
            yield
        finally:
            self._placed = before

    def keep(self, runs: Sequence[int]) -> None:
        """Leave only these runs of the stack; to be set again before the next micro-batch."""
        self.seeds = tuple(self.seeds[run] for run in runs)
        self.step, self.token_offset, self.word_offset = -1, (), ()
        self._placed = None

    def first(self, run: int, unit: Unit) -> int:
        """The place, in the update of ``run``, of the first row of the current micro-batch."""
        assert self.step >= 0, "the dropout clock was never set"
        return (self.token_offset if unit == "token" else self.word_offset)[run]


def check_probability(argument: str, p: float) -> float:
    """Return ``p`` if it is a dropout probability.

    Raises:
        InputError: ``p`` is outside [0, 1) or rounds to 1 at sixteen bits.
    """
    if not (0.0 <= p < 1.0 and round(p * _LEVELS) < _LEVELS):
        raise InputError(f"{argument}: expected a probability in [0, 1), got {p}")
    return float(p)


def site_number(name: str) -> int:
    """A 63-bit number for a place that draws random numbers, from its name alone.

    Names, unlike running numbers, keep their value when other places come or go.
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") >> 1


def seeded_generator(seed: int, site: int) -> torch.Generator:
    """A CPU generator for the initial values of one run at one site."""
    # torch's CPU generator keeps only the low 32 bits of a seed: hash both numbers into them.
    return torch.Generator().manual_seed(site_number(f"{seed}/{site}"))


def dropout_mask(
    clock: DropoutClock,
    *,
    site: int,
    tokens: int,
    features: int,
    p: float,
    device: torch.device,
    unit: Unit = "token",
) -> torch.Tensor:
    """The dropout factors of one micro-batch for every run of the stack.

    Args:
        clock: the place of the micro-batch; its seeds say how many runs there are.
        site: ``site_number`` of the drawing module.
        tokens: rows of each run, filling included.
        p: probability of a zero, rounded to 1/65536.
        unit: whether the rows are tokens or words.

    Returns:
        ``[runs, tokens, features]`` float32 on ``device``: 0 or ``1 / (1 - p)``. To be read only:
        runs of the same seed are drawn once, and may share memory.
    """
    threshold = round(p * _LEVELS)
    scale = np.float32(_LEVELS / (_LEVELS - threshold))
    # Runs of one seed see the same sentences: they are at the same place of the same stream.
    streams = [(seed, clock.first(run, unit)) for run, seed in enumerate(clock.seeds)]
    distinct = list(dict.fromkeys(streams))
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from lmsl.layers.dropout_kernel import draw

        drawn = draw(
            clock.place_on(device)[: 1 if len(distinct) == 1 else None],
            column=_COLUMNS[unit],
            site=site,
            tokens=tokens,
            features=features,
            threshold=threshold,
            scale=float(scale),
        )
        return drawn.expand(len(streams), -1, -1)
    shape = (len(distinct), tokens, features)
    keep: npt.NDArray[Any] = np.empty(
        shape, dtype=np.float32 if device.type == "cpu" else np.bool_
    )
    for own, (seed, first) in zip(keep, distinct, strict=True):
        kept = _keep(seed, first, clock.step, site, shape, threshold)
        if device.type == "cpu":
            np.multiply(kept, scale, out=own)
        else:
            own[...] = kept
    factors = torch.from_numpy(keep)
    if device.type != "cpu":
        factors = factors.to(device).float().mul_(float(scale))
    if len(distinct) == 1:
        return factors.expand(len(streams), -1, -1)
    if len(distinct) == len(streams):
        return factors
    return factors[[distinct.index(stream) for stream in streams]]


def _keep(
    seed: int, first: int, step: int, site: int, shape: tuple[int, int, int], threshold: int
) -> npt.NDArray[np.bool_]:
    """Which elements of a run stay, from row ``first`` of its update: ``[tokens, features]``."""
    _, tokens, features = shape
    blocks = -(-features // _ELEMENTS_PER_BLOCK)
    counter = (first * blocks, step, site, 0)
    philox = np.random.Philox(
        key=np.array((seed % _WORD, 0), dtype=np.uint64),
        counter=np.array(counter, dtype=np.uint64),
    )
    words = philox.random_raw(tokens * blocks * (_ELEMENTS_PER_BLOCK // 4))
    bits = words.astype("<u8", copy=False).view("<u2")
    elements = bits.reshape(tokens, blocks * _ELEMENTS_PER_BLOCK)[:, :features]
    keep: npt.NDArray[np.bool_] = elements >= threshold
    return keep
