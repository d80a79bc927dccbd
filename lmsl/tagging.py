"""Running a tagger over sentences: packs under a token budget in, log-probabilities out.

Evaluation, prediction and the command line all come through here, so what was scored is what
``predict`` does, pack for pack.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from lmsl.decode import Floats
from lmsl.errors import InputError
from lmsl.examples import Example
from lmsl.model import Tagger
from lmsl.packing import pack, under_budget


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
    classes = tagger.head.classes
    found = []
    for count in words:
        unread = np.full((count, classes), -np.inf)
        unread[:, 0] = 0.0
        found.append(unread)
    for group, logs in _log_probabilities(tagger, examples, tokens_per_batch, device, autocast):
        first = 0
        for example in group:
            count = len(example.starts)
            place = slice(example.first_word, example.first_word + count)
            found[example.sentence][place] = logs[first : first + count]
            first += count
    return found


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
            for group in under_budget(examples, tokens_per_batch):
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
