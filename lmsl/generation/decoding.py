"""Letting a language model answer: batches of questions through transformers' ``generate``.

Questions of similar length share a batch, padded on the left, the longest first. The layers are
those that were trained; attention is one of transformers' own while answers are written, since the
one of ours keeps nothing between calls. That both give the same logits, step by step over a cache,
is measured before it is relied on (`check_alike`). A model's own habits of decoding (penalties,
temperatures) are put aside: nothing but what a run says decides.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from lmsl.config.choices import Generation
from lmsl.console import Track
from lmsl.errors import InputError
from lmsl.generation.examples import Question
from lmsl.layers.fused.fit import ROUNDING
from lmsl.mask.attention import NAME
from lmsl.packs.examples import Example
from lmsl.packs.packing import pack
from lmsl.tagger.tagger import Tagger
from lmsl.wording import one_line

# What computes attention over a cache; the first that agrees with training.
_IMPLEMENTATIONS = ("sdpa", "eager")
# Sub-words of the two sequences that are compared.
_COMPARED = (7, 12)


@dataclass(frozen=True, kw_only=True)
class Written:
    """An answer as it was written."""

    ids: list[int]
    """Without what ended it."""
    truncated: bool
    """Whether it came to the most that it may have instead."""


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """A language model whose decoder a tagger has, and how it is run.

    Args:
        attention: of transformers, see `check_alike`.
        stops: ids that end an answer.
        pad: any id, for filling.
        tokens_per_batch: questions, answers and filling of a batch.
    """

    tagger: Tagger
    causal_lm: Any
    attention: str
    stops: tuple[int, ...]
    pad: int
    generation: Generation
    seed: int
    tokens_per_batch: int
    device: torch.device
    autocast: torch.dtype | None

    def answers(self, questions: Sequence[Question], track: Track | None = None) -> list[Written]:
        """In the order of the questions; drawn answers are those of the seed.

        Args:
            track: told of every batch.
        """
        groups = batches(questions, self.tokens_per_batch)
        if track is not None:
            track.total = len(groups)
        found: dict[int, Written] = {}
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), self._speaking():
            torch.manual_seed(self.seed)
            for group in groups:
                written = self._batch([questions[number] for number in group])
                found.update(zip(group, written, strict=True))
                if track is not None:
                    track.add()
        return [found[number] for number in range(len(questions))]

    @torch.inference_mode()
    def _batch(self, questions: Sequence[Question]) -> list[Written]:
        ids, mask = padded([question.ids for question in questions], self.pad, self.device)
        most = torch.tensor([question.most_new for question in questions], device=self.device)
        stop = _Stop(self.stops, ids.shape[1] + most)
        on = self.autocast is not None
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=on):
            rows = self.causal_lm.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=self._settings(int(most.max())),
                stopping_criteria=StoppingCriteriaList([stop]),
            )
        written = rows[:, ids.shape[1] :].tolist()
        return [self._cut(*pair) for pair in zip(written, most.tolist(), strict=True)]

    def _cut(self, row: list[int], most: int) -> Written:
        """What stands before the first id that ends an answer; other rows went on behind it."""
        row = row[:most]
        end = next((place for place, number in enumerate(row) if number in self.stops), None)
        return Written(ids=row[:end], truncated=end is None)

    def _settings(self, most: int) -> GenerationConfig:
        drawn = self.generation.decoding == "sample"
        how = {"temperature": self.generation.temperature, "top_p": self.generation.top_p}
        return GenerationConfig(
            max_new_tokens=most,
            do_sample=drawn,
            pad_token_id=self.pad,
            use_cache=True,
            **({**how, "top_k": 0} if drawn else {}),
        )

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        with speaking(self.tagger, self.causal_lm, self.attention):
            yield


class _Stop(StoppingCriteria):
    """A row is over at the first id that ends an answer, or at its own length."""

    def __init__(self, stops: Sequence[int], lengths: Tensor) -> None:
        self._stops = torch.tensor(stops, device=lengths.device)
        self._lengths = lengths

    def __call__(self, input_ids: Any, scores: Any, **others: Any) -> Any:
        ended = torch.isin(input_ids[:, -1], self._stops)
        return ended | (input_ids.shape[1] >= self._lengths)


def batches(questions: Sequence[Question], tokens: int) -> list[list[int]]:
    """Numbers of questions that are answered together, the longest first.

    Args:
        tokens: the most of a batch, answers and filling included; one question always fits.
    """
    order = sorted(range(len(questions)), key=lambda number: -len(questions[number].ids))
    groups: list[list[int]] = []
    width = answer = 0
    for number in order:
        question = questions[number]
        longest = max(answer, question.most_new)
        if not groups or (len(groups[-1]) + 1) * (width + longest) > tokens:
            groups.append([])
            width, longest = len(question.ids), question.most_new
        groups[-1].append(number)
        answer = longest
    return groups


def padded(sequences: Sequence[Any], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask, int64 [sequences, longest], filled up on the left."""
    longest = max(len(ids) for ids in sequences)
    ids = np.full((len(sequences), longest), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, own in enumerate(sequences):
        ids[row, longest - len(own) :] = own
        mask[row, longest - len(own) :] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


@contextmanager
def speaking(tagger: Tagger, causal_lm: Any, attention: str) -> Iterator[None]:
    """Inside, a language model in eval mode writes by this attention, by no habit of its own."""
    was_training, habits = tagger.training, causal_lm.generation_config
    try:
        tagger.eval()
        causal_lm.eval()
        causal_lm.generation_config = GenerationConfig()
        causal_lm.set_attn_implementation(attention)
        yield
    finally:
        causal_lm.set_attn_implementation(NAME)
        causal_lm.generation_config = habits
        tagger.train(was_training)


def check_alike(
    tagger: Tagger, causal_lm: Any, device: torch.device, autocast: torch.dtype | None
) -> str:
    """The attention of transformers by which a model writes what it was trained to.

    Two sequences are gone on with by two sub-words, the second of them over a cache; then the
    whole is read packed, as in training.

    Raises:
        InputError: no attention gives the logits of training, or the model's head does more than
            is known here.
    """
    generator = np.random.default_rng(0)
    sequences = [generator.integers(tagger.head.classes, size=size) for size in _COMPARED]
    ids, mask = padded(sequences, 0, device)
    settings = GenerationConfig(
        max_new_tokens=2,
        do_sample=False,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    on, found = autocast is not None, []
    with torch.inference_mode(), torch.autocast(device.type, dtype=autocast, enabled=on):
        for attention in _IMPLEMENTATIONS:
            try:
                with speaking(tagger, causal_lm, attention):
                    written = causal_lm.generate(
                        input_ids=ids, attention_mask=mask, generation_config=settings
                    )
            except ValueError as error:
                # Some families have none of that kind.
                found.append(f"{attention} attention: {one_line(error)[:80]}")
                continue
            given = torch.stack(written.logits, 1).flatten(0, 1).float()
            firsts = written.sequences[:, ids.shape[1]].tolist()
            whole = [[*own, first] for own, first in zip(sequences, firsts, strict=True)]
            expected = _as_trained(tagger, whole, device)
            off = float((given - expected).abs().max() / expected.abs().max())
            # Written so that a NaN does not pass.
            if off <= ROUNDING.get(autocast or torch.float32, 1e-3):
                return attention
            found.append(f"{attention} attention: its logits differ by {off:.1e} of their size")
    raise InputError(
        f"model: {type(causal_lm).__name__} does not write what it is trained to ("
        f"{'; '.join(found)}): its head does more than is known here"
    )


def _as_trained(tagger: Tagger, sequences: Sequence[Any], device: torch.device) -> Tensor:
    """Logits [2 * sequences, vocabulary] at the last two sub-words of each."""
    examples = [
        Example(
            ids=np.array(own, dtype=np.int32),
            sentence=number,
            first_word=0,
            starts=np.array([len(own) - 2, len(own) - 1], dtype=np.int32),
            ends=np.array([len(own) - 1, len(own)], dtype=np.int32),
        )
        for number, own in enumerate(sequences)
    ]
    was_training = tagger.training
    tagger.eval()
    logits: Tensor = tagger(pack([examples], None, device, tagger.bits))
    tagger.train(was_training)
    return logits[0].float()
