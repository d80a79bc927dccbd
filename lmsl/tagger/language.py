"""The base of a run as the language model that it was, adapted or not, under any mask.

Nothing is loaded twice: adapters are switched off where they sit, and masks are flags. Whatever
the state, it is measured that every layer does what its bit says. Forwards are transformers' own,
packed: whatever a model does to its logits is done. There is no cache of keys and values. Under an
unmasked string there can be none: each further token changes the states of all before it.

Shapes: V entries of the vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lmsl.errors import InputError
from lmsl.layers.lora import without_adapters
from lmsl.mask.attention import no_mask
from lmsl.mask.probing import undisturbed, verify
from lmsl.mask.unmasking import flagged
from lmsl.packs.alignment import Ints
from lmsl.packs.examples import Example
from lmsl.packs.packing import pack, under_budget
from lmsl.tagger.tagger import read_rows

_LOGITS = 1 << 27
"""Most logits at once: half a GiB in float32."""


class LanguageModel:
    """A causal language model of transformers whose decoder is that of a run.

    Args:
        model: with adapters and flags of ``lmsl``, on its device.
        autocast: what forwards compute in, None for float32.
        budget: most tokens of a forward.
    """

    def __init__(
        self, model: Any, device: torch.device, autocast: torch.dtype | None, budget: int
    ) -> None:
        self._model, self._device, self._autocast = model, device, autocast
        self._budget = budget

    @contextmanager
    def state(self, bits: Sequence[bool], *, adapted: bool) -> Iterator[None]:
        """Inside, these layers are unmasked, and adapters are on or off.

        Raises:
            InputError: a layer, measured, does not do what its bit says.
        """
        adapters = nullcontext() if adapted else without_adapters(self._model)
        with flagged(self._model, bits), adapters, undisturbed(self._model):
            verify(self._model, bits)
            yield

    def losses(self, examples: Sequence[Example], targets: Sequence[Ints]) -> NDArray[np.float64]:
        """-log p, in nats, of the target token at each place that the examples read, in order."""
        most = max(1, _LOGITS // self._model.config.get_text_config().vocab_size)
        # Prefixes are long and read at one place; of windows nearly every token has logits.
        few = sum(len(example.starts) for example in examples) <= most
        found, done = [], 0
        for group in under_budget(examples, self._budget if few else min(self._budget, most)):
            wanted = np.concatenate(targets[done : done + len(group)]).astype(np.int64)
            logits = self.logits(group)
            lost = F.cross_entropy(
                logits, torch.from_numpy(wanted).to(self._device), reduction="none"
            )
            found.append(lost.double().cpu().numpy())
            done += len(group)
        losses = np.concatenate(found or [np.zeros(0)])
        if not np.isfinite(losses).all():
            raise InputError("--perplexity: expected finite probabilities, got NaN or 0")
        return losses

    @torch.inference_mode()
    def logits(self, group: Sequence[Example]) -> Tensor:
        """Logits float32 [places, V] at the places that the examples read, in order."""
        batch = pack([group], None, self._device)
        read = read_rows(batch, "last")
        assert read is not None
        on = self._autocast is not None
        with torch.autocast(self._device.type, dtype=self._autocast, enabled=on):
            logits: Tensor = self._model(
                input_ids=batch.ids,
                position_ids=batch.positions,
                attention_mask=no_mask(self._device),
                use_cache=False,
                packed=batch.attention,
                logits_to_keep=read.index,
            ).logits[0]
        # Not every architecture leaves rows out when it is told to.
        kept = len(logits) == len(read.index)
        return (logits if kept else logits.index_select(0, read.index)).float()

    def greedy(
        self, prompts: Sequence[Example], tokens: int, ends: Sequence[int]
    ) -> list[list[int]]:
        """The most probable next token, again and again: ids behind each prompt.

        Args:
            tokens: how many, for each.
            ends: tokens after which a text is over.
        """
        written: list[list[int]] = [[] for _ in prompts]
        for _ in range(tokens):
            going = [i for i, own in enumerate(written) if not own or own[-1] not in ends]
            if not going:
                break
            grown = [_grown(prompts[i], written[i]) for i in going]
            chosen = [
                int(token)
                for group in under_budget(grown, self._budget)
                for token in self.logits(group).argmax(-1)
            ]
            for place, token in zip(going, chosen, strict=True):
                written[place].append(token)
        return written


def text_ends(model: Any) -> list[int]:
    """The tokens that end a text for a causal language model of transformers."""
    found = getattr(model.generation_config, "eos_token_id", None)
    return [] if found is None else [found] if isinstance(found, int) else list(found)


def _grown(prompt: Example, written: Sequence[int]) -> Example:
    """A prompt with what was written behind it, read at the end."""
    ids = np.concatenate([prompt.ids, np.asarray(written, dtype=np.int32)])
    last = np.array([len(ids) - 1], dtype=np.int32)
    return Example(ids=ids, sentence=0, first_word=0, starts=last, ends=last + 1)
