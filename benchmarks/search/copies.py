"""What repetition and early exit cost: tokens and multiply-adds of an update, counted, not timed.

    python -m benchmarks.search.copies
    python -m benchmarks.search.copies --model shape:llama-2-7b --data lengths:conll2003

With ``--repeat K`` a sequence of n sub-words becomes (K+1) n tokens. For T tokens in sequences
that see P pairs (m (m+1) / 2 of m tokens under the causal mask, m^2 without), forward and backward
together take in every layer

    2 T frozen weights + 3 T adapter weights + 6 P heads head_dim

multiply-adds: a frozen weight is used forward and back to the input, an adapter's also for its own
gradient; queries with keys and probabilities with values are each one product forward and two
back. Left out are the head, everything element by element, attention's own windows, recomputing,
and what is saved by not going back into the first layer's input and by computing read words alone
behind the last layer's attention.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.shared.flags import at_least, command
from benchmarks.shared.labelled import CONLL2000, labelled, prepare
from benchmarks.shared.lengths import lengths_of
from benchmarks.shared.record import table
from benchmarks.shared.shapes import base_of
from lmsl.config.config import Config
from lmsl.config.ranges import check_range
from lmsl.errors import InputError
from lmsl.layers.fused.triton_ops import head_dim_of
from lmsl.layers.linears import decoder_matrices
from lmsl.layers.quantize import NF4Linear
from lmsl.layers.targets import chosen_layers
from lmsl.mask.bits import layer_bits
from lmsl.mask.decoder import decoder_blocks
from lmsl.packs.alignment import Aligner
from lmsl.packs.examples import build_examples
from lmsl.tagger.base import Base


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is counted."""

    model: str = "tiny"
    """Hub id or folder of a decoder, `tiny`, or `shape:NAME`."""
    data: str = str(CONLL2000 / "train.txt")
    """A labelled file, `synthetic`, or `lengths:NAME`."""
    unmask: str = "0011"
    """Which layers see both sides."""
    repeats: tuple[int, ...] = (0, 1, 2)
    """Values of --repeat."""
    layers: tuple[int, ...] = ()
    """Values of --exit-layer; by default the whole model, three quarters and half of it."""
    batch_size: int = 8
    """Sentences of an update."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one update on average: tokens and multiply-adds."""

    tokens: float
    frozen: float
    adapters: float
    attention: float

    @property
    def work(self) -> float:
        return self.frozen + self.adapters + self.attention


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a decoder has in each of its layers."""

    frozen: Sequence[int]
    """Weights of the linear layers."""
    adapters: Sequence[int]
    """Weights of their adapters."""
    features: int
    """Heads times the features of one."""


def run(settings: Settings) -> None:
    """Count and print."""
    at_least(settings, batch_size=1)
    prepare(None)
    config = Config(unmask=(settings.unmask,))
    base = base_of(settings.model, torch.device("meta"), torch.bfloat16)
    depth = base.depth
    layers = settings.layers or (depth, depth * 3 // 4, depth // 2)
    for repeat in settings.repeats:
        check_range("--repeats", "repeat", repeat)
    for kept in layers:
        if not 1 <= kept <= depth:
            raise InputError(f"--layers: expected numbers from 1 to {depth}, got {kept}")
    sequences, sentences = lengths(settings, base, config)
    shape, whole = shape_of(base.decoder, config), layer_bits(settings.unmask, depth)
    costs = {
        (repeat, kept): cost(
            shape,
            whole[:kept],
            sequences,
            copies=repeat + 1,
            share=settings.batch_size / sentences,
        )
        for kept in layers
        for repeat in settings.repeats
    }
    print(f"{settings.model}, unmask {settings.unmask}, {settings.batch_size} sentences an update")
    print(_table(costs))


def lengths(settings: Settings, base: Base, config: Config) -> tuple[Mapping[int, int], int]:
    """Of a single copy, how many sequences are how long; and of how many sentences they are."""
    known = lengths_of(settings.data, settings.model)
    if known is not None:
        return known.sentences, known.count
    data = labelled(settings.data, "train", None)
    built = build_examples(
        data.sentences,
        Aligner(base.tokenizer),
        max_length=config.max_length,
        overflow=config.overflow,
    )
    return Counter(len(example.ids) for example in built.examples), len(data.sentences)


def shape_of(decoder: Any, config: Config) -> Shape:
    """Of a decoder as loaded, with the adapters of a configuration."""
    prefix, blocks = decoder_blocks(decoder)
    linear: dict[str, Any] = {
        name: module for name, module, why in decoder_matrices(decoder, NF4Linear) if why is None
    }
    frozen, adapters = [0] * len(blocks), [0] * len(blocks)
    adapted = chosen_layers(decoder, config.lora_targets)
    for name, module in linear.items():
        place = int(name.removeprefix(prefix).lstrip(".").partition(".")[0])
        rows, columns = module.weight.shape
        frozen[place] += rows * columns
        adapters[place] += config.lora_rank * (rows + columns) * (name in adapted)
    text = decoder.config.get_text_config()
    features = text.num_attention_heads * head_dim_of(text)
    return Shape(frozen=frozen, adapters=adapters, features=features)


def cost(
    shape: Shape, bits: Sequence[bool], sequences: Mapping[int, int], *, copies: int, share: float
) -> Cost:
    """Of a string of one bit for each layer that is kept.

    Args:
        sequences: how many are how long in sub-words, of a single copy.
        share: of them, an update.
    """
    tokens = causal = both = 0
    for size, count in sequences.items():
        long = copies * size
        tokens += count * long
        causal += count * long * (long + 1) // 2
        both += count * long * long
    pairs = sum(both if bit else causal for bit in bits)
    kept = len(bits)
    return Cost(
        tokens=share * tokens,
        frozen=share * 2 * tokens * sum(shape.frozen[:kept]),
        adapters=share * 3 * tokens * sum(shape.adapters[:kept]),
        attention=share * 6 * shape.features * pairs,
    )


def _table(costs: Mapping[tuple[int, int], Cost]) -> str:
    first = next(iter(costs.values()))
    rows = [
        (
            f"{kept} layers, {repeat} extra copies",
            f"{own.tokens:,.0f}",
            f"{own.tokens / first.tokens:.2f}",
            f"{100 * own.attention / own.work:.1f} %",
            f"{own.work / first.work:.2f}",
        )
        for (repeat, kept), own in costs.items()
    ]
    return table(("", "tokens", "ratio", "attention", "work, ratio"), rows)


main = command(Settings, run, "benchmarks.search.copies")

if __name__ == "__main__":
    sys.exit(main())
