"""Every family and string against the model's own eager attention with explicit masks."""

import pytest
import torch

from lmsl.mask.unmasking import unmask
from tests.decoders import ALL_STRINGS, FAMILIES, Batch, Explicit, batch, build, use_oracle

pytestmark = pytest.mark.drift

LENGTHS = [11, 1, 6]


def _states_and_gradients(model, data: Batch, **inputs):
    """Last hidden states of the real tokens and the gradient of every parameter."""
    model.zero_grad()
    states = model(**inputs | {"use_cache": False}).last_hidden_state
    real = data.real(states) if len(states) > 1 else states[0]
    weights = torch.randn(real.shape, generator=torch.Generator().manual_seed(5))
    (real * weights).sum().backward()
    return real.detach(), {name: p.grad for name, p in model.named_parameters()}


def _assert_close(got, expected, what):
    tolerance = 2e-5 * max(1.0, expected.abs().max().item())
    error = (got - expected).abs().max().item()
    assert error <= tolerance, f"{what}: error {error:.2e} above {tolerance:.2e}"


# Each layer both ways, beside the same and beside the other; every string where layers are alike
# and where their windows alternate.
FEW = ("0000", "0011", "1010", "1111")
CASES = [
    (family, string)
    for family in FAMILIES
    for string in (ALL_STRINGS if family in ("llama", "gemma2") else FEW)
]


@pytest.mark.parametrize(("family", "string"), CASES)
def test_states_and_gradients_match_explicit_masks(family, string):
    bits = tuple(bit == "1" for bit in string)
    ours, oracle = unmask(build(family), string), build(family)
    use_oracle(oracle)
    for side in ("left", "right"):
        data = batch(LENGTHS, side)
        explicit = Explicit(bits, data.attention_mask)
        states, grads = _states_and_gradients(ours, data, **data.padded)
        want, want_grads = _states_and_gradients(oracle, data, **data.padded, explicit=explicit)
        _assert_close(states, want, f"{side} states")
        assert grads.keys() == want_grads.keys()
        for name, grad in want_grads.items():
            if grad is not None:
                _assert_close(grads[name], grad, f"{side} gradient of {name}")


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_padded_equals_one_by_one(family):
    model = unmask(build(family), "0110")
    data = batch([7, 1, 12, 3], "left")
    packed = _states_and_gradients(model, data, **data.packed())
    padded = _states_and_gradients(model, data, **data.padded)
    with torch.no_grad():
        single = [model(s[None], use_cache=False).last_hidden_state[0] for s in data.sentences]
    _assert_close(packed[0], torch.cat(single), "packed against one by one")
    _assert_close(padded[0], torch.cat(single), "padded against one by one")
    for name, grad in padded[1].items():
        if grad is not None:
            _assert_close(packed[1][name], grad, f"gradient of {name}")


def test_the_strings_differ():
    """Guard against an oracle and a model that both ignore the bits."""
    data = batch(LENGTHS, "right")
    states = []
    for string in ALL_STRINGS:
        model = unmask(build("llama"), string)
        with torch.no_grad():
            states.append(model(**data.padded, use_cache=False).last_hidden_state)
    for i, one in enumerate(states):
        for other in states[i + 1 :]:
            assert (one - other)[data.attention_mask.bool()].abs().max() > 1e-2
