"""Dev scores of all runs of a stack by the same forward: they read the same sentences.

The numbers are those of each run alone to rounding, which is enough to choose an epoch by. What a
run reports in the end is computed by that run alone. A run that writes answers is alone in its
stack.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lmsl.config.config import Config
from lmsl.console import Track
from lmsl.data.splits import Splits
from lmsl.data.tags.decode import Decoded, decode
from lmsl.errors import TrainingError
from lmsl.generation.examples import Prompter
from lmsl.generation.respondent import Respondent
from lmsl.mask.bits import Bits
from lmsl.packs.examples import Examples
from lmsl.tagger.emissions import NotFinite, run_emissions
from lmsl.tagger.inference import EagerForward, Forward
from lmsl.tagger.scoring import scored
from lmsl.tagger.tagger import Tagger
from lmsl.training.inputs import Prepared
from lmsl.training.stack import Place, Stack


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What one run does on dev."""

    decoded: list[Decoded]
    metrics: dict[str, Any]


def dev_scores(
    stack: Stack,
    data: Prepared,
    place: Place,
    say: Callable[[str], None],
    track: Track,
    updates: int,
) -> list[Evaluated]:
    """Tag and score dev with every run of a stack, after so many updates.

    Raises:
        TrainingError: a run's scores are not finite.
    """
    if data.prompter is not None:
        return [_answered(stack, data, data.prompter, place, track)]
    return evaluate_runs(
        stack.tagger,
        data.splits,
        data.dev,
        stack.config,
        place,
        updates=updates,
        compute=stack.forward(place, say),
        track=track,
    )


def _answered(
    stack: Stack, data: Prepared, prompter: Prompter, place: Place, track: Track
) -> Evaluated:
    (run,) = stack.runs
    respondent = Respondent.of(
        stack.tagger,
        stack.base,
        prompter,
        seed=run.seed,
        tokens_per_batch=stack.config.tokens_per_batch,
        device=place.device,
        autocast=place.autocast,
    )
    sentences = data.splits.dev.sentences
    answered = respondent.tag(sentences, data.dev, track)
    truncated = answered.examples.truncated
    metrics = scored(sentences, answered.decoded, data.splits.labels, truncated)
    return Evaluated(
        decoded=answered.decoded, metrics={**metrics, "generation": answered.report()}
    )


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
    track: Track | None = None,
) -> list[Evaluated]:
    """Tag and score dev with every run of a stack, after so many updates.

    Args:
        bits: instead, the layers of every string under which the only run is scored.
        compute: who computes packs of this tagger; by default eagerly.
        track: told of every pack.

    Raises:
        TrainingError: a run's scores are not finite.
    """
    sentences, labels = splits.dev.sentences, splits.labels
    compute = EagerForward(tagger, place.device, place.autocast) if compute is None else compute
    assert compute.tagger is tagger
    try:
        scores = run_emissions(
            compute,
            dev.examples,
            [len(sentence.words) for sentence in sentences],
            tokens_per_batch=config.tokens_per_batch,
            bits=bits,
            track=track,
        )
    except NotFinite as error:
        which = f" of run {error.way + 1}" if tagger.head.runs > 1 else ""
        raise TrainingError(
            f"dev, after update {updates}: expected finite scores{which}, got NaN; where "
            "weights are in order this is an overflow: train with --dtype bfloat16 or "
            "float32; or lower --lr"
        ) from error
    found = []
    for rows in scores:
        decoded = decode(rows, labels, config.decode)
        metrics = scored(sentences, decoded, labels, dev.truncated)
        found.append(Evaluated(decoded=decoded, metrics=metrics))
    return found
