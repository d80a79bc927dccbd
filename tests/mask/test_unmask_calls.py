"""The ways to call and to wrap an unmasked model: packs, leaks, saving, PEFT, checkpointing."""

import copy

import peft
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForTokenClassification

from lmsl.errors import InputError
from lmsl.mask.bits import layer_bits
from lmsl.mask.decoder import decoder_layers
from lmsl.mask.probing import probe
from lmsl.mask.unmasking import stored_string, unmask, unmask_runs
from tests.decoders import FAMILIES, VOCABULARY, batch, build

pytestmark = pytest.mark.drift

LENGTHS = [9, 4, 1, 13]


def _states(model, **inputs):
    with torch.no_grad():
        return model(**inputs).last_hidden_state


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_forward_never_reads_the_device(family):
    # bfloat16, because torch's grouped matrix product (Mixtral) has no float32 form on meta.
    model = unmask(build(family), "0110").to(device="meta", dtype=torch.bfloat16)
    out = _states(model, **batch(LENGTHS, "left").packed("meta"))
    assert out.shape == (1, sum(LENGTHS), 32)


@pytest.mark.parametrize(
    ("family", "attention"), [("mistral", "sdpa"), ("gemma2", "sdpa"), ("llama", "eager")]
)
def test_a_neighbour_never_leaks(family, attention):
    model = unmask(build(family), "0111", attention=attention)
    data = batch(LENGTHS, "left")
    before = _states(model, **data.packed())[0].split(data.lengths)
    for changed in range(len(LENGTHS)):
        other = copy.copy(data.sentences)
        other[changed] = (other[changed] + 7) % VOCABULARY
        pack = data.packed() | {"input_ids": torch.cat(other)[None]}
        after = _states(model, **pack)[0].split(data.lengths)
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            assert torch.equal(old, new) == (index != changed), (changed, index)


def test_rows_behind_the_last_sentence_change_nothing():
    model = unmask(build("llama"), "1111")
    pack = batch(LENGTHS, "left").packed()
    alone = _states(model, **pack)
    longer = {
        "input_ids": torch.cat([pack["input_ids"], torch.full((1, 5), 3)], dim=1),
        "position_ids": torch.cat([pack["position_ids"], torch.zeros(1, 5).long()], dim=1),
    }
    tailed = _states(model, **(pack | longer))
    torch.testing.assert_close(tailed[:, :-5], alone, atol=2e-5, rtol=0)
    assert tailed.isfinite().all()


def test_flags_per_sentence_equal_separate_models():
    data = batch([6, 6, 9], "left")
    strings = ["0011", "1111", "0100"]
    flags = torch.tensor([layer_bits(string, 4) for string in strings]).logical_not().T
    together = _states(unmask(build("mistral"), "0000"), **data.packed(is_causal=flags))[0]
    parts = together.split(data.lengths)
    for string, sentence, part in zip(strings, data.sentences, parts, strict=True):
        alone = _states(unmask(build("mistral"), string), input_ids=sentence[None])[0]
        torch.testing.assert_close(part, alone, atol=2e-5, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_restarting_positions_are_sentences_or_refused(family):
    model = unmask(build(family), "1111")
    data = batch(LENGTHS, "left")
    pack = data.packed()
    ids = {key: pack[key] for key in ("input_ids", "position_ids")}
    packed = _states(model, **pack)
    torch.testing.assert_close(_states(model, **ids, use_cache=False), packed)
    mask = torch.ones_like(ids["input_ids"])
    for hidden in ({"attention_mask": mask, "use_cache": False}, {"use_cache": True}):
        with pytest.raises(InputError, match="position_ids"):
            _states(model, **ids, **hidden)
    mask[0, :2] = 0
    with pytest.raises(InputError, match="position_ids"):
        _states(model, **ids, attention_mask=mask, use_cache=False)


def test_a_mask_with_holes_skips_the_holes():
    model = unmask(build("llama"), "1111")
    ids = torch.arange(3, 11)[None]
    mask = torch.tensor([[0, 1, 1, 0, 1, 0, 1, 0]])
    positions = torch.arange(8)[None]
    kept = mask[0].bool()
    got = _states(model, input_ids=ids, attention_mask=mask, position_ids=positions)[0, kept]
    alone = _states(model, input_ids=ids[:, kept], position_ids=positions[:, kept])[0]
    torch.testing.assert_close(got, alone, atol=2e-5, rtol=0)


def test_an_all_padding_row_is_finite_and_alone():
    model = unmask(build("llama"), "1111")
    data = batch([5, 3], "right")
    mask = data.attention_mask.clone()
    mask[1] = 0
    out = _states(model, input_ids=data.input_ids, attention_mask=mask)
    alone = _states(model, input_ids=data.sentences[0][None])
    assert out.isfinite().all()
    torch.testing.assert_close(out[:1], alone, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "kind", [AutoModel, AutoModelForCausalLM, AutoModelForTokenClassification]
)
def test_the_string_survives_saving(kind, tmp_path):
    torch.manual_seed(0)
    model = unmask(kind.from_config(build("qwen3").config).eval(), "0110")
    model.save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path).eval()
    assert stored_string(again) == ("0110", None)
    unmask(again)
    assert probe(again) == [False, True, True, False]
    ids = torch.arange(3, 12)[None]
    with torch.no_grad():
        assert torch.equal(model(ids)[0], again(ids)[0])


def test_a_peft_wrapper_changes_nothing():
    torch.manual_seed(0)
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    bare = peft.get_peft_model(unmask(build("llama"), "0101"), lora).eval()
    torch.manual_seed(0)
    wrapped = unmask(peft.get_peft_model(build("llama"), lora).eval(), "0101")
    wrapped.load_state_dict(bare.state_dict())
    ids = torch.arange(3, 12)[None]
    assert torch.equal(_states(bare, input_ids=ids), _states(wrapped, input_ids=ids))
    assert probe(wrapped) == [False, True, False, True]
    assert stored_string(wrapped) == ("0101", None)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(reentrant):
    gradients = []
    for checkpointing in (False, True):
        model = unmask(build("gemma2"), "0110").train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        for inputs in (batch(LENGTHS, "left").padded, batch(LENGTHS, "left").packed()):
            model(**(inputs | {"use_cache": False})).last_hidden_state.square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_unmasking_again_replaces_the_flags():
    ids = torch.arange(3, 12)[None]
    stock = _states(build("llama"), input_ids=ids)
    model = unmask(build("llama"), "0110")
    assert not torch.allclose(_states(model, input_ids=ids), stock, atol=2e-5)
    causal = _states(unmask(model, "causal"), input_ids=ids)
    torch.testing.assert_close(causal, stock, atol=2e-5, rtol=0)


def test_norms_in_float32_beside_a_16_bit_model():
    model = unmask(build("qwen3").to(torch.bfloat16), "1111")
    for layer in decoder_layers(model):
        queries, keys = layer.attention.q_norm, layer.attention.k_norm
        queries.float(), keys.float()
        queries.weight.data += 0.01
    out = _states(model, **batch(LENGTHS, "left").packed())
    assert out.isfinite().all() and out.dtype == torch.bfloat16


def test_a_stack_notes_what_its_runs_have_in_common():
    """A model saved after a stack of runs that differ must not remember the first of them."""
    model = unmask(build("llama"), "0011")
    unmask_runs(model, [[False, True, True, False]] * 2, attention="auto")
    assert stored_string(model) == ("0110", None)
    assert probe(unmask(model)) == [False, True, True, False]
    unmask_runs(model, [[False, True, True, False], [True] * 4], attention="auto")
    with pytest.raises(InputError, match="lmsl_unmask"):
        stored_string(model)
