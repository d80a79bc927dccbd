"""Whether the base of a run is still a language model: perplexity and greedy continuations.

Three states are compared. ``base``: no adapter, causal, as it was loaded and quantised. ``own``:
the adapter under the run's string. ``causal``: the adapter with the mask put back.

Causal states are measured on the whole text, in windows of ``WINDOW`` tokens, ``STRIDE`` apart,
that begin with what the tokenizer puts before a text. Each token is predicted once, after at least
``WINDOW - STRIDE`` others where the text has as many.

Under an unmasked string such a forward would tell lies. The states at a token come from layers
that see the tokens behind it, the one to be predicted among them: the probability would be that of
a copy, not of a prediction. What a model can honestly say of a token is what it says where the
text ends before it. So ``own`` is measured token by token: what precedes the token in its window,
alone, in a forward of its own, of which the last position is read. That costs a forward a token,
so it is done at ``SAMPLE`` tokens, at equal distances through the text. The causal states are
reported at the same tokens too: only these numbers compare. Writing is the same: each new token is
a new forward over all before it.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lmsl.errors import InputError
from lmsl.mask.bits import layer_bits
from lmsl.packs.alignment import Ints
from lmsl.packs.running import RunningText, TextWindow, spread, text_windows
from lmsl.tagger.emissions import prediction_budget
from lmsl.tagger.labeler import Labeler
from lmsl.tagger.language import LanguageModel, text_ends

WINDOW, STRIDE, SAMPLE = 512, 256, 256
PROMPTS, PROMPT = 3, 32
"""Prompts that are continued, and most tokens of each."""
_LETTERS = 8
"""Characters of a token, at most, as far as prompts go."""
_GAP = re.compile(r"\s+")

State = Literal["base", "own", "causal"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was found in one state."""

    unmask: str
    adapter: bool
    whole: float | None
    """Mean -log p of the text's tokens, in nats; None where only a sample was measured."""
    sampled: float
    """The same of the sampled tokens."""
    continuations: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """A text in three states."""

    tokens: int
    """Predicted ones."""
    bytes: int
    """That they stand for, in UTF-8."""
    window: int
    stride: int
    sample: int
    prompts: tuple[str, ...]
    states: dict[State, Measured]

    def rates(self, nats: float) -> dict[str, float]:
        """A mean of -log p as perplexity per token and as bits per byte."""
        bits = nats / math.log(2)
        return {
            "perplexity": float(np.exp(nats)),
            "bits_per_byte": bits * self.tokens / self.bytes,
        }

    def to_json(self) -> dict[str, Any]:
        states = {}
        for name, own in self.states.items():
            whole = {} if own.whole is None else self.rates(own.whole)
            states[name] = {
                "adapter": own.adapter,
                "unmask": own.unmask,
                **whole,
                "sampled": self.rates(own.sampled),
                "continuations": list(own.continuations),
            }
        return {
            "tokens": self.tokens,
            "bytes": self.bytes,
            "window": self.window,
            "stride": self.stride,
            "sampled_tokens": self.sample,
            "prompts": list(self.prompts),
            "states": states,
        }


def perplexity(labeler: Labeler, text: str, *, continued: int) -> Perplexity:
    """Measure a run that was loaded with its language-model head.

    Args:
        continued: tokens that are written behind each prompt; 0 writes none.

    Raises:
        InputError: the text has fewer than two tokens, or the model gives what is not finite.
    """
    window, stride = _window(labeler)
    running, size = _running(labeler, text, window, stride)
    windows = running.windows
    own = layer_bits(labeler.info.unmask, labeler.tagger.depth)
    causal = (False,) * len(own)
    predicted = [(each, t) for each in windows for t in range(each.predicted, each.last)]
    at = spread(len(predicted), SAMPLE)
    prompts = _prompts(labeler, text) if continued else []
    begun = [prompt.prefix(0, len(prompt.ids)) for prompt in prompts]
    model = LanguageModel(
        labeler._causal_lm,
        labeler.device,
        labeler._autocast,
        prediction_budget(labeler.info.tokens_per_batch, labeler.device),
    )
    states: dict[State, Measured] = {}
    for name in STATES:
        bits = own if name == "own" else causal
        with model.state(bits, adapted=name != "base"):
            whole = None
            if name == "own":
                sampled = _prefix_losses(model, running, [predicted[place] for place in at])
            else:
                losses = _window_losses(model, running)
                whole, sampled = float(losses.mean()), losses[at]
            written = model.greedy(begun, continued, text_ends(labeler._causal_lm))
        states[name] = Measured(
            unmask=labeler.info.unmask if name == "own" else "causal",
            adapter=name != "base",
            whole=whole,
            sampled=float(sampled.mean()),
            continuations=tuple(
                _behind(labeler, prompt.ids, ids)
                for prompt, ids in zip(prompts, written, strict=True)
            ),
        )
    return Perplexity(
        tokens=len(predicted),
        bytes=size,
        window=window,
        stride=stride,
        sample=len(at),
        prompts=tuple(labeler._aligner.spelt(prompt.ids) for prompt in prompts),
        states=states,
    )


def _running(labeler: Labeler, text: str, window: int, stride: int) -> tuple[RunningText, int]:
    """The text as it is read, and how many bytes its predicted tokens stand for."""
    ids, first = labeler._aligner.text(text)
    bos = labeler._aligner.bos
    if len(ids) < 2:
        raise InputError(f"--perplexity: expected a text of two or more tokens, got {len(ids)}")
    windows = text_windows(
        len(ids),
        size=window - len(bos),
        stride=stride,
        # Of the first token nothing is known where no token stands before every text.
        predicted=0 if bos else 1,
    )
    unpredicted = 0 if bos else len(text[:first].encode())
    return RunningText(ids=ids, bos=bos, windows=windows), len(text.encode()) - unpredicted


def _window(labeler: Labeler) -> tuple[int, int]:
    """Tokens of a window, and from one to the next; fewer where the model has fewer positions."""
    most = getattr(labeler._causal_lm.config.get_text_config(), "max_position_embeddings", None)
    window = min(WINDOW, most or WINDOW)
    return window, min(STRIDE, window // 2)


def _window_losses(model: LanguageModel, running: RunningText) -> NDArray[np.float64]:
    """Of every predicted token, in order."""
    windows = running.windows
    targets = [running.ids[window.predicted : window.last] for window in windows]
    return model.losses([running.whole(window) for window in windows], targets)


def _prefix_losses(
    model: LanguageModel, running: RunningText, places: Sequence[tuple[TextWindow, int]]
) -> NDArray[np.float64]:
    """Of some predicted tokens, each from what precedes it in its window, alone."""
    prefixes = [running.prefix(window.first, token) for window, token in places]
    return model.losses(prefixes, [running.ids[token : token + 1] for _, token in places])


def _prompts(labeler: Labeler, text: str) -> list[RunningText]:
    """A few pieces of the text, each from the beginning of a word where one is near."""
    found = []
    for place in spread(max(1, len(text) - _LETTERS * PROMPT), PROMPTS):
        gap = _GAP.search(text, place, place + PROMPT)
        begin = gap.end() if gap and place else place
        ids = labeler._aligner.text(text[begin : begin + _LETTERS * PROMPT])[0][:PROMPT]
        # No half characters at the end.
        while len(ids) > 1 and labeler._aligner.spelt(ids).endswith("\ufffd"):
            ids = ids[:-1]
        if len(ids):
            found.append(RunningText(ids=ids, bos=labeler._aligner.bos, windows=()))
    return found


def _behind(labeler: Labeler, prompt: Ints, written: Sequence[int]) -> str:
    """What was written behind a prompt, as text."""
    spelt = labeler._aligner.spelt
    return spelt([*prompt, *written]).removeprefix(spelt(prompt))
