"""A decoder, or an encoder, with adapters and heads for a stack of runs.

The decoder is transformers' own, without a task head. What is ours: the mask (``lmsl.unmask``),
the frozen NF4 linears, LoRA, the classifiers and, where the decoder's layers are Llama-shaped, the
forward (``lmsl.layers.fused.block``). Hidden states are read at words only.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lmsl.config.choices import LabelAt
from lmsl.layers.fused.block import Block, Observe
from lmsl.layers.fused.linear import ReadRows
from lmsl.layers.head import Head
from lmsl.layers.lora import stacked_layers
from lmsl.mask.bits import Bits
from lmsl.mask.decoder import decoder_blocks
from lmsl.packs.examples import Example
from lmsl.packs.packing import Pack
from lmsl.tagger.calling import Calling
from lmsl.tagger.mixture import Mixture


class Tagger(nn.Module):
    """A decoder whose words are read and classified, for R runs at once.

    Args:
        decoder: a decoder that ``lmsl.unmask`` and ``lmsl.layers.lora.add_lora`` have worked on.
        head: the classifiers of the same runs, or what a language model has in their place.
        label_at: which hidden state of a word is read.
        block: a forward of ours over the same decoder; None goes through transformers' own.
        bits: which layers each run unmasks; None where all runs agree.
        mixture: the strings of which each sentence of the only run draws one.
        calling: how transformers' own forward is called.
    """

    def __init__(
        self,
        decoder: nn.Module,
        head: Head,
        label_at: LabelAt,
        block: Block | None = None,
        bits: Bits | None = None,
        mixture: Mixture | None = None,
        calling: Calling | None = None,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.head = head
        self.label_at = label_at
        self.block = block
        self._bits = bits
        self.mixture = mixture
        self.calling = calling or Calling()
        self.recomputed = 0

    @property
    def bits(self) -> Bits | None:
        """Which layers each run unmasks, for its packs; None where the layers say it."""
        return self._bits

    def keep(self, runs: Sequence[int]) -> None:
        """Leave only these runs of the stack; the trained parameters are new ones."""
        for layer in stacked_layers(self.decoder).values():
            layer.keep(runs)
        self.head.keep(runs)
        if self._bits is not None:
            # Also where those left agree: the layers' own flags say nothing in this stack.
            self._bits = [self._bits[run] for run in runs]

    @property
    def depth(self) -> int:
        """Layers of the decoder."""
        return len(decoder_blocks(self.decoder)[1])

    def recompute(self, layers: int) -> None:
        """Let the first so many layers compute their activations again in the backward.

        transformers' own forward knows only all of them or none.
        """
        self.recomputed = layers
        if self.block is not None:
            self.block.recomputed = layers
        elif layers:
            assert layers == self.depth
            _recompute_all(self.decoder)

    def forward(self, pack: Pack, observe: Observe | None = None) -> torch.Tensor:
        """Logits [R, W_cap, classes], float32; ``observe`` sees what each layer gives out."""
        logits: torch.Tensor = self.head(self._words(pack, observe))
        return logits

    def drawn(self, examples: Sequence[Sequence[Example]], step: int | None) -> Bits | None:
        """Which layers each example of the only run unmasks; None where strings are not drawn.

        Args:
            step: of the update, from 0; None is evaluation.
        """
        return None if self.mixture is None else self.mixture.of(examples[0], step)

    def _words(self, pack: Pack, observe: Observe | None) -> torch.Tensor:
        """The hidden states of all words, [R, W_cap, hidden]."""
        read = None
        if self.block is None:
            with self.calling.observed(self.decoder, pack, observe):
                hidden = self.calling.hidden(self.decoder, pack)
        else:
            read = read_rows(pack, self.label_at)
            hidden = self.block(pack.ids, pack.positions, pack.attention, read, observe)
        rows = hidden.view(pack.runs, hidden.shape[-2] // pack.runs, hidden.shape[-1])
        return read_words(rows, pack, self.label_at) if read is None else rows


def _recompute_all(decoder: Any) -> None:
    # Newer versions of transformers warn of the old name, older ones do not have the new one.
    names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
    enable = next(getattr(decoder, name) for name in names if hasattr(decoder, name))
    enable({"use_reentrant": False})
    # Without it no gradient would reach the first layers: their input needs none.
    decoder.enable_input_require_grads()


def read_rows(pack: Pack, label_at: LabelAt) -> ReadRows | None:
    """The rows of the pack where words are read; None where nearly all are."""
    if label_at == "mean":
        return None
    tokens = pack.ids.shape[1] // pack.runs
    places = pack.starts if label_at == "first" else pack.ends - 1
    firsts = tokens * torch.arange(pack.runs, device=places.device)
    return ReadRows(index=(places + firsts.unsqueeze(1)).flatten(), tokens=tokens)


def read_words(hidden: torch.Tensor, pack: Pack, label_at: LabelAt) -> torch.Tensor:
    """Hidden states of the words: [R, T_cap, hidden] to [R, W_cap, hidden].

    The mean is a difference of running sums, in float64 so that long packs lose nothing.
    """
    width = hidden.shape[-1]

    def at(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return states.gather(1, positions.unsqueeze(-1).expand(-1, -1, width))

    if label_at == "first":
        return at(hidden, pack.starts)
    if label_at == "last":
        return at(hidden, pack.ends - 1)
    sums = nn.functional.pad(hidden.double().cumsum(1), (0, 0, 1, 0))
    counts = (pack.ends - pack.starts).unsqueeze(-1)
    return ((at(sums, pack.ends) - at(sums, pack.starts)) / counts).to(hidden.dtype)
