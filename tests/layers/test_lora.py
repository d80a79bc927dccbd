"""Stacked LoRA: equal to PEFT, equal to each run alone, and readable by PEFT."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    AutoModel,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    Phi3Config,
)

from lmsl.errors import InputError
from lmsl.layers.lora import add_lora, stacked_layers, trainable_parameters
from lmsl.layers.peft_format import load_adapter, save_adapter
from lmsl.layers.quantize import quantize_linears
from lmsl.layers.targets import chosen_layers, named_targets
from tests.layers.block_tools import clock_of

pytestmark = pytest.mark.drift

IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "vocab_size": 50}
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    **IDS,
}
CONFIGS = {
    "llama": LlamaConfig(num_key_value_heads=1, **SIZES),
    "gpt2": GPT2Config(
        n_embd=48, n_layer=2, n_head=3, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0, **IDS
    ),
    "neox": GPTNeoXConfig(**SIZES),
    "phi3": Phi3Config(num_key_value_heads=1, **SIZES),
    "mixtral": MixtralConfig(num_key_value_heads=1, num_local_experts=2, **SIZES),
}
# What the words query-value and attention stand for.
SPLIT = (["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj"])
TARGETS = {
    "llama": SPLIT,
    "gpt2": (["c_attn"], ["c_attn", "attn.c_proj"]),
    "neox": (["query_key_value"], ["query_key_value", "dense"]),
    "phi3": (["qkv_proj"], ["o_proj", "qkv_proj"]),
    "mixtral": SPLIT,
}
TOKENS = torch.arange(3, 25).view(2, 11)


def base(kind: str = "llama") -> nn.Module:
    torch.manual_seed(0)
    return AutoModel.from_config(CONFIGS[kind], attn_implementation="eager")


def adapted(
    kind: str = "llama",
    seeds: tuple[int, ...] = (5,),
    targets: list[str] | str | None = None,
    dropout: float = 0.0,
    quantized: bool = False,
) -> nn.Module:
    """A small decoder with adapters whose B is not zero."""
    model = base(kind)
    if quantized:
        quantize_linears(model, resident=False)
    targets = TARGETS[kind][0] if targets is None else targets
    clock = clock_of(seeds)
    add_lora(model, targets=targets, rank=4, alpha=6, dropout=dropout, seeds=seeds, clock=clock)
    for layer in stacked_layers(model).values():
        for run, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(seed)
            layer.lora_B.data[run].normal_(0, 0.3, generator=generator)
    return model.train()


@pytest.mark.parametrize(("kind", "everything"), [("llama", False), ("gpt2", True)])
def test_forward_and_gradients_are_those_of_peft(kind: str, everything: bool) -> None:
    targets = named_targets(base(kind), ["all-linear"]) if everything else TARGETS[kind][0]
    ours = adapted(kind, targets=targets)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=targets, fan_in_fan_out=kind == "gpt2")
    theirs = get_peft_model(base(kind), config)
    pairs = {}
    for name, layer in stacked_layers(ours).items():
        other = theirs.base_model.model.get_submodule(name)
        a, b = other.lora_A["default"].weight, other.lora_B["default"].weight
        a.data.copy_(layer.lora_A[0])
        b.data.copy_(layer.lora_B[0])
        pairs |= {f"{name}.lora_A": (layer.lora_A, a), f"{name}.lora_B": (layer.lora_B, b)}
    hidden, expected = ours(TOKENS).last_hidden_state, theirs(TOKENS).last_hidden_state
    torch.testing.assert_close(hidden, expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(hidden)
    (hidden * direction).sum().backward()
    (expected * direction).sum().backward()
    assert pairs.keys() == trainable_parameters(ours).keys()
    for name, (mine, other) in pairs.items():
        scale = other.grad.abs().max()
        assert scale > 0 and (mine.grad[0] - other.grad).abs().max() < 2e-5 * scale, name


@pytest.mark.parametrize(
    ("kind", "word"), [*((kind, "attention") for kind in CONFIGS), ("gpt2", "query-value")]
)
def test_peft_reads_our_files(kind: str, word: str, tmp_path: Path) -> None:
    targets = named_targets(base(kind), [word])
    ours = adapted(kind, seeds=(1, 2), targets=targets)
    base(kind).save_pretrained(tmp_path / "base")
    save_adapter(ours, 1, tmp_path, base_name=str(tmp_path / "base"), revision=None)
    theirs = PeftModel.from_pretrained(AutoModel.from_pretrained(tmp_path / "base"), tmp_path)
    single = adapted(kind, seeds=(2,), targets=targets).eval()
    for name, layer in stacked_layers(single).items():
        assert torch.equal(layer.lora_A[0], stacked_layers(ours)[name].lora_A[1])
    hidden = single(TOKENS).last_hidden_state
    torch.testing.assert_close(
        theirs.eval()(TOKENS).last_hidden_state, hidden, rtol=1e-5, atol=1e-5
    )
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    if kind == "gpt2" and word == "attention":
        # To PEFT the short c_proj would mean the one of the MLP too.
        assert config["target_modules"] == sorted(stacked_layers(ours))
    else:
        assert config["target_modules"] == sorted(targets)
    assert config["fan_in_fan_out"] == (kind == "gpt2")


def test_quantised_gpt2_still_says_its_weights_are_transposed(tmp_path: Path) -> None:
    save_adapter(adapted("gpt2", quantized=True), 0, tmp_path, base_name="x", revision="abc")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["fan_in_fan_out"] is True and config["revision"] == "abc"


@pytest.mark.parametrize("quantized", [False, True])
def test_a_stack_equals_its_runs_alone(quantized: bool) -> None:
    seeds, lengths, capacity, dropout = (5, 6, 7), (9, 4, 12), 12, 0.3
    ids = torch.randint(3, 50, (3, capacity), generator=torch.Generator().manual_seed(1))
    direction = torch.randn(3, capacity, 64)
    for run, length in enumerate(lengths):
        direction[run, length:] = 0
    targets = ["all-linear"]
    stack = adapted(seeds=seeds, targets=targets, dropout=dropout, quantized=quantized)
    positions = torch.arange(capacity).repeat(3)[None]
    # One sentence a run: attention inside the run, causal.
    same_run = torch.arange(3).repeat_interleave(capacity)
    seen = (same_run[:, None] == same_run) & torch.ones(36, 36).tril().bool()
    mask = torch.zeros(1, 1, 36, 36).masked_fill(~seen, torch.finfo(torch.float32).min)
    embedded = stack.get_input_embeddings()(ids.view(1, -1))
    hidden = stack(inputs_embeds=embedded, attention_mask=mask, position_ids=positions)
    hidden = hidden.last_hidden_state.view(3, capacity, -1)
    (hidden * direction).sum().backward()
    gradients = trainable_parameters(stack)
    for run, (seed, length) in enumerate(zip(seeds, lengths, strict=True)):
        alone = adapted(seeds=(seed,), targets=targets, dropout=dropout, quantized=quantized)
        expected = alone(ids[run : run + 1, :length]).last_hidden_state
        (expected * direction[run, :length]).sum().backward()
        torch.testing.assert_close(hidden[run, :length], expected[0], rtol=2e-5, atol=2e-5)
        for name, parameter in trainable_parameters(alone).items():
            scale = parameter.grad.abs().max()
            error = (gradients[name].grad[run] - parameter.grad[0]).abs().max()
            assert scale > 0 and error < 5e-5 * scale, name


def test_initial_values_depend_on_seed_and_name_alone() -> None:
    small, large = base(), base()
    settings = {"rank": 4, "alpha": 4, "dropout": 0.0}
    add_lora(small, targets=["v_proj"], seeds=(9,), **settings)
    add_lora(large, targets=["all-linear"], seeds=(8, 9), **settings)
    for name, layer in stacked_layers(small).items():
        assert torch.equal(layer.lora_A[0], stacked_layers(large)[name].lora_A[1])
        assert not layer.lora_B.any()
        bound = layer.in_features**-0.5
        assert 0.9 * bound < layer.lora_A.abs().max() <= bound
    firsts = {layer.lora_A[0, 0, 0].item() for layer in stacked_layers(large).values()}
    assert len(firsts) == len(stacked_layers(large))
    wrapped = nn.ModuleDict({"model": base()})
    add_lora(wrapped, targets=["v_proj"], seeds=(9,), **settings)
    for name, layer in stacked_layers(wrapped).items():
        assert torch.equal(layer.lora_A, stacked_layers(small)[name[6:]].lora_A)


def test_dropout_acts_in_training_only() -> None:
    dropped, plain = adapted(dropout=0.5), adapted(dropout=0.0)
    assert not torch.allclose(dropped(TOKENS)[0], plain(TOKENS)[0])
    assert torch.equal(dropped.eval()(TOKENS)[0], plain.eval()(TOKENS)[0])


@pytest.mark.parametrize("kind", CONFIGS)
def test_words_for_targets_by_architecture(kind: str) -> None:
    model = base(kind)
    words = ("query-value", "attention")
    assert tuple(named_targets(model, [word]) for word in words) == TARGETS[kind]
    chosen = chosen_layers(model, ["attention"])
    assert len(chosen) == 2 * len(TARGETS[kind][1])
    assert not any("mlp" in name or "experts" in name for name in chosen)
    assert set(chosen) < set(chosen_layers(model, ["all-linear"])) or kind == "mixtral"


def test_words_and_names_for_targets_go_together() -> None:
    named = named_targets(base(), ["query-value", "down_proj", "v_proj"])
    assert named == ["q_proj", "v_proj", "down_proj"]
    with pytest.raises(InputError, match="expected at least one name, got none"):
        named_targets(base(), [])


def test_everything_but_adapters_is_frozen_and_experts_are_no_targets() -> None:
    model = base("mixtral")
    names = add_lora(model, targets=["all-linear"], rank=2, alpha=2, dropout=0.0, seeds=(1,))
    assert len(names) == 8 and all(".self_attn." in name for name in names)
    assert len(trainable_parameters(model)) == 16
    assert all(".lora_" in name for name in trainable_parameters(model))
    with pytest.raises(InputError, match=r"got gate_up_proj$"):
        add_lora(base("mixtral"), targets=["gate_up_proj"], rank=2, alpha=2, dropout=0, seeds=(1,))


def test_experts_in_a_list_of_linears_are_no_targets_either() -> None:
    experts = nn.ModuleList(nn.ModuleDict({"w1": nn.Linear(8, 8)}) for _ in range(2))
    layer = nn.ModuleDict({"q_proj": nn.Linear(8, 8), "gate": nn.Linear(8, 2), "experts": experts})
    model = nn.ModuleDict({"layers": nn.ModuleList([layer]), "lm_head": nn.Linear(8, 9)})
    assert named_targets(model, ["all-linear"]) == ["q_proj"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": ["q_proj", "nope"]}, "q_proj, k_proj, v_proj, o_proj.*got nope$"),
        ({"targets": []}, "got none$"),
        ({"targets": ["proj"]}, "got proj$"),
        ({"rank": 0}, "rank: expected at least 1, got 0"),
        ({"dropout": 1.0}, "dropout: expected a probability"),
        ({"dropout": 0.1}, "dropout: expected a clock"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, object], message: str) -> None:
    settings = {"targets": ["q_proj"], "rank": 2, "alpha": 2, "dropout": 0.0, "seeds": (1,)}
    with pytest.raises(InputError, match=message):
        add_lora(base(), **(settings | change))


def test_adapter_round_trip_and_strictness(tmp_path: Path) -> None:
    saved, target = adapted(seeds=(1, 2)), adapted(seeds=(3, 4, 5))
    save_adapter(saved, 0, tmp_path, base_name="tiny", revision=None)
    load_adapter(target, 2, tmp_path)
    for name, layer in stacked_layers(target).items():
        assert torch.equal(layer.lora_A[2], stacked_layers(saved)[name].lora_A[0])
        assert torch.equal(layer.lora_B[2], stacked_layers(saved)[name].lora_B[0])
        assert not torch.equal(layer.lora_A[1], layer.lora_A[2])
    with pytest.raises(InputError, match=r"lacks 4, first .*k_proj\.lora_A"):
        load_adapter(adapted(targets=["q_proj", "v_proj", "k_proj"]), 0, tmp_path)
    with pytest.raises(InputError, match=r"has unexpected 8, first .*v_proj"):
        load_adapter(adapted(targets=["q_proj"]), 0, tmp_path)
    config_path = tmp_path / "adapter_config.json"
    other = config_path.read_text().replace('"lora_alpha": 6', '"lora_alpha": 8')
    for text, words in ((other, "lora_alpha: expected 6, got 8"), ("{", "expected JSON")):
        config_path.write_text(text)
        with pytest.raises(InputError, match=words):
            load_adapter(target, 0, tmp_path)
    config_path.unlink()
    with pytest.raises(InputError, match="no such file"):
        load_adapter(target, 0, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter_model.safetensors"]
