"""The calls with which the kernels are proved, for ``lmsl_kernels.proof.tolerances``.

They differ in ten ways. ``LEVELS`` has the settings of each, ``pairwise_cases`` few cases in which
any two settings meet, ``all_cases`` all that differ in arithmetic.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import combinations, product
from random import Random
from typing import Any, Literal

import torch


@dataclass(frozen=True, kw_only=True)
class Case:
    """One call, forward and backward."""

    lengths: tuple[int, ...]
    """Tokens of each sequence; dense calls take the longest for all that are not empty."""
    group: int = 1
    """Query heads for each of the kv heads, which are 2 for small groups, else 1."""
    head_dim: int = 64
    mask: Literal["bidirectional", "causal", "mixed"] = "causal"
    window: Literal["none", "narrow", "wide", "longer"] = "none"
    softcap: float | None = None
    dtype: torch.dtype = torch.float32
    strides: Literal[
        "contiguous", "transposed", "fused", "odd address", "last dim apart", "expanded dout"
    ] = "contiguous"
    plan: Literal["host", "device", "dense"] = "host"
    """Whether the host knows the lengths, or there is no pack."""
    bound: int | None = None
    """What a plan says of the longest sequence; ``None`` is its length. It selects the regime."""

    @property
    def name(self) -> str:
        values = [getattr(self, field.name) for field in fields(self)]
        return "-".join("x".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in values)

    @property
    def kv_heads(self) -> int:
        return 2 if self.group <= 3 else 1

    @property
    def sequences(self) -> tuple[int, ...]:
        """Lengths of the sequences as they are."""
        if self.plan == "dense":
            return (max(self.lengths),) * sum(length > 0 for length in self.lengths)
        return self.lengths

    def arguments(self, device: torch.device | str) -> dict[str, Any]:
        """``is_causal``, ``window``, ``softcap`` and ``scale``."""
        longest = max(self.lengths)
        windows = {"none": None, "narrow": 3, "wide": longest * 2 // 3 + 1, "longer": longest + 1}
        flags = [index % 2 == 0 for index in range(len(self.sequences))]
        each = torch.tensor(flags, device=device)
        return {
            "is_causal": each if self.mask == "mixed" else self.mask == "causal",
            "window": windows[self.window],
            "softcap": self.softcap,
            # With a softcap, large enough that it matters.
            "scale": self.head_dim**-0.5 if self.softcap is None else 0.3,
        }


LEVELS: dict[str, tuple[Any, ...]] = {
    "lengths": ((1, 7), (16, 0, 17), (63, 64), (113,), (128, 1), (129,), (203,)),
    "group": (1, 2, 3, 4, 7, 8, 16),
    "head_dim": (32, 40, 64, 80, 96, 128, 256),
    "mask": ("bidirectional", "causal", "mixed"),
    "window": ("none", "narrow", "wide", "longer"),
    "softcap": (None, 5.0),
    "dtype": (torch.float32, torch.float16),
    "strides": (
        *("contiguous", "transposed", "fused", "odd address", "last dim apart"),
        "expanded dout",
    ),
    "plan": ("host", "device", "dense"),
    "bound": (None, 500, 2000),
}


# The settings that differ most, for who has little time.
QUICK_LEVELS = LEVELS | {
    "lengths": ((1, 7), (16, 0, 17), (63, 64), (129,), (203,)),
    "group": (1, 2, 3, 7, 8),
    "head_dim": (32, 40, 80, 96, 256),
}


def pairwise_cases(seed: int = 1, levels: Mapping[str, tuple[Any, ...]] = LEVELS) -> list[Case]:
    """Few cases in which any two settings of ``levels`` meet, wherever they can.

    The three with most settings meet in a Latin square; the others of each case are the best of
    many random draws.
    """
    random = Random(seed)
    open_pairs = {
        frozenset(((one, a), (other, b)))
        for one, other in combinations(levels, 2)
        for a, b in product(levels[one], levels[other])
        if _possible({one: a, other: b})
    }
    sizes = range(len(levels["lengths"]))
    square = [
        {
            "lengths": levels["lengths"][one],
            # Long sequences of large head dims get the small groups: that costs least.
            "group": levels["group"][(one - other) % len(sizes)],
            "head_dim": levels["head_dim"][other],
        }
        for one, other in product(sizes, sizes)
    ]
    chosen: list[Case] = []
    while open_pairs:
        first = min(open_pairs, key=_spelled)
        start = square.pop() if square else dict(first)
        if not _possible(start):
            continue
        drawn = [
            {name: random.choice(options) for name, options in levels.items()} | start
            for _ in range(300)
        ]
        possible = [settings for settings in drawn if _possible(settings)]
        best = max(possible, key=lambda settings: len(open_pairs & _pairs(settings)))
        open_pairs -= _pairs(best)
        chosen.append(Case(**best))
    return chosen


def all_cases(head_dim: int, group: int) -> Iterator[Case]:
    """Every combination of what arithmetic depends on; the rest is drawn, alike at every call."""
    random = Random(1000 * head_dim + group)
    crossed = ("lengths", "mask", "window", "softcap")
    for values in product(*(LEVELS[name] for name in crossed)):
        settings = {
            "head_dim": head_dim,
            "group": group,
            **dict(zip(crossed, values, strict=True)),
        }
        drawn = (
            {name: random.choice(levels) for name, levels in LEVELS.items()} for _ in range(99)
        )
        possible = (others | settings for others in drawn if _possible(others | settings))
        if _possible(settings):
            yield Case(**next(possible))


def _possible(settings: Mapping[str, Any]) -> bool:
    dense = settings.get("plan") == "dense"
    bound = settings.get("bound")
    group, lengths = settings.get("group", 1), settings.get("lengths", (1,))
    # Dense calls say themselves how long they are. Sixteen heads of many tiles take too long.
    return not (dense and bound is not None) and not (group == 16 and max(lengths) > 128)


def _pairs(settings: Mapping[str, Any]) -> set[frozenset[tuple[str, Any]]]:
    return {frozenset(pair) for pair in combinations(settings.items(), 2)}


def _spelled(pair: frozenset[tuple[str, Any]]) -> list[str]:
    return sorted(str(setting) for setting in pair)
