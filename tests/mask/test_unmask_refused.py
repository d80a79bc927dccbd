"""What ``unmask`` and its attention refuse, and that the refusal says why."""

import pytest
import torch
from transformers import AutoConfig, AutoModel

from lmsl.errors import InputError
from lmsl.mask.attention import no_mask, pack_attention
from lmsl.mask.unmasking import unmask
from tests.decoders import build

pytestmark = pytest.mark.drift

SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
REFUSED = {
    "gpt_neo": (SIZES | {"attention_types": [[["global", "local"], 2]]}, "GPTNeoAttention"),
    "bloom": ({"vocab_size": 99, "hidden_size": 32, "n_layer": 4, "n_head": 4}, "BloomAttention"),
    "mpt": ({"vocab_size": 99, "d_model": 32, "n_layers": 4, "n_heads": 4}, "MptAttention"),
    "falcon": (SIZES, "FalconAttention"),
    "xglm": (
        {"vocab_size": 99, "d_model": 32, "num_layers": 4, "attention_heads": 4, "ffn_dim": 48},
        "XGLMAttention",
    ),
    "mamba": (SIZES, "layers 0-3: (linear_attention|mamba)"),
    "jamba": (SIZES, "layers 0-3: (linear_attention|mamba)"),
    "qwen3_next": (SIZES, "layers 0-2: linear_attention"),
    "lfm2": (SIZES | {"layer_types": ["conv", "full_attention"] * 2}, "layers 0, 2: conv"),
    "llama4_text": (SIZES, "chunked_attention"),
    "gpt_oss": (SIZES, "sinks"),
    "t5": ({"vocab_size": 99, "d_model": 32, "num_layers": 2, "d_ff": 32}, "encoder-decoder"),
}


@pytest.mark.parametrize("family", REFUSED)
def test_models_that_cannot_be_unmasked_are_refused_by_name(family):
    settings, words = REFUSED[family]
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model(family, **settings))
    before = model.config._attn_implementation
    with pytest.raises(InputError, match=words) as error:
        unmask(model, "0011")
    assert "\n" not in str(error.value)
    assert model.config._attn_implementation == before, "a refused model must stay as it was"


def test_a_layer_that_also_mixes_tokens_elsewhere_is_refused():
    model = build("llama")
    model.layers[1].beside = model.layers[2].beside = torch.nn.Conv1d(32, 32, 3)
    with pytest.raises(InputError, match="layers 1-2: Conv1d is not softmax attention"):
        unmask(model, "0011")


def test_wrong_arguments():
    """What is wrong with a string alone is tested with ``layer_bits``."""
    model = build("llama")
    for arguments, words in (
        ((torch.nn.Linear(2, 2), "0011"), "Linear"),
        ((model, "01010"), "at most 4"),
        ((model,), "lmsl_unmask"),
        ((build("llama", is_causal=False), "0011"), r"config\.is_causal"),
    ):
        with pytest.raises(InputError, match=words):
            unmask(*arguments)
    with pytest.raises(InputError, match="flash"):
        unmask(model, "0011", attention="flash")


def _call(model, **more):
    return model(**({"input_ids": torch.arange(3, 9)[None], "use_cache": False} | more))


def test_a_cache_is_refused_once_it_holds_something():
    model = unmask(build("mistral"), "0011")
    with torch.no_grad():
        first = _call(model, use_cache=True)
        with pytest.raises(InputError, match="cache"):
            _call(model, use_cache=True, past_key_values=first.past_key_values)


def test_dropout_is_refused_in_training_only():
    model = unmask(build("llama", attention_dropout=0.1), "0011")
    assert _call(model).last_hidden_state.isfinite().all()
    with pytest.raises(InputError, match="dropout"):
        _call(model.train())


def test_masks_packs_and_arguments_of_other_kinds_are_refused():
    model = unmask(build("llama"), "0011")
    ids = torch.arange(3, 9)[None]
    pack = {"packed": pack_attention([2, 4]), "attention_mask": no_mask()}
    for given, words in (
        ({"attention_mask": torch.zeros(1, 1, 6, 6)}, "shape"),
        ({"attention_mask": no_mask()}, "packed"),
        (pack | {"input_ids": ids.repeat(2, 1)}, "one row"),
        (pack | {"attention_mask": torch.ones_like(ids)}, "no_mask"),
        *(({name: torch.zeros(4)}, name) for name in ("s_aux", "position_bias", "cu_seq_lens_q")),
        *(({"is_causal": flag}, "is_causal") for flag in (True, False)),
    ):
        with pytest.raises(InputError, match=words):
            _call(model, **given)
    with pytest.raises(ValueError, match="ends at 6"):
        _call(model, **(pack | {"input_ids": ids[:, :5]}))


def test_a_model_that_loses_the_pack_says_so():
    config = AutoConfig.for_model("stablelm", **SIZES)
    model = unmask(AutoModel.from_config(config).eval(), "0011")
    with pytest.raises(InputError, match="does not hand it on"):
        _call(model, packed=pack_attention([6]), attention_mask=no_mask())
    assert _call(model).last_hidden_state.isfinite().all()


def test_triton_says_why_it_cannot_serve(monkeypatch):
    monkeypatch.setattr("lmsl_kernels.flash.launch.INTERPRETED", False)
    model = unmask(build("llama"), "0011", attention="triton")
    with pytest.raises(ValueError, match=r"'triton' cannot serve.* needs a CUDA device, got cpu"):
        _call(model)
