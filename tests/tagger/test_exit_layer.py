"""Early exit against its definition: the first layers of the whole model, then its last norm."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lmsl
from lmsl.config.choices import LoRA
from lmsl.data.tags.sentence import Sentence
from lmsl.mask.bits import layer_bits
from lmsl.mask.decoder import decoder_blocks
from lmsl.packs.alignment import Aligner
from lmsl.packs.examples import build_examples
from lmsl.packs.packing import pack
from lmsl.tagger.base import load_base, load_tokenizer
from tests.decoders import ALL_STRINGS, FAMILIES, Explicit, batch, build, use_oracle
from tests.layers.block_tools import assembled, step
from tests.tagger.by_hand import ByHand, assert_run, of_run, text_of
from tests.tagger.tagger_tools import CLASSES, CPU

TEXTS = ("Zoë 's ☕ costs 1,234 € .", "x", "Ada Lovelace met Babbage")
LORA = LoRA(rank=3, alpha=6.0, dropout=0.0, targets=("q_proj", "v_proj"))
BLOCKS = ("own", "plain")
LAST_NORMS = ("norm", "ln_f", "final_layer_norm", "final_norm")


def saved(folder: Path, family: str, **changes: Any) -> str:
    """A whole decoder with a tokenizer, as a folder."""
    build(family, **changes).save_pretrained(folder)
    load_tokenizer("tiny").save_pretrained(folder)
    return str(folder)


def compare(
    folder: Path, family: str, string: str, block: str, layers: int, repeat: int = 0
) -> None:
    """One training step on a pack, by the cut model and by hand from the whole one."""
    changes = {"vocab_size": 2048}
    base = load_base(saved(folder, family, **changes), exit_layer=layers)
    assert base.depth == 4 and len(base.decoder.layers) == layers
    found = assembled(
        block=block, base=base, string=string, lora=LORA, head_dropout=0.0, quantize="none"
    )
    assert (found.tagger.block is not None) == (block == "own")
    sentences = [Sentence(words=tuple(text.split()), tags=None) for text in TEXTS]
    labels = [[word % CLASSES for word in range(len(each.words))] for each in sentences]
    examples = build_examples(
        sentences, Aligner(base.tokenizer), max_length=100, overflow="error", repeat=repeat
    ).examples
    ours = step(found, pack([examples], [labels], CPU))
    by_hand = ByHand(
        decoder=build(family, **changes),
        layers=layers,
        copies=repeat + 1,
        label_at="last",
        scale=LORA.alpha / LORA.rank,
    )
    pairs = zip(sentences, labels, strict=True)
    texts = [text_of(base.tokenizer, each.words, own) for each, own in pairs]
    assert_run(ours, 0, by_hand.result(texts, layer_bits(string, 4), of_run(found, 0)))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    ("family", "string", "layers", "repeat"),
    [
        ("llama", "0110", 3, 0),
        ("llama", "0111", 1, 0),
        ("llama", "1100", 4, 0),
        ("mistral", "0011", 3, 1),
        ("qwen3", "1010", 2, 2),
    ],
)
def test_a_training_step(
    family: str, string: str, layers: int, repeat: int, block: str, tmp_path: Path
) -> None:
    compare(tmp_path, family, string, block, layers, repeat)


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("string", ALL_STRINGS)
def test_every_string(string: str, layers: int, block: str, tmp_path: Path) -> None:
    compare(tmp_path, "llama", string, block, layers)


@pytest.mark.drift
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family: str, tmp_path: Path) -> None:
    """Layers of one model may differ in kind, and what follows the last has many names."""
    data = batch([11, 6], "right")
    cut = load_base(saved(tmp_path, family), exit_layer=3).decoder.eval()
    lmsl.unmask(cut, "010")
    whole = build(family)
    use_oracle(whole)
    layers = decoder_blocks(whole)[1]
    (norm,) = (m for n, m in whole.named_children() if n in LAST_NORMS)
    explicit = Explicit((False, True, False, False), data.attention_mask)
    with torch.no_grad():
        found = cut(**data.padded, use_cache=False).last_hidden_state
        behind = output_of(layers[2], whole, **data.padded, explicit=explicit, use_cache=False)
        expected = norm(behind)
    torch.testing.assert_close(data.real(found), data.real(expected), rtol=2e-5, atol=2e-5)


def output_of(layer: nn.Module, model: Any, **inputs: Any) -> torch.Tensor:
    """What a layer gives out while the whole model runs."""
    seen: list[torch.Tensor] = []

    def keep(module: nn.Module, given: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    hook = layer.register_forward_hook(keep)
    model(**inputs)
    hook.remove()
    return seen[0]
