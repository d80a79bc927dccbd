"""Running a tagger over sentences: packs under a token budget in, log-probabilities out.

Evaluation, prediction and the command line all come through here, so what was scored is what
``predict`` does, pack for pack. Sentences of similar length share a pack, the longest come first
(what does not fit into memory fails at once), and on CPU packs are smaller than in training: what
a layer passes on then stays in the cache. Answers keep the order of the input.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from lmsl.decode import Floats
from lmsl.errors import InputError
from lmsl.examples import Example
from lmsl.model import Tagger
from lmsl.packing import pack, under_budget

# Of 512 to 8192, best for `tiny` with two threads (5 % faster than 2048); with one the same.
CPU_TOKENS = 4096


def emissions(
    tagger: Tagger,
    examples: Sequence[Example],
    words: Sequence[int],
    *,
    tokens_per_batch: int,
    device: torch.device,
    autocast: torch.dtype | None = None,
) -> list[Floats]:
    """Log-probabilities [words, classes] of every sentence; ``words`` counts those of each.

    A word that no example reads can only be the first label, O where there is one: its
    log-probability is 0 there and -inf elsewhere.

    Raises:
        InputError: the model's scores are not finite.
    """
    found = unread(words, tagger.head.classes)
    for group, logs in _log_probabilities(tagger, examples, tokens_per_batch, device, autocast):
        put(found, group, logs)
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


def _log_probabilities(
    tagger: Tagger,
    examples: Sequence[Example],
    tokens_per_batch: int,
    device: torch.device,
    autocast: torch.dtype | None,
) -> Iterator[tuple[Sequence[Example], Floats]]:
    assert tagger.head.runs == 1
    was_training = tagger.training
    tagger.eval()
    try:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=autocast, enabled=autocast is not None),
        ):
            budget = prediction_budget(tokens_per_batch, device)
            for group in under_budget(by_length(examples), budget):
                logits = tagger(pack([group], None, device))[0]
                logs = logits.double().log_softmax(-1).cpu().numpy()
                if np.isnan(logs).any():
                    raise InputError(
                        f"sentence {group[0].sentence + 1}: expected finite scores in its batch, "
                        "got NaN; where weights are in order this is an overflow: train with "
                        "--dtype bfloat16 or float32"
                    )
                yield group, logs
    finally:
        tagger.train(was_training)


def by_length(examples: Sequence[Example]) -> list[Example]:
    """The longest first; those of equal length in the order given."""
    return sorted(examples, key=lambda example: -len(example.ids))


def prediction_budget(tokens_per_batch: int, device: torch.device) -> int:
    """The most tokens of a pack without gradients."""
    return min(tokens_per_batch, CPU_TOKENS) if device.type == "cpu" else tokens_per_batch
