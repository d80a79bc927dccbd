"""NF4: the same numbers as bitsandbytes stores, and the same arithmetic at all times."""

import copy

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, dequantize_blockwise
from torch import nn
from transformers import AutoModel, GPT2Config, LlamaConfig, MixtralConfig
from transformers.pytorch_utils import Conv1D

from lmsl.errors import InputError
from lmsl.layers.quantize import NF4Linear, quantize_linears

pytestmark = pytest.mark.drift

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 50,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def llama() -> nn.Module:
    torch.manual_seed(0)
    return AutoModel.from_config(LlamaConfig(**SIZES))


def spec_weight(layer: NF4Linear) -> torch.Tensor:
    """NF4 by its definition, without bitsandbytes' 4-bit kernel."""
    table = bnb.functional.get_4bit_type("nf4", device="cpu")
    codes = layer.packed.flatten()
    codes = torch.stack((codes >> 4, codes & 15), dim=1).flatten().long()
    state2 = bnb.functional.QuantState(
        absmax=layer.absmax_scale, code=layer.absmax_code, blocksize=256, dtype=torch.float32
    )
    absmax = dequantize_blockwise(layer.absmax, state2) + layer.absmax_offset
    values = table[codes] * absmax.repeat_interleave(64)
    size = layer.in_features * layer.out_features
    return values[:size].view(layer.out_features, layer.in_features)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weight_is_bitwise_that_of_bitsandbytes(dtype: torch.dtype) -> None:
    weight = torch.randn(192, 512, dtype=dtype)
    theirs = bnb.nn.Linear4bit(512, 192, bias=False, quant_type="nf4", compress_statistics=True)
    theirs.weight = bnb.nn.Params4bit(
        weight.clone(), requires_grad=False, quant_type="nf4", compress_statistics=True
    )
    theirs = theirs.to("cpu")
    state = theirs.weight.quant_state
    assert state is not None and state.nested
    expected = dequantize_4bit(theirs.weight.data, state)
    ours = NF4Linear(weight, dtype=dtype)
    assert torch.equal(ours.packed.flatten(), theirs.weight.data.flatten())
    assert torch.equal(ours.dequantize(), expected)
    assert ours.dequantize().dtype == dtype


@pytest.mark.parametrize(
    "shape", [(5, 80), (40, 96), (7, 33), (1, 1), (10, 100), (3, 64), (48, 65), (640, 64)]
)
def test_every_shape_follows_the_definition(shape: tuple[int, int]) -> None:
    """The CPU kernel alone is off by whole units where rows are not multiples of 64."""
    torch.manual_seed(1)
    weight = torch.randn(shape)
    layer = NF4Linear(weight)
    torch.testing.assert_close(layer.dequantize(), spec_weight(layer), rtol=1e-6, atol=1e-7)
    # Half the widest gap between NF4 codes is 0.152 of the block's largest value.
    assert (layer.dequantize() - weight).abs().max() <= 0.16 * weight.abs().max() + 0.05


def test_conv1d_is_transposed_and_bias_kept() -> None:
    conv = Conv1D(48, 64)
    nn.init.normal_(conv.bias)
    layer = NF4Linear.from_linear(conv, resident=False)
    assert (layer.in_features, layer.out_features, layer.transposed) == (64, 48, True)
    inputs = torch.randn(3, 5, 64)
    error = (layer(inputs) - conv(inputs)).abs().max()
    assert error < 0.1 * conv(inputs).abs().max()
    assert torch.equal(layer(inputs * 0)[0, 0], conv.bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_and_backward_are_plain_products(dtype: torch.dtype) -> None:
    layer = NF4Linear(torch.randn(96, 80), torch.randn(96))
    inputs = torch.randn(2, 7, 80, dtype=dtype, requires_grad=True)
    outputs = layer(inputs)
    plain = nn.functional.linear(inputs.float(), layer.dequantize(), layer.bias)
    grad = torch.randn_like(outputs)
    (expected_grad,) = torch.autograd.grad(plain, inputs, grad.float())
    outputs.backward(grad)
    assert outputs.dtype == dtype and torch.equal(outputs, plain.to(dtype))
    torch.testing.assert_close(inputs.grad, expected_grad)


def test_cpu_computes_in_float32_under_autocast_too() -> None:
    layer = NF4Linear(torch.randn(32, 64))
    inputs = torch.randn(4, 64, requires_grad=True)
    plain = layer(inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(inputs), plain)


def test_resident_changes_no_bit() -> None:
    weight, bias = torch.randn(70, 96), torch.randn(70)
    inputs = torch.randn(11, 96)
    results = []
    for resident in (False, True):
        layer = NF4Linear(weight, bias, resident=resident)
        leaf = inputs.clone().requires_grad_()
        outputs = layer(leaf)
        outputs.square().sum().backward()
        results.append((outputs, leaf.grad))
        assert (layer.resident is not None) == resident
    assert all(map(torch.equal, *results))


def test_modes_do_not_change_the_arithmetic() -> None:
    """Linear4bit repacks its weight in the first eval forward on some CPUs; this must not."""
    layer, inputs = NF4Linear(torch.randn(64, 64)), torch.randn(9, 64)
    found = []
    for evaluate in (False, True, False):
        layer.train(not evaluate)
        with torch.no_grad():
            unrecorded = layer(inputs)
        leaf = inputs.clone().requires_grad_()
        outputs = layer(leaf)
        assert torch.equal(outputs, unrecorded)
        outputs.square().mean().backward()
        found.append(torch.stack((outputs.detach(), leaf.grad)))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_state_survives_saving_and_casting() -> None:
    layer = NF4Linear(torch.randn(64, 96), torch.randn(64), resident=True)
    other = NF4Linear(torch.zeros(64, 96), torch.zeros(64), resident=True)
    state = layer.state_dict()
    assert "resident" not in state
    other.load_state_dict(state)
    inputs = torch.randn(3, 96)
    assert torch.equal(layer(inputs), other(inputs))
    before = layer.dequantize()
    layer.to(torch.bfloat16)
    layer.half()
    assert torch.equal(layer.dequantize(), before)
    assert torch.equal(layer.resident, before)
    assert layer.to("meta").packed.device.type == "meta"


def test_quantize_llama_reports_everything() -> None:
    model = llama()
    wrapped = nn.ModuleDict({"model": model, "lm_head": nn.Linear(64, 50)})
    report = quantize_linears(wrapped, resident=False)
    assert len(report.quantised) == 14
    assert report.left == [
        ("model.embed_tokens", "embedding"),
        ("lm_head", "outside the decoder layers"),
    ]
    assert report.bytes_after < report.bytes_before / 4
    assert [m for m in wrapped.modules() if type(m) is nn.Linear] == [wrapped["lm_head"]]
    ids = torch.arange(12).view(2, 6)
    assert torch.isfinite(model(ids).last_hidden_state).all()
    again = quantize_linears(model, resident=False)
    assert again.quantised == [] and ("layers.0.mlp.up_proj", "already NF4") in again.left


def test_mixtral_experts_and_router_are_left_and_named() -> None:
    model = AutoModel.from_config(MixtralConfig(**SIZES, num_local_experts=2))
    report = quantize_linears(model, resident=False)
    reasons = dict(report.left)
    assert "experts" in reasons["layers.0.mlp.experts"]
    assert "router" in reasons["layers.1.mlp.gate"]
    assert all("self_attn" in name for name in report.quantised) and len(report.quantised) == 8


def test_gpt2_computes_with_the_rounded_weights() -> None:
    """How far that is from the original hangs on the initial values, which differ by version."""
    torch.manual_seed(0)
    model = AutoModel.from_config(
        GPT2Config(n_embd=48, n_layer=2, n_head=3, vocab_size=50, bos_token_id=1, eos_token_id=2)
    ).eval()
    ids = torch.arange(20).view(2, 10)
    rounded = copy.deepcopy(model)
    before = model(ids).last_hidden_state
    report = quantize_linears(model, resident=False)
    assert len(report.quantised) == 8
    after = model(ids).last_hidden_state
    for name in report.quantised:
        layer, original = model.get_submodule(name), rounded.get_submodule(name)
        assert isinstance(layer, NF4Linear) and isinstance(original, Conv1D)
        original.weight.data = spec_weight(layer).T
    torch.testing.assert_close(after, rounded(ids).last_hidden_state, rtol=0, atol=1e-5)
    assert (after - before).abs().max() > 0.1


def test_bad_weights_are_refused() -> None:
    model = llama()
    with torch.no_grad():
        model.layers[1].mlp.up_proj.weight[3, 4] = float("nan")
    with pytest.raises(InputError, match=r"layers\.1\.mlp\.up_proj\.weight: expected finite"):
        quantize_linears(model, resident=False)
    with pytest.raises(InputError, match="expected float32, bfloat16 or float16"):
        quantize_linears(llama().double(), resident=False)
