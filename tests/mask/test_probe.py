"""``probe`` must tell the truth about our models and about everybody else's."""

import pytest
import torch
from transformers import AutoConfig, AutoModel, BitsAndBytesConfig

from lmsl.errors import InputError
from lmsl.mask.probing import probe, probe_forms, verify
from lmsl.mask.unmasking import unmask
from tests.decoders import ALL_STRINGS, FAMILIES, build

pytestmark = pytest.mark.drift


@pytest.mark.parametrize("string", ALL_STRINGS)
def test_every_string_is_seen(string):
    bits = [bit == "1" for bit in string]
    model = unmask(build("gemma2"), string)
    assert probe_forms(model) == dict.fromkeys(("single", "padded", "packed"), bits)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_as_they_come_and_unmasked(family):
    model = build(family)
    assert probe(model) == [False] * 4
    model.set_attn_implementation("eager")
    assert probe(model) == [False] * 4
    assert probe(unmask(model, "0101")) == [False, True, False, True]


@pytest.mark.parametrize(("family", "attention"), [("llama", "sdpa"), ("qwen3", "eager")])
def test_a_global_flag_is_seen(family, attention):
    model = build(family, is_causal=False)
    model.set_attn_implementation(attention)
    assert probe(model) == [True] * 4


def test_a_flag_that_only_some_calls_obey_is_not_believed():
    """sdpa obeys ``module.is_causal`` without a mask and ignores it beside one."""
    model = build("llama")
    model.set_attn_implementation("sdpa")
    for layer in model.layers:
        layer.self_attn.is_causal = False
    forms = probe_forms(model)
    assert forms == {"single": [True] * 4, "padded": [False] * 4}
    assert probe(model) == [False] * 4
    for bits in ([False] * 4, [True] * 4):
        with pytest.raises(InputError, match="layer 0"):
            verify(model, bits)


def test_a_model_outside_the_interface():
    sizes = {"vocab_size": 99, "hidden_size": 32, "n_layer": 3, "n_head": 4}
    assert probe(AutoModel.from_config(AutoConfig.for_model("bloom", **sizes))) == [False] * 3


def test_a_window_of_one_token_sees_nothing():
    assert probe(unmask(build("mistral", sliding_window=1), "1111")) == [False] * 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype):
    assert probe(unmask(build("llama").to(dtype), "0110")) == [False, True, True, False]


def test_nothing_stays_behind():
    model = unmask(build("gemma2"), "0110").train()
    model.layers[2].eval()
    modes = [module.training for module in model.modules()]
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    probe(model)
    assert torch.equal(torch.rand(4), expected)
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_verify_names_the_layers():
    model = unmask(build("llama"), "0110")
    verify(model, [False, True, True, False])
    with pytest.raises(InputError, match="1 is bidirectional, 3 is causal"):
        verify(model, [False, False, True, True])
    with pytest.raises(InputError, match="expected 4"):
        verify(model, [True])


def test_a_model_quantised_by_bitsandbytes_is_measured_and_left_as_it_was(tmp_path):
    """On some CPUs bitsandbytes repacks weights in an evaluation without gradients, for good."""
    build("llama").save_pretrained(tmp_path)
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = AutoModel.from_pretrained(tmp_path, quantization_config=settings)
    linear = model.layers[0].self_attn.q_proj
    assert type(linear).__name__ == "Linear4bit"
    before = linear.weight.data.clone()
    unmask(model.eval(), "0110")
    assert probe(model) == [False, True, True, False]
    assert not model.training and not linear.training
    assert torch.equal(linear.weight.data, before)
    assert not getattr(linear.weight.quant_state, "packing_format_for_cpu", False)
