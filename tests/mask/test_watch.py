"""Attention probabilities as a ``Watch`` is told them, against models' own eager attention."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface

import lmsl
from lmsl.mask.attention import LAYER_ATTRIBUTE
from lmsl.mask.decoder import decoder_layers
from lmsl.mask.unmasking import flagged, watched
from tests.decoders import (
    FAMILIES,
    ORACLE,
    WINDOW,
    Explicit,
    batch,
    build,
    oracle_attention,
    use_oracle,
)

BITS = (False, True, False, True)


def recorded(model: Any, sentence: Tensor) -> list[Tensor]:
    """What the model's own eager attention gives for each layer under ``BITS``, [heads, n, n]."""
    found = []

    def record(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        out, weights = oracle_attention(*args, **kwargs)
        found.append(weights[0])
        return out, weights

    use_oracle(model)
    AttentionInterface.register(ORACLE, record)
    explicit = Explicit(BITS, torch.ones(1, len(sentence)))
    with torch.no_grad():
        model(input_ids=sentence[None], use_cache=False, explicit=explicit)
    return found


def told(model: Any, lengths: list[int]) -> dict[tuple[int, int], tuple[Tensor, Tensor]]:
    """By layer and sentence."""
    found: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def watch(layer: int, probabilities: Tensor, even: Tensor) -> None:
        sentence = sum(key[0] == layer for key in found)
        found[layer, sentence] = probabilities, even

    lmsl.unmask(model, "0101")
    with watched(model, watch), torch.no_grad():
        model(**batch(lengths, "left").packed())
    return found


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_they_are_those_of_the_models_own_eager_attention(family: str) -> None:
    lengths = [11, 1, 7]
    found = told(build(family), lengths)
    assert set(found) == {(layer, sentence) for layer in range(4) for sentence in range(3)}
    for number, sentence in enumerate(batch(lengths, "left").sentences):
        for layer, expected in enumerate(recorded(build(family), sentence)):
            probabilities, even = found[layer, number]
            torch.testing.assert_close(probabilities, expected, rtol=1e-4, atol=2e-6)
            if not BITS[layer]:
                assert probabilities.triu(1).eq(0).all() and even.triu(1).eq(0).all()
            assert not (expected.gt(0).any(0) & even.eq(0)).any(), "seen, but not by an even head"
            torch.testing.assert_close(even.sum(-1), torch.ones(len(sentence)))


def test_even_attention_is_over_what_a_layer_may_see() -> None:
    """Windowed layers, masked and not, one sentence longer than the window."""
    found = told(build("mistral"), [9])
    for layer, bit in enumerate(BITS):
        _, even = found[layer, 0]
        for i in range(9):
            seen = [j for j in range(9) if abs(i - j) < WINDOW and (bit or j <= i)]
            expected = torch.zeros(9)
            expected[seen] = 1 / len(seen)
            torch.testing.assert_close(even[i], expected)


def test_flags_and_watches_come_back_also_after_an_error() -> None:
    model = lmsl.unmask(build("llama"), "0101")
    before = [getattr(each.attention, LAYER_ATTRIBUTE) for each in decoder_layers(model)]

    def watch(layer: int, probabilities: Tensor, even: Tensor) -> None:
        raise RuntimeError("seen")

    with flagged(model, [True, False, False, False]):
        assert lmsl.probe(model) == [True, False, False, False]
        with pytest.raises(RuntimeError, match="seen"), watched(model, watch):
            model(**batch([3], "left").packed())
        assert lmsl.probe(model) == [True, False, False, False]
    after = [getattr(each.attention, LAYER_ATTRIBUTE) for each in decoder_layers(model)]
    assert after == before and lmsl.probe(model) == list(BITS)
