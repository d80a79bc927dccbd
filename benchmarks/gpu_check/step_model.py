"""The random model and the random sentences that are trained on and predicted for in part j of
``benchmarks.gpu_check``, and how far two ways to compute the same may be apart.
"""

from typing import Any

import numpy as np
import torch

from benchmarks.gpu_check.scope import Scope
from lmsl.config.choices import LoRA
from lmsl.layers.lora import stacked_layers
from lmsl.packs.examples import Example
from lmsl.tagger.assemble import Operators, Storage, Trained, assemble
from lmsl.tagger.base import Base

CLASSES, VOCABULARY = 9, 256
SENTENCES = 16
# Of the norm of what it should be. Batches of another size are multiplied by other kernels, and
# every layer rounds to 8 bits; that filling is seen by nobody is proven in float32, on a CPU.
TOLERANCE = {
    ("filled", torch.float32): 1e-4,
    ("as it is", torch.float32): 1e-4,
    ("filled", torch.bfloat16): 5e-2,
    ("as it is", torch.bfloat16): 0.15,
}


def random_tagger(scope: Scope, dtype: torch.dtype) -> Any:
    """A random decoder as ``lmsl train`` puts it together, with adapters that matter."""
    from transformers import AutoModel, LlamaConfig

    torch.manual_seed(0)
    hidden, layers, heads = (32, 4, 4) if scope.toy else (2048, 24, 16)
    shape = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
    )
    with torch.device(scope.device):
        decoder = AutoModel.from_config(shape, dtype=dtype).eval()
    found = assemble(
        Base(decoder=decoder, tokenizer=None, name="random", revision=None, depth=layers),
        string="0011",
        seeds=(1,),
        trained=Trained(
            classes=CLASSES,
            label_at="last",
            lora=LoRA(rank=16, alpha=32.0, dropout=0.1, targets=("attention",)),
            head_dropout=0.1,
        ),
        storage=Storage(quantize="none", resident="no", device=scope.device, dtype=dtype),
        operators=Operators(),
    )
    for layer in stacked_layers(found.tagger.decoder).values():
        torch.nn.init.normal_(layer.lora_B, std=0.02)
    found.tagger.train()
    return found


def random_sentences(scope: Scope, number: int) -> tuple[list[Example], list[list[int]]]:
    """Sentences with the lengths of news, one or two sub-words a word, and the labels of their
    words; drawn anew by number."""
    rng = np.random.default_rng(number)
    mean = 4 if scope.toy else 14
    examples, labels = [], []
    for sentence in range(3 if scope.toy else SENTENCES):
        words = 1 + min(60, int(rng.gamma(1.6, mean / 1.6)))
        edges = 1 + np.cumsum([0, *rng.integers(1, 3, words)])
        examples.append(
            Example(
                ids=rng.integers(0, VOCABULARY, edges[-1]).astype(np.int32),
                sentence=sentence,
                first_word=0,
                starts=edges[:-1].astype(np.int32),
                ends=edges[1:].astype(np.int32),
            )
        )
        labels.append(rng.integers(0, CLASSES, words).tolist())
    return examples, labels
