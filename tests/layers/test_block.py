"""The forward of ours equals transformers' own, in loss, logits and every gradient.

Both run on one tiny random decoder with the same adapters; only ``block`` differs.
"""

from dataclasses import replace

import pytest
import torch

from lmsl.config.choices import LabelAt
from lmsl.errors import InputError
from lmsl.layers.fused import front as fused_front
from lmsl.layers.fused import parts as fused_parts
from lmsl.layers.fused import tail as fused_tail
from lmsl.layers.fused.fit import FAMILIES, build_block
from lmsl.layers.fused.linear import ReadRows
from lmsl.layers.fused.parts import runs_together
from lmsl.layers.quantize import NF4Linear
from tests.decoders import WINDOW, build
from tests.layers.block_tools import (
    QV,
    SETTINGS,
    WideNorm,
    assembled,
    assert_equal_results,
    assert_same_bits,
    compare,
    packed,
    sentences,
    step,
)
from tests.tagger.tagger_tools import CLASSES


@pytest.mark.parametrize(
    ("family", "quantize"), [*((family, "nf4") for family in FAMILIES), ("qwen2", "none")]
)
def test_families(family: str, quantize: str) -> None:
    """Mistral has a window shorter than a sentence, Qwen2 biases, Qwen3 norms over heads."""
    batch = packed(sentences([7, 1, 4], 1))
    assert int(batch.attention.max_seqlen) > WINDOW
    compare(batch, family, quantize=quantize)


@pytest.mark.parametrize("label_at", ["first", "mean"])
def test_every_place_where_words_are_read(label_at: LabelAt) -> None:
    """All others read the last sub-word."""
    compare(packed(sentences([3, 9, 1, 2])), label_at=label_at, resident="no")


@pytest.mark.parametrize(
    ("targets", "resident"),
    [(QV, "no"), (("all-linear",), "yes"), (("k_proj", "down_proj"), "no"), (("o_proj",), "yes")],
)
def test_three_runs_with_any_targets(targets: tuple[str, ...], resident: str) -> None:
    """Runs of other lengths, so that two of them hold filling, and of other seeds."""
    batch = packed(sentences([5, 3], 1), sentences([1], 2), sentences([2, 2, 6], 3))
    lora = replace(SETTINGS["lora"], targets=targets)
    compare(batch, seeds=(4, 5, 6), lora=lora, resident=resident)


@pytest.mark.parametrize("targets", [QV, ("o_proj",), ("attention",)])
def test_a_long_stack_goes_through_a_layer_in_parts(
    targets: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of two runs, the last of one; where no layer is adapted, of that many rows."""
    batch = packed(*(sentences([3, 2, 1], run) for run in range(5)))
    rows = batch.ids.shape[1] // 5
    monkeypatch.setattr(fused_parts, "CACHED_ROWS", 2 * rows)
    cuts = []

    def watched(states: torch.Tensor, runs: int) -> int:
        cuts.append((runs, together := runs_together(states, runs)))
        return together

    monkeypatch.setattr(fused_front, "runs_together", watched)
    monkeypatch.setattr(fused_tail, "runs_together", watched)
    lora = replace(SETTINGS["lora"], targets=targets)
    compare(batch, seeds=(4, 4, 5, 6, 6), lora=lora)
    assert (5, 2) in cuts
    assert ((5 * rows, 2 * rows) in cuts) == (targets != ("attention",))


def test_strings_that_differ_within_a_pack() -> None:
    batch = packed(sentences([5, 3], 1), sentences([6, 2], 2))
    count = batch.attention.plan.sequences
    flags = torch.arange(4 * count).view(4, count) % 3 == 0
    batch = replace(batch, attention=replace(batch.attention, is_causal=flags))
    compare(batch, seeds=(4, 5))


@pytest.mark.parametrize("counts", [[0], [0, 2, 0]])
def test_hardly_any_words(counts: list[int]) -> None:
    """A sequence without words still has a token, and a run may have no sequence at all."""
    batch = packed(sentences(counts), sentences([]))
    own, plain = (assembled(block=block, seeds=(1, 2)) for block in ("own", "plain"))
    mine, its = step(own, batch), step(plain, batch)
    torch.testing.assert_close(mine.logits, its.logits, rtol=1e-5, atol=1e-5)
    assert mine.logits.shape == (2, sum(counts), CLASSES)
    torch.testing.assert_close(mine.grads, its.grads, rtol=1e-4, atol=1e-5)


def test_dense_float64_is_tight() -> None:
    batch = packed(sentences([7, 2, 5]))
    both = [assembled(block=block, quantize="none") for block in ("own", "plain")]
    for found in both:
        found.tagger.double()
        found.tagger.head.float()
        # transformers' norms compute in float32 whatever they are given; these do not.
        for name, module in list(found.tagger.decoder.named_modules()):
            if "norm" in name.rpartition(".")[2]:
                parent, _, leaf = name.rpartition(".")
                own = WideNorm(module.weight, module.variance_epsilon)
                setattr(found.tagger.decoder.get_submodule(parent), leaf, own)
    # With modules exchanged the block is made anew.
    both[0].tagger.block = build_block(both[0].tagger.decoder)
    mine = step(both[0], batch)
    assert mine.grads["decoder.layers.0.self_attn.q_proj.lora_A"].dtype == torch.float64
    # The head is in float32 by design, and with it everything that comes back from it.
    assert_equal_results(mine, step(both[1], batch), 2e-6)


def test_autocast_computes_as_the_plain_path_does() -> None:
    """bfloat16 on CPU: NF4 products in float32, adapters in bfloat16, results in bfloat16."""
    batch = packed(sentences([7, 2, 5]))
    found = {}
    for block in ("own", "plain"):
        tagger = assembled(block=block, changes={"initializer_range": 0.1}, dtype=torch.bfloat16)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found[block] = step(tagger, batch)
    assert found["own"].grads["decoder.layers.0.self_attn.q_proj.lora_A"].dtype == torch.float32
    assert_equal_results(found["own"], found["plain"], 0.1)
    for name, grad in found["own"].grads.items():
        other = found["plain"].grads[name]
        assert torch.nn.functional.cosine_similarity(grad.flatten(), other.flatten(), 0) > 0.995


def test_masks_are_those_of_the_plain_path() -> None:
    """With dropout a wrong mask is a wrong number everywhere; with another step all differ."""
    batch = packed(sentences([6, 4]))
    own = assembled()
    first, again, other = step(own, batch), step(own, batch), step(own, batch, number=4)
    assert_same_bits(first, again)
    assert not torch.allclose(first.logits, other.logits)
    own.tagger.eval()
    assert not torch.allclose(first.logits, step(own, batch).logits)


@pytest.mark.parametrize(("targets", "layers"), [(QV, 2), (("all-linear",), 1)])
def test_neither_recomputing_nor_dequantising_anew_changes_a_bit(
    targets: tuple[str, ...], layers: int
) -> None:
    batch = packed(sentences([6, 4, 2]))
    lora = replace(SETTINGS["lora"], targets=targets)
    kept, recomputed = assembled(lora=lora), assembled(lora=lora)
    recomputed.tagger.recompute(layers)
    one = step(kept, batch)
    assert_same_bits(step(recomputed, batch), one)
    assert_same_bits(step(assembled(lora=lora, resident="no"), batch), one)


@pytest.mark.parametrize("quantize", ["nf4", "none"])
def test_frozen_weights_are_kept_once(quantize: str) -> None:
    """Joined weights are views: the decoder alone computes as before, from the same memory."""
    found = assembled(quantize=quantize)
    layer = found.tagger.decoder.layers[1]
    parts = [layer.self_attn.q_proj.base, layer.self_attn.k_proj, layer.self_attn.v_proj.base]
    held = [part.resident if quantize == "nf4" else part.weight for part in parts]
    assert len({part.untyped_storage().data_ptr() for part in held}) == 1
    assert held[0].untyped_storage().nbytes() == sum(part.nbytes for part in held)
    if quantize == "nf4":
        assert all(torch.equal(part.resident, part.dequantize()) for part in parts)
    assert not any(part.requires_grad for part in held)


def test_weights_loaded_later_are_the_ones_used() -> None:
    """``load_state_dict`` gives layers new memory; the joint matrix must not live on."""
    batch = packed(sentences([6, 4]))
    own, plain, source = assembled(), assembled(block="plain"), build("llama")
    with torch.no_grad():
        for layer in source.layers:
            layer.self_attn.k_proj.weight.mul_(-1)
    for found in (own, plain):
        for mine, its in zip(found.tagger.decoder.layers, source.layers, strict=True):
            state = NF4Linear.from_linear(its.self_attn.k_proj, resident=False).state_dict()
            mine.self_attn.k_proj.load_state_dict(state)
    before = step(assembled(), batch)
    assert_equal_results(step(own, batch), step(plain, batch))
    assert not torch.allclose(before.logits, step(own, batch).logits)


def test_an_input_that_needs_no_gradient_gets_none() -> None:
    found = assembled()
    found.clock.set(step=0, token_offset=(0,), word_offset=(0,))
    batch = packed(sentences([3]))
    hidden, places = found.tagger.block.begin(batch.ids, batch.positions, batch.attention)
    assert not hidden.requires_grad
    rows = ReadRows(index=torch.tensor([1, 3]), tokens=len(hidden))
    out = found.tagger.block.layers[0](hidden, places, rows)
    assert out.shape == (2, 32) and out.requires_grad
    out.sum().backward()
    assert hidden.grad is None


def test_attention_dropout_is_refused_as_everywhere() -> None:
    found = assembled(changes={"attention_dropout": 0.1})
    batch = packed(sentences([3]))
    with pytest.raises(InputError, match=r"expected no attention dropout, got 0\.1"):
        step(found, batch)
    assert found.tagger.eval()(batch).shape == (1, 3, CLASSES)
