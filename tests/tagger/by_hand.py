"""A tagger by its definition, to compare the one under test with.

Every sequence is a forward of its own through transformers' eager attention under explicit masks,
the adapters are added to the weights they belong to, and copies are put together from what the
tokenizer says of the text. Nothing of it is shared with packs, examples or either forward of ours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lmsl.data.tags.vocabulary import IGNORED_ID
from lmsl.layers.lora import trainable_parameters
from lmsl.tagger.assemble import Assembled
from tests.decoders import Explicit, use_oracle
from tests.layers.block_tools import Result, assert_equal_results


@dataclass(frozen=True, kw_only=True)
class Text:
    """What one sequence says: ids of a single copy, and the ranges of the words that are read."""

    ids: list[int]
    words: list[tuple[int, int]]
    labels: list[int]


def text_of(
    tokenizer: Any,
    words: Sequence[str],
    labels: Sequence[int],
    read: slice = slice(None),
) -> Text:
    """Words as the tokenizer itself lays them out, of which some are read.

    Args:
        labels: of the words that are read.
    """
    encoded = tokenizer(" ".join(words), return_offsets_mapping=True, split_special_tokens=True)
    ranges, start = [], 0
    for word in words:
        end = start + len(word)
        # The space before a word is the word's; special tokens end at character 0.
        space = max(0, start - 1)
        own = [i for i, (_, to) in enumerate(encoded["offset_mapping"]) if space < to <= end]
        assert own == list(range(own[0], own[-1] + 1))
        ranges.append((own[0], own[-1] + 1))
        start = end + 1
    assert len(ranges[read]) == len(labels)
    return Text(ids=encoded["input_ids"], words=ranges[read], labels=list(labels))


class FirstLayers(nn.Module):
    """The first layers of a Llama-shaped decoder, one after the other, and its last norm."""

    def __init__(self, decoder: Any, layers: int) -> None:
        super().__init__()
        self.decoder, self.count = decoder, layers

    def forward(self, input_ids: Tensor, position_ids: Tensor, explicit: Explicit) -> Tensor:
        hidden = self.decoder.embed_tokens(input_ids)
        rotation = self.decoder.rotary_emb(hidden, position_ids)
        for layer in self.decoder.layers[: self.count]:
            hidden = layer(
                hidden,
                attention_mask=None,
                position_ids=position_ids,
                position_embeddings=rotation,
                explicit=explicit,
            )
        return self.decoder.norm(hidden)


class Whole(nn.Module):
    """All of a decoder by its own forward."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, **inputs: Any) -> Tensor:
        states: Tensor = self.decoder(**inputs, use_cache=False).last_hidden_state
        return states


@dataclass(frozen=True, kw_only=True)
class ByHand:
    """What is computed by definition.

    Args:
        decoder: dense and without adapters; its attention is exchanged for the oracle's.
        layers: how many of its layers are kept; None is all, by its own forward.
        copies: of a text, one after another, positions running on; the last is read.
        scale: of the adapters.
    """

    decoder: Any
    layers: int | None
    copies: int
    label_at: str
    scale: float

    def __post_init__(self) -> None:
        use_oracle(self.decoder)

    def result(
        self, texts: Sequence[Text], bits: Sequence[bool], trained: dict[str, Tensor]
    ) -> Result:
        """One training step of one run on some texts; ``trained`` are its adapters and head."""
        leaves = {name: own.detach().clone().requires_grad_() for name, own in trained.items()}
        logits = torch.cat([self.logits(text, bits, leaves) for text in texts])
        labels = torch.tensor([label for text in texts for label in text.labels])
        chosen = labels != IGNORED_ID
        right = logits.log_softmax(-1)[chosen].gather(1, labels[chosen, None])
        loss = -right.sum()
        grads = torch.autograd.grad(loss, list(leaves.values()))
        return Result(
            logits=logits.detach(),
            losses=loss.detach()[None],
            grads=dict(zip(leaves, grads, strict=True)),
        )

    def logits(self, text: Text, bits: Sequence[bool], leaves: dict[str, Tensor]) -> Tensor:
        """[words, classes] of the words that are read."""
        ids = torch.tensor([text.ids * self.copies])
        given = {
            "input_ids": ids,
            "position_ids": torch.arange(ids.shape[1])[None],
            "explicit": Explicit(tuple(bits), torch.ones_like(ids)),
        }
        model = Whole(self.decoder)
        if self.layers is not None:
            model = FirstLayers(self.decoder, self.layers)
        hidden = functional_call(model, dict(self._weights(leaves)), kwargs=given)[0]
        before = len(text.ids) * (self.copies - 1)
        spans = [hidden[before + start : before + end] for start, end in text.words]
        place = {
            "first": lambda own: own[0],
            "last": lambda own: own[-1],
            "mean": lambda own: own.mean(0),
        }[self.label_at]
        read = torch.stack([place(own) for own in spans])
        return read @ leaves["head.weight"].T + leaves["head.bias"]

    def _weights(self, leaves: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        dense = {f"decoder.{n}": p.detach() for n, p in self.decoder.named_parameters()}
        for name, first in leaves.items():
            layer, _, kind = name.rpartition(".")
            if kind == "lora_A":
                change = self.scale * leaves[f"{layer}.lora_B"] @ first
                yield f"{layer}.weight", dense[f"{layer}.weight"] + change


def of_run(found: Assembled, run: int) -> dict[str, Tensor]:
    """The trained parameters of one run of a stack."""
    return {n: p.detach()[run] for n, p in trainable_parameters(found.tagger).items()}


def assert_run(ours: Result, run: int, expected: Result) -> None:
    """One run of a stack against what it is by definition; filling is left out."""
    words = len(expected.logits)
    own = Result(
        logits=ours.logits[run, :words],
        losses=ours.losses[run : run + 1],
        grads={name: grad[run] for name, grad in ours.grads.items()},
    )
    assert_equal_results(own, expected)
