"""Rooms: the few sizes that packs are filled up to, so that one captured forward serves many."""

from collections.abc import Sequence

from lmsl.packs.examples import Example
from lmsl.packs.packing import Room

# Shorter bounds of a sentence would make more rooms and save next to nothing.
_LEAST_TOKENS = 16
_LEAST_SEQUENCES = 16
_LEAST_BOUND = 64


def room_for(examples: Sequence[Sequence[Example]], budget: int | None = None) -> Room:
    """The room of a pack of these examples, one list for each run.

    A function of their sizes alone, so that equal batches are always computed alike.

    Args:
        budget: the most tokens of a run's packs, but for examples that are longer.
    """
    sizes = [[len(example.ids) for example in own] for own in examples]
    tokens = room_tokens(max(map(sum, sizes)), budget)
    bound = _power(max((size for own in sizes for size in own), default=1), _LEAST_BOUND)
    filled = sum(len(own) - (sum(own) - tokens) // bound for own in sizes)
    sequences = _power(filled, _LEAST_SEQUENCES)
    # No word is shorter than a token. Rows that are read for nothing pass one MLP of all layers.
    return Room(tokens=tokens, words=tokens, sequences=sequences, longest=bound)


def room_tokens(tokens: int, budget: int | None = None) -> int:
    """The tokens of a run that packs of so many tokens are filled up to.

    Most packs under a budget are nearly as large as it, so that it is a size of its own.
    """
    rounded = rounded_up(tokens, _LEAST_TOKENS)
    return rounded if budget is None or tokens > budget else min(rounded, budget)


def rounded_up(size: int, least: int) -> int:
    """The next of four sizes an octave: 16, 20, 24, 28, 32, 40, ..."""
    if size <= least:
        return least
    step = 1 << max(0, (size - 1).bit_length() - 3)
    return -(-size // step) * step


def _power(size: int, least: int) -> int:
    """The next power of two."""
    return max(least, 1 << max(0, size - 1).bit_length())
