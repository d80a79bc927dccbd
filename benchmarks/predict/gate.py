"""The proof that all contenders of the benchmark of prediction predict with the same model.

Everybody's log-probabilities are held against those of the peer in float32, the adapters added to
the weights exactly. In float32 only the order of sums differs. In bfloat16 both sides round in
every layer, in other places, and how much that makes of a log-probability is a matter of depth and
weights; so, as FlashAttention's tests do it, ours may be off by twice what the peer in the same
bfloat16 is off, and by what is allowed in float32.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lmsl.packs.examples import Example, build_examples
from lmsl.tagger.emissions import emissions
from lmsl.tagger.labeler import Labeler

# Both sides compute in float32; adding the adapters to the weights rounds once more.
TOLERANCE = 1e-3

Words = Sequence[Sequence[str]]
Logs = list[NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Ours and the peer on the same sentences."""

    name: str
    """Of ours, as it was held against the peer."""
    sentences: int
    words: int
    same_tokens: bool
    log_probability: float
    """The largest error of a log-probability of a word by ours."""
    peer_log_probability: float
    """The same by the peer; 0 where it computes in float32 itself."""
    clear: int
    """Words whose best label is ahead by more than both errors can make up for."""
    labels: int
    """Those of them with another label from the pipeline."""

    @property
    def allowed(self) -> float:
        return 2 * self.peer_log_probability + TOLERANCE

    @property
    def holds(self) -> bool:
        # Written so that a NaN does not pass.
        same = self.same_tokens and self.labels == 0 and self.clear > 0
        return same and self.log_probability <= self.allowed

    def line(self) -> str:
        """For people."""
        tokens = "same" if self.same_tokens else "OTHER"
        return (
            f"gate, {self.name}, {self.words} words: {tokens} sub-words, log-probabilities off by "
            f"{self.log_probability:.1e} ({self.allowed:.1e} allowed), {self.labels} of "
            f"{self.clear} clear labels differ: {'ok' if self.holds else 'FAILED'}"
        )

    def record(self) -> dict[str, object]:
        return asdict(self) | {"allowed": self.allowed, "holds": self.holds}


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Sentences, and what the peer says of them in float32."""

    sentences: Words
    examples: Sequence[Example]
    logs: Logs


def truth(labeler: Labeler, peer: Any, sentences: Words) -> Truth:
    """Ask the peer while it is in float32.

    Args:
        labeler: whose sub-words are taken.
        sentences: those that ours reads in several windows, and the peer does not, are left out.
    """
    parts = Counter(example.sentence for example in _examples(labeler, sentences))
    whole = [words for index, words in enumerate(sentences) if parts[index] == 1]
    examples = _examples(labeler, whole)
    return Truth(sentences=whole, examples=examples, logs=_by_peer(peer, examples))


def _examples(labeler: Labeler, sentences: Words) -> Sequence[Example]:
    return build_examples(
        [labeler.sentence(words) for words in sentences],
        labeler._aligner,
        max_length=labeler.info.max_length,
        overflow=labeler.info.overflow,
    ).examples


def agreement(name: str, labeler: Labeler, pipe: Any, known: Truth) -> Agreement:
    """Hold ours and the peer, a sentence at a time, against the truth, and ours against the labels
    of the peer's pipeline."""
    texts = [" ".join(words) for words in known.sentences]
    ours = emissions(
        labeler.tagger,
        known.examples,
        [len(words) for words in known.sentences],
        tokens_per_batch=labeler.info.tokens_per_batch,
        device=labeler.device,
        autocast=labeler._autocast,
        compute=labeler._compute,
    )
    off = _furthest(ours, known.logs)
    peer_off = _furthest(_by_peer(pipe.model, known.examples), known.logs)
    # The pipeline pads, which rounds once more; two labels change places when both move.
    limit = TOLERANCE + 2 * (off + 2 * peer_off)
    names, same, clear, other = labeler.info.labels.names, True, 0, 0
    answers = pipe(texts, ignore_labels=[])
    for example, own, text, answer in zip(known.examples, ours, texts, answers, strict=True):
        same &= pipe.tokenizer(text)["input_ids"] == example.ids.tolist()
        labels = {token["index"]: token["entity"] for token in answer}
        top = np.sort(own, axis=-1)
        for end, best, lead in zip(
            example.ends.tolist(), own.argmax(-1), top[:, -1] - top[:, -2], strict=True
        ):
            clear += bool(lead > limit)
            other += bool(lead > limit) and labels.get(end - 1) != names[best]
    return Agreement(
        name=name,
        sentences=len(known.sentences),
        words=sum(len(words) for words in known.sentences),
        same_tokens=same,
        log_probability=off if same else float("inf"),
        peer_log_probability=peer_off,
        clear=clear,
        labels=other,
    )


def _by_peer(peer: Any, examples: Sequence[Example]) -> Logs:
    """Log-probabilities of the words of each example, one at a time."""
    found = []
    for example in examples:
        ids = torch.from_numpy(example.ids[None]).to(peer.device)
        with torch.inference_mode():
            logits = peer(ids, use_cache=False).logits[0]
        found.append(logits.double().log_softmax(-1).cpu().numpy()[example.ends - 1])
    return found


def _furthest(found: Sequence[NDArray[Any]], expected: Logs) -> float:
    pairs = zip(found, expected, strict=True)
    return max(float(np.abs(one - other).max()) for one, other in pairs)
