"""A tagger on a tiny random Llama, and sentences for it, put together piece by piece."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

import lmsl
from lmsl.config.choices import LabelAt
from lmsl.data.tags.vocabulary import IGNORED_ID
from lmsl.layers.dropout import DropoutClock
from lmsl.layers.head import StackedHead
from lmsl.layers.lora import RunParameters, add_lora, trainable_parameters
from lmsl.packs.examples import Example
from lmsl.tagger.tagger import Tagger
from lmsl.training.loop import Task
from tests.decoders import VOCABULARY, build

CPU = torch.device("cpu")
CLASSES = 5


@dataclass(frozen=True, kw_only=True)
class Built:
    """A tagger and what training it needs."""

    tagger: Tagger
    clock: DropoutClock
    parameters: RunParameters

    def weights(self, run: int = 0) -> dict[str, torch.Tensor]:
        return {name: view.detach().clone() for name, view in self.parameters.views[run].items()}


def build_tagger(
    seeds: Sequence[int] = (1,),
    *,
    string: str = "01",
    label_at: LabelAt = "last",
    dropout: float = 0.1,
) -> Built:
    """Adapters whose B is not zero, so that they matter from the first step on."""
    decoder = build("llama", num_hidden_layers=2)
    lmsl.unmask(decoder, string)
    clock = DropoutClock(seeds=tuple(seeds))
    add_lora(
        decoder,
        targets=["q_proj", "v_proj"],
        rank=3,
        alpha=6,
        dropout=dropout,
        seeds=seeds,
        clock=clock,
    )
    for name, parameter in decoder.named_parameters():
        if name.endswith("lora_B"):
            for run, seed in enumerate(seeds):
                generator = torch.Generator().manual_seed(seed)
                parameter.data[run].normal_(std=0.1, generator=generator)
    head = StackedHead(hidden=32, classes=CLASSES, dropout=dropout, seeds=seeds, clock=clock)
    tagger = Tagger(decoder, head, label_at)
    parameters = RunParameters(trainable_parameters(tagger), len(seeds))
    return Built(tagger=tagger, clock=clock, parameters=parameters)


def example(
    words: Sequence[int], *, sentence: int = 0, first_word: int = 0, seed: int = 0
) -> Example:
    """One sequence: a token in front, then words of the given numbers of sub-words."""
    edges = 1 + np.cumsum([0, *words])
    ids = np.random.default_rng([seed, sentence]).integers(3, VOCABULARY, edges[-1])
    return Example(
        ids=ids.astype(np.int32),
        sentence=sentence,
        first_word=first_word,
        starts=edges[:-1].astype(np.int32),
        ends=edges[1:].astype(np.int32),
    )


def build_task(sentences: int, *, seed: int = 0, ignored: float = 0.2) -> Task:
    """Sentences of 1 to 7 words, some of them without a label."""
    rng = np.random.default_rng([seed, sentences])
    examples, labels = [], []
    for index in range(sentences):
        sizes = rng.integers(1, 4, rng.integers(1, 8)).tolist()
        examples.append([example(sizes, sentence=index, seed=seed)])
        drawn = rng.integers(0, CLASSES, len(sizes))
        labels.append(np.where(rng.random(len(sizes)) < ignored, IGNORED_ID, drawn).tolist())
    names = [f"train.conll:{10 * index + 1}" for index in range(sentences)]
    return Task(examples=examples, labels=labels, names=names)
