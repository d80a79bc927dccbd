"""Dev scores of all runs of a stack by the same forward: they read the same sentences.

The numbers are those of each run alone to rounding, which is enough to choose an epoch by. What a
run reports in the end is computed by that run alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmsl.config.config import Config
from lmsl.data.splits import Splits
from lmsl.data.tags.decode import Decoded, Floats, decode
from lmsl.data.tags.metrics import lost_entities, score
from lmsl.errors import TrainingError
from lmsl.mask.bits import Bits
from lmsl.packs.examples import Examples
from lmsl.packs.packing import under_budget
from lmsl.tagger.emissions import by_length, evaluation_budget, put, unread
from lmsl.tagger.inference import EagerForward, Forward, batch_of, log_probabilities
from lmsl.tagger.tagger import Tagger
from lmsl.training.stack import Place


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What one run does on dev."""

    decoded: list[Decoded]
    metrics: dict[str, Any]


def evaluate_runs(
    tagger: Tagger,
    splits: Splits,
    dev: Examples,
    config: Config,
    place: Place,
    *,
    updates: int,
    bits: Bits | None = None,
    compute: Forward | None = None,
) -> list[Evaluated]:
    """Tag and score dev with every run of a stack, after so many updates.

    Args:
        bits: instead, the layers of every string under which the only run is scored.
        compute: who computes packs of this tagger; by default eagerly.

    Raises:
        TrainingError: a run's scores are not finite.
    """
    sentences = splits.dev.sentences
    words = [len(sentence.words) for sentence in sentences]
    lost = lost_entities(sentences, dev.truncated)
    found = []
    scores = run_emissions(tagger, dev, words, config, place, bits, compute)
    for run, emissions in enumerate(scores, 1):
        if any(np.isnan(rows).any() for rows in emissions):
            which = f" of run {run}" if tagger.head.runs > 1 else ""
            raise TrainingError(
                f"dev, after update {updates}: expected finite scores{which}, got NaN; where "
                "weights are in order this is an overflow: train with --dtype bfloat16 or "
                "float32; or lower --lr"
            )
        decoded = decode(emissions, splits.labels, config.decode)
        tags = [one.tags for one in decoded]
        metrics = score(sentences, tags, plain=splits.labels.plain)
        found.append(Evaluated(decoded=decoded, metrics={**metrics, "lost_to_truncation": lost}))
    return found


def run_emissions(
    tagger: Tagger,
    examples: Examples,
    words: Sequence[int],
    config: Config,
    place: Place,
    bits: Bits | None = None,
    compute: Forward | None = None,
) -> list[list[Floats]]:
    """For each run, or for each of ``bits``, log-probabilities [words, classes] of every sentence.

    A word that no example reads can only be the first label, as in ``lmsl.tagger.emissions``.
    """
    compute = EagerForward(tagger, place.device, place.autocast) if compute is None else compute
    assert compute.tagger is tagger
    classes = tagger.head.classes
    ways = tagger.head.runs if bits is None else len(bits)
    found = [unread(words, classes) for _ in range(ways)]
    tagger.eval()
    budget = evaluation_budget(config.tokens_per_batch, ways, place.device)
    groups = under_budget(by_length(examples.examples), budget)
    batches = (batch_of(compute, group, budget, bits) for group in groups)
    for batch, logs in log_probabilities(compute, batches):
        for own, rows in zip(found, logs.reshape(ways, -1, classes), strict=True):
            put(own, batch.examples, rows)
    return found
