"""What both halves of part j share: a random model and sentences, and how replays are judged."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_check.scope import Scope
from lmsl.config.choices import LoRA
from lmsl.layers.lora import stacked_layers
from lmsl.mask.bits import layer_bits
from lmsl.packs.examples import Example
from lmsl.tagger.assemble import Operators, Storage, Trained, assemble
from lmsl.tagger.base import Base
from lmsl.tagger.graphs import CudaGraphs, Reruns

CLASSES, VOCABULARY = 9, 256
SENTENCES = 16
# Of the norm of what it should be. Batches of another size are multiplied by other kernels, and
# every layer rounds to 8 bits; that filling is seen by nobody is proven in float32, on a CPU.
TOLERANCE = {
    ("filled", torch.float32): 1e-4,
    ("as_it_is", torch.float32): 1e-4,
    ("filled", torch.bfloat16): 5e-2,
    ("as_it_is", torch.bfloat16): 0.15,
}


def dtype_of(scope: Scope) -> torch.dtype:
    return torch.bfloat16 if scope.cuda else torch.float32


def autocast_of(scope: Scope) -> torch.dtype | None:
    return torch.bfloat16 if scope.cuda else None


def graphs_of(scope: Scope) -> Any:
    """CUDA graphs; elsewhere the work itself once more over the same memory."""
    return CudaGraphs(scope.device) if scope.cuda else Reruns()


class Alike:
    """Holds replays against eager results; counts and the worst go into ``figures``."""

    def __init__(self, figures: dict[str, Any], scope: Scope) -> None:
        figures |= {"batches": 0, "bitwise_equal": 0, "of_allowed": 0.0}
        self.faults: list[str] = []
        self._figures, self._dtype = figures, dtype_of(scope)

    def compare(self, what: str, replayed: Sequence[Tensor], **expected: Sequence[Tensor]) -> None:
        """Results of one replay and, by how the batch was laid out, of eager computation."""
        self._figures["batches"] += 1
        equal = all(map(torch.equal, replayed, expected["filled"]))
        self._figures["bitwise_equal"] += equal
        for against, results in expected.items():
            errors = [
                float((mine - its).norm() / its.norm())
                for mine, its in zip(replayed, results, strict=True)
            ]
            # Written so that a NaN does not pass.
            allowed = TOLERANCE[against, self._dtype]
            if any(not error <= allowed for error in errors):
                self.faults.append(f"{what}, {against}: a replay is off by {max(errors):.1e}")
            else:
                worst = max(self._figures["of_allowed"], max(errors) / allowed)
                self._figures["of_allowed"] = worst


def milliseconds(work: Callable[[], object], scope: Scope, *, parts: int) -> dict[str, float]:
    """Of one of the ``parts`` of a work, on the host's clock."""
    work()
    found = []
    for _ in range(1 if scope.toy else 5):
        began = time.perf_counter()
        work()
        found.append(1e3 * (time.perf_counter() - began) / parts)
    return {"median": median(found), "lowest": min(found), "highest": max(found)}


def random_tagger(scope: Scope) -> Any:
    """A random decoder as ``lmsl train`` puts it together, with adapters that matter."""
    from transformers import AutoModel, LlamaConfig

    dtype = dtype_of(scope)
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
        bits=[layer_bits("0011", layers)],
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
