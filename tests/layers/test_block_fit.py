"""Which decoders the forward of ours takes, how it is said, and that it is measured first."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lmsl import Labeler
from lmsl.errors import InputError
from lmsl.layers.fused.fit import (
    FAMILIES,
    build_block,
    choose_block,
    difference,
    seen_by,
    why_not_llama_shaped,
)
from lmsl.layers.lora import add_lora
from lmsl.layers.quantize import NF4Linear
from lmsl.mask.probing import run_forms
from lmsl.mask.unmasking import unmask
from tests.decoders import build
from tests.layers.block_tools import QV, SETTINGS, assembled
from tests.small_runs import train

pytestmark = pytest.mark.drift


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("gemma2", "Gemma2Model is none of LlamaModel, "),
        ("gpt2", "GPT2Model is none of"),
        ("mixtral", "MixtralModel is none of"),
    ],
)
def test_other_architectures_take_the_plain_path_and_say_so(family: str, reason: str) -> None:
    lora = replace(SETTINGS["lora"], targets=("query-value",))
    changes = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0} if "gpt" in family else {}
    found = assembled(family, "auto", lora=lora, changes=changes)
    assert found.tagger.block is None
    (note,) = [note for note in found.notes if note.startswith("block: ")]
    assert note.startswith("block: transformers' own forward (--block auto: ") and reason in note
    with pytest.raises(InputError, match=f"^--block own: expected Llama.*{reason}.*use plain"):
        assembled(family, "own", lora=lora, changes=changes)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda m: setattr(m.config, "hidden_act", "gelu"), "activation is gelu, not silu"),
        (lambda m: m.layers[2].add_module("extra", torch.nn.Identity()), r"layer .*\(extra\)"),
        (lambda m: m.layers[1].mlp.add_module("norm", torch.nn.Identity()), r"MLP .*\(norm\)"),
        (lambda m: m.add_module("norm", torch.nn.LayerNorm(32)), "norm is LayerNorm"),
        (
            lambda m: m.layers[3].self_attn.add_module("k_norm", m.norm),
            "attention has k_norm alone",
        ),
        (
            lambda m: m.layers[0].mlp.add_module("up_proj", NF4Linear(torch.randn(40, 32))),
            "linear layers are Linear, NF4Linear",
        ),
        (
            lambda m: m.add_module("embed_tokens", torch.nn.EmbeddingBag(97, 32)),
            "embeddings are EmbeddingBag",
        ),
    ],
)
def test_what_is_not_llama_shaped_is_named(damage: Any, reason: str) -> None:
    decoder = build("llama")
    assert why_not_llama_shaped(decoder) is None
    damage(decoder)
    with pytest.raises(InputError, match=f"^--block own: expected Llama-shaped.*{reason}"):
        choose_block(decoder, "own", [[False] * 4])


def test_a_decoder_that_computes_something_else_is_found_out() -> None:
    """What no list can see: the same parts, put together in another way."""
    decoder = unmask(build("llama"), "0011")
    honest = type(decoder.layers[0]).forward

    class Scaled(type(decoder.layers[0])):  # type: ignore[misc]
        def forward(self, *arguments: Any, **others: Any) -> Tensor:
            return 1.5 * honest(self, *arguments, **others)

    for layer in decoder.layers:
        layer.__class__ = Scaled
    assert why_not_llama_shaped(decoder) is None
    block, note = choose_block(decoder, "auto", [[False, False, True, True]])
    assert block is None and "hidden states differ from transformers' by" in note
    with pytest.raises(InputError, match=r"--block own: expected Llama-shaped.*differ"):
        choose_block(decoder, "own", [[False, False, True, True]])


@pytest.mark.parametrize(
    ("family", "string"), [*((family, "0110") for family in FAMILIES), ("llama", "1001")]
)
def test_the_probe_measures_this_forward(family: str, string: str) -> None:
    decoder = unmask(build(family), string)
    add_lora(decoder, targets=QV, rank=2, alpha=2, dropout=0.0, seeds=(1,))
    block, bits = build_block(decoder), [bit == "1" for bit in string]
    forms = run_forms(decoder, [bits])
    assert seen_by(block, decoder, forms) == [bits]
    assert difference(block, decoder, forms[0]) < 1e-5
    with pytest.raises(InputError, match="differ from their unmask bits in a fast packed call"):
        choose_block(decoder, "own", [[not bit for bit in bits]])


def test_the_choice_is_said() -> None:
    for choice, words in {
        "auto": "block: fast forward for Llama-shaped layers (--block auto)",
        "own": "block: fast forward for Llama-shaped layers (asked for)",
        "plain": "block: transformers' own forward (--block plain)",
    }.items():
        assert words in assembled(block=choice).notes


def test_a_loaded_run_computes_with_the_forward_it_was_scored_with(
    run: Path, data: Path, tmp_path: Path
) -> None:
    plain = train(data, tmp_path / "plain", "--block", "plain", "--max-steps", "1")
    for folder, own in ((run, True), (plain, False)):
        labeler = Labeler.load(folder, "cpu")
        assert labeler.info.block == ("own" if own else "plain")
        assert (labeler.tagger.block is not None) == own


def test_who_computes_attention_is_said_where_nobody_was_named() -> None:
    notes = [assembled(attention=named).notes for named in ("auto", "sdpa")]
    said, silent = ([one for one in own if one.startswith("attention")] for own in notes)
    assert silent == [] and len(said) == 1
    assert said[0].startswith("attention by sdpa; not by triton: ")
