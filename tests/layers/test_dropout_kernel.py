"""The masks that a GPU draws are, bit by bit, those that numpy draws."""

import numpy as np
import pytest
import torch

from lmsl.layers.dropout import DropoutClock, dropout_mask, site_number
from tests.layers.block_tools import clock_of
from tests.tagger.tagger_tools import CPU

pytest.importorskip("triton")


def drawn(clock: DropoutClock, place: torch.Tensor, unit: str, **shape: int) -> torch.Tensor:
    """By the kernel, with a third of the elements dropped."""
    from lmsl.layers.dropout_kernel import draw

    threshold = round(65536 / 3)
    scale = float(np.float32(65536 / (65536 - threshold)))
    column = {"token": 2, "word": 3}[unit]
    return draw(place, column=column, threshold=threshold, scale=scale, **shape)


@pytest.mark.parametrize("features", [1, 15, 33, 64])
@pytest.mark.parametrize("unit", ["token", "word"])
def test_bits_are_those_of_the_host(features: int, unit: str) -> None:
    """Odd sizes, seeds and sites of all 64 bits, offsets beyond 32 bits, runs of one seed."""
    tokens, words = (0, 2**40, 3, 10**6, 10**6), (2**35, 1, 0, 7, 7)
    seeds = (0, 2**64 - 1, -7, 5, 5)
    clock = clock_of(seeds, step=2**33, token_offset=tokens, word_offset=words)
    shape = {"site": site_number("layers.3.q_proj"), "tokens": 13, "features": features}
    expected = dropout_mask(clock, p=1 / 3, device=CPU, unit=unit, **shape)  # type: ignore[arg-type]
    assert torch.equal(drawn(clock, clock.place(), unit, **shape), expected)


def test_a_launch_follows_what_is_written_to_its_place() -> None:
    """As in a captured graph: the arguments stay, the memory changes."""
    clock = clock_of((3, 4), step=1)
    place = clock.place().clone()
    shape = {"site": 9, "tokens": 5, "features": 40}
    found = [drawn(clock, place, "token", **shape)]
    clock.set(step=2, token_offset=(8, 1), word_offset=(0, 0))
    place.copy_(clock.place())
    found.append(drawn(clock, place, "token", **shape))
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[1], dropout_mask(clock, p=1 / 3, device=CPU, **shape))


def test_nothing_is_drawn_for_no_rows() -> None:
    clock = clock_of((3,))
    assert drawn(clock, clock.place(), "token", site=1, tokens=0, features=4).shape == (1, 0, 4)


def test_a_clock_reads_the_place_that_a_tensor_holds() -> None:
    """Inside, whatever the clock was set to before and the tensor held when it was handed over."""
    clock = clock_of((3, 4), step=1)
    other = clock_of((3, 4), step=6, token_offset=(2, 9), word_offset=(1, 4))
    place = torch.full((2, 4), -1)
    place.copy_(other.place())
    shape = {"site": 9, "tokens": 5, "features": 40, "p": 0.5, "device": CPU}
    for unit in ("token", "word"):
        with clock.reading(place):
            found = dropout_mask(clock, unit=unit, **shape)  # type: ignore[arg-type]
        assert torch.equal(found, dropout_mask(other, unit=unit, **shape))  # type: ignore[arg-type]


def test_a_place_is_sent_once_until_the_clock_moves() -> None:
    clock = DropoutClock(seeds=(2**64 - 1,))
    with pytest.raises(AssertionError, match="never set"):
        clock.place_on(CPU)
    clock.set(step=4, token_offset=(5,), word_offset=(6,))
    sent = clock.place_on(CPU)
    assert sent.tolist() == [[-1, 4, 5, 6]] and clock.place_on(CPU) is sent
    clock.set(step=5, token_offset=(0,), word_offset=(0,))
    assert clock.place_on(CPU).tolist() == [[-1, 5, 0, 0]]
