"""Dev scores of all runs of a stack by the same forward: they read the same sentences.

The numbers are those of each run alone to rounding, which is enough to choose an epoch by. What a
run reports in the end is computed by that run alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lmsl.config import Config
from lmsl.data import Splits
from lmsl.decode import Decoded, Floats, decode
from lmsl.errors import TrainingError
from lmsl.examples import Example, Examples
from lmsl.metrics import lost_entities, score
from lmsl.model import Tagger
from lmsl.packing import Pack, pack, under_budget
from lmsl.stack import Place
from lmsl.stack_flags import Bits
from lmsl.tagging import by_length, prediction_budget, put, unread


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
) -> list[Evaluated]:
    """Tag and score dev with every run of a stack, after so many updates.

    Args:
        bits: instead, the layers of every string under which the only run is scored.

    Raises:
        TrainingError: a run's scores are not finite.
    """
    sentences = splits.dev.sentences
    words = [len(sentence.words) for sentence in sentences]
    lost = lost_entities(sentences, dev.truncated)
    found = []
    for run, emissions in enumerate(run_emissions(tagger, dev, words, config, place, bits), 1):
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


@torch.inference_mode()
def run_emissions(
    tagger: Tagger,
    examples: Examples,
    words: Sequence[int],
    config: Config,
    place: Place,
    bits: Bits | None = None,
) -> list[list[Floats]]:
    """For each run, or for each of ``bits``, log-probabilities [words, classes] of every sentence.

    A word that no example reads can only be the first label, as in ``lmsl.tagging``.
    """
    classes = tagger.head.classes
    ways = tagger.head.runs if bits is None else len(bits)
    found = [unread(words, classes) for _ in range(ways)]
    tagger.eval()
    # The budget is that of all runs, or all strings, at once here, or evaluation would need more
    # than training.
    budget = prediction_budget(config.tokens_per_batch // ways, place.device)
    for group in under_budget(by_length(examples.examples), max(1, budget)):
        batch = _pack(tagger, group, place, bits)
        on = place.autocast is not None
        with torch.autocast(place.device.type, dtype=place.autocast, enabled=on):
            logits = tagger(batch).reshape(ways, -1, classes)
        logs = logits.double().log_softmax(-1).cpu().numpy()
        for own, rows in zip(found, logs, strict=True):
            put(own, group, rows)
    return found


def _pack(tagger: Tagger, group: Sequence[Example], place: Place, bits: Bits | None) -> Pack:
    """The same sentences for every run, or under every string for the only one."""
    if bits is not None:
        drawn = [own for own in bits for _ in group]
        return pack([[*group] * len(bits)], None, place.device, None, drawn)
    runs = [group] * tagger.head.runs
    return pack(runs, None, place.device, tagger.bits, tagger.drawn(runs, None))
