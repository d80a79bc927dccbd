"""Dropout masks belong to (seed, step, site, token, feature) and to nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsl.errors import InputError
from lmsl.layers.dropout import (
    DropoutClock,
    check_probability,
    dropout_mask,
    seeded_generator,
    site_number,
)
from tests.layers.block_tools import clock_of
from tests.tagger.tagger_tools import CPU


def masks(
    seeds: tuple[int, ...],
    tokens: int,
    *,
    features: int = 40,
    step: int = 3,
    offset: tuple[int, ...] | None = None,
    site: int = 17,
    p: float = 0.1,
) -> torch.Tensor:
    clock = clock_of(seeds, step=step, token_offset=offset or (0,) * len(seeds))
    return dropout_mask(clock, site=site, tokens=tokens, features=features, p=p, device=CPU)


@settings(max_examples=60)
@given(
    tokens=st.integers(0, 70),
    cut=st.integers(0, 70),
    filling=st.integers(0, 9),
    features=st.integers(1, 100),
)
def test_any_slice_of_an_update_is_the_same(
    tokens: int, cut: int, filling: int, features: int
) -> None:
    cut = min(cut, tokens)
    whole = masks((5,), tokens, features=features)[0]
    first = masks((5,), cut + filling, features=features)[0, :cut]
    second = masks((5,), tokens - cut + filling, features=features, offset=(cut,))[0]
    assert torch.equal(torch.cat((first, second[: tokens - cut])), whole)


def test_other_runs_change_nothing() -> None:
    together = masks((7, 5, 5), 33, offset=(100, 0, 20))
    assert torch.equal(together[1], masks((5,), 33)[0])
    assert torch.equal(together[2], masks((5,), 53)[0, 20:])
    assert not torch.equal(together[0], together[2])


def test_runs_of_one_seed_at_one_place_are_drawn_once() -> None:
    together = masks((5, 5, 5), 33)
    assert together.shape == (3, 33, 40) and together.stride(0) == 0
    mixed = masks((5, 6, 5), 33)
    for run, seed in enumerate((5, 6, 5)):
        assert torch.equal(mixed[run], masks((seed,), 33)[0])


def test_every_key_matters_and_repeats() -> None:
    base = masks((1,), 64)
    assert torch.equal(base, masks((1,), 64))
    for other in (
        masks((2,), 64),
        masks((1,), 64, step=4),
        masks((1,), 64, site=18),
        masks((1,), 64, offset=(64,)),
    ):
        # Independent masks agree on 0.9 ** 2 + 0.1 ** 2 of the elements.
        assert abs((base == other).float().mean() - 0.82) < 0.04


def test_extreme_seeds_and_sites() -> None:
    huge = masks((2**64 - 1, -1, 2**63), 5, site=site_number("x"), offset=(2**40,) * 3)
    assert torch.equal(huge[0], huge[1]) and not torch.equal(huge[0], huge[2])


@pytest.mark.parametrize("p", [0.0, 0.1, 0.9])
def test_rate_and_scale(p: float) -> None:
    factors = masks((11,), 1000, features=1000, p=p)
    dropped = float((factors == 0).float().mean())
    assert abs(dropped - p) < 5 * (p * (1 - p) / 1e6) ** 0.5 + 1 / 65536
    kept = factors[factors != 0]
    assert torch.equal(kept, torch.full_like(kept, kept[0].item()))
    assert abs(kept[0].item() * (1 - p) - 1) < 2e-4
    assert abs(float(factors.mean()) - 1) < 5 * (p / (1 - p) / 1e6) ** 0.5 + 1e-6
    assert p > 0 or bool((factors == 1).all())


def test_neighbours_are_independent() -> None:
    dropped = (masks((0,), 4000, features=64, p=0.5)[0] == 0).float() - 0.5
    flat = dropped.flatten()
    for lag in (1, 2, 3, 4, 8, 16, 63, 64, 65, 128):
        correlation = float((flat[:-lag] * flat[lag:]).mean()) * 4
        assert abs(correlation) < 5 / flat.numel() ** 0.5, lag


def test_bits_are_those_of_a_running_philox() -> None:
    """The slice of a mask is what numpy's own stream gives at that place."""
    stream = np.random.Philox(
        key=np.array((9, 0), dtype=np.uint64), counter=np.array((0, 3, 17, 0), dtype=np.uint64)
    )
    bits = stream.random_raw(50 * 3 * 4).view(np.uint16).reshape(50, 48)[20:, :40]
    expected = torch.from_numpy(bits >= round(0.1 * 65536))
    assert torch.equal(masks((9,), 30, offset=(20,))[0] != 0, expected)


def test_words_have_their_own_place() -> None:
    clock = clock_of((4,), token_offset=(30,), word_offset=(10,))
    settings_ = {"site": 1, "features": 20, "p": 0.5, "device": CPU}
    words = dropout_mask(clock, tokens=30, unit="word", **settings_)
    tokens = dropout_mask(clock, tokens=10, **settings_)
    assert torch.equal(words[:, 20:], tokens)


def test_a_clock_that_was_never_set_is_an_error() -> None:
    with pytest.raises(AssertionError, match="never set"):
        dropout_mask(DropoutClock(seeds=(1,)), site=0, tokens=1, features=1, p=0.1, device=CPU)


@pytest.mark.parametrize("p", [-0.1, 1.0, 2.0, float("nan"), float("inf"), 1 - 1e-9])
def test_impossible_probabilities_are_refused(p: float) -> None:
    with pytest.raises(InputError, match=r"--dropout: expected a probability in \[0, 1\)"):
        check_probability("--dropout", p)


def test_site_numbers_and_generators_are_stable() -> None:
    """These values are part of what makes a seed repeat: changing them changes every run."""
    assert site_number("layers.0.self_attn.q_proj") == 1339188420211077553
    first = torch.rand(2, generator=seeded_generator(1, 2))
    assert torch.equal(first, torch.rand(2, generator=seeded_generator(1, 2)))
    assert not torch.equal(first, torch.rand(2, generator=seeded_generator(2, 1)))
