"""Running a tagger over sentences: packs under a token budget in, log-probabilities out.

Evaluation, prediction and the command line all come through here, so what was scored is what
``predict`` does, pack for pack. Sentences of similar length share a pack, the longest come first
(what does not fit into memory fails at once), and on CPU packs are smaller than in training: what
a layer passes on then stays in the cache. Answers keep the order of the input.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from lmsl.console import Track
from lmsl.data.tags.distribution import Floats
from lmsl.errors import InputError
from lmsl.mask.bits import Bits
from lmsl.packs.examples import Example
from lmsl.packs.packing import under_budget
from lmsl.tagger.inference import EagerForward, Forward, batch_of, log_probabilities
from lmsl.tagger.tagger import Tagger

# Of 512 to 8192, best for `tiny` with two threads (5 % faster than 2048); with one the same.
CPU_TOKENS = 4096


class NotFinite(ValueError):
    """A score that is no number: of which run, or string, and the first sentence of its pack."""

    def __init__(self, way: int, sentence: int) -> None:
        super().__init__(f"scores of sentence {sentence} by run {way} are not finite")
        self.way, self.sentence = way, sentence


def emissions(
    tagger: Tagger,
    examples: Sequence[Example],
    words: Sequence[int],
    *,
    tokens_per_batch: int,
    device: torch.device,
    autocast: torch.dtype | None = None,
    compute: Forward | None = None,
    track: Track | None = None,
) -> list[Floats]:
    """``run_emissions`` of a tagger of one run.

    Args:
        compute: who computes packs of this tagger, on this device; by default eagerly.
        track: told of every pack.

    Raises:
        InputError: the model's scores are not finite.
    """
    assert tagger.head.runs == 1
    compute = EagerForward(tagger, device, autocast) if compute is None else compute
    assert compute.tagger is tagger
    try:
        (found,) = run_emissions(
            compute, examples, words, tokens_per_batch=tokens_per_batch, track=track
        )
    except NotFinite as error:
        raise InputError(
            f"sentence {error.sentence + 1}: expected finite scores in its batch, got NaN; where "
            "weights are in order this is an overflow: train with --dtype bfloat16 or float32"
        ) from error
    return found


def run_emissions(
    compute: Forward,
    examples: Sequence[Example],
    words: Sequence[int],
    *,
    tokens_per_batch: int,
    bits: Bits | None = None,
    track: Track | None = None,
) -> list[list[Floats]]:
    """For each run log-probabilities [words, classes] of every sentence.

    A word that no example reads can only be the first label, O where there is one: its
    log-probability is 0 there and -inf elsewhere.

    Args:
        words: how many each sentence has.
        bits: instead, the layers of every string under which the only run is asked.
        track: told of every pack.

    Raises:
        NotFinite: a score is no number.
    """
    tagger = compute.tagger
    classes = tagger.head.classes
    ways = tagger.head.runs if bits is None else len(bits)
    found = [unread(words, classes) for _ in range(ways)]
    budget = evaluation_budget(tokens_per_batch, ways, compute.device)
    groups = list(under_budget(by_length(examples), budget))
    if track is not None:
        track.total = len(groups)
    with _evaluating(tagger):
        batches = (batch_of(compute, group, budget, bits) for group in groups)
        for batch, logs in log_probabilities(compute, batches):
            # Those of a string follow those of the string before.
            by_way = logs.reshape(ways, -1, classes)
            for way, rows in enumerate(by_way):
                if np.isnan(rows).any():
                    raise NotFinite(way, batch.examples[0].sentence)
                put(found[way], batch.examples, rows)
            if track is not None:
                track.add()
    return found


def unread(words: Sequence[int], classes: int) -> list[Floats]:
    """[words, classes] of every sentence before any example of it is read: the first label."""
    found = []
    for count in words:
        rows = np.full((count, classes), -np.inf)
        rows[:, 0] = 0.0
        found.append(rows)
    return found


def put(found: Sequence[Floats], group: Sequence[Example], logs: Floats) -> None:
    """Write the rows of a pack to the words of the sentences that they were read from."""
    first = 0
    for example in group:
        count = len(example.starts)
        place = slice(example.first_word, example.first_word + count)
        found[example.sentence][place] = logs[first : first + count]
        first += count


@contextmanager
def _evaluating(tagger: Tagger) -> Iterator[None]:
    """Inside, the tagger is in eval mode."""
    was_training = tagger.training
    tagger.eval()
    try:
        yield
    finally:
        tagger.train(was_training)


def by_length(examples: Sequence[Example]) -> list[Example]:
    """The longest first; those of equal length in the order given."""
    return sorted(examples, key=lambda example: -len(example.ids))


def prediction_budget(tokens_per_batch: int, device: torch.device) -> int:
    """The most tokens of a pack without gradients."""
    return min(tokens_per_batch, CPU_TOKENS) if device.type == "cpu" else tokens_per_batch


def evaluation_budget(tokens_per_batch: int, ways: int, device: torch.device) -> int:
    """The most tokens of each of several runs, or strings, in one pack without gradients.

    The budget is that of all of them at once, or evaluation would need more than training.
    """
    return max(1, prediction_budget(tokens_per_batch // ways, device))
