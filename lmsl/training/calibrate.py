"""The temperature of a run, fitted on dev when its weights are final.

What is fitted is what users see: the log-loss of the probabilities of the entities that the run
finds on dev, as those of being right (``lmsl.data.tags.calibration``). The model reads dev once,
and no tag changes with the temperature: a step of the search is a forward-backward pass over the
words' log-probabilities of the sentences that hold an entity.
"""

from collections.abc import Callable
from dataclasses import replace

from lmsl.config.choices import Calibrate
from lmsl.data.tags.calibration import (
    HOTTEST,
    Judged,
    calibration_error,
    fitted_temperature,
    judged,
)
from lmsl.data.tags.sentence import Dataset
from lmsl.generation.generator import Generator
from lmsl.tagger.labeler import Labeler
from lmsl.tagger.predictor import Tagged
from lmsl.wording import counted

LEAST_FOUND, LEAST_EACH = 50, 10
"""Entities on dev, and of the right and the wrong ones each, that `auto` asks for. One number is
fitted: ten of the rarer outcome for each is what logistic regression asks for (Peduzzi et al.
1996); and below five a bin the calibration error that is told of it would be mostly chance."""


def calibrated(
    trained: Labeler | Generator,
    dataset: Dataset,
    tagged: Tagged,
    how: Calibrate,
    say: Callable[[str], None],
) -> Tagged:
    """Give a run its temperature; what it found on dev, as probable as it is then.

    Args:
        dataset: dev.
        tagged: dev, as the run tags it at temperature 1.
    """
    if how == "no":
        return tagged
    if not isinstance(trained, Labeler) or trained.info.labels.plain:
        if how == "yes":
            what = (
                "plain tags have" if trained.info.labels.plain else "spans that are written have"
            )
            say(f"  not calibrated: {what} no probabilities of spans")
        return tagged
    before = judged(dataset.sentences, tagged.decoded)
    if (reason := _too_few(before, how)) is not None:
        say(f"  not calibrated, the temperature stays 1: {reason}")
        return tagged
    temperature = _fitted(trained, dataset, tagged)
    trained.info = replace(trained.info, temperature=temperature)
    decoded = trained.at_temperature(tagged, temperature)
    errors = [
        calibration_error(each) or 0.0 for each in (before, judged(dataset.sentences, decoded))
    ]
    end = ", the end of the search" if temperature in (1 / HOTTEST, HOTTEST) else ""
    say(
        f"  calibrated on dev: temperature {temperature:.2f}{end}; expected calibration error of "
        f"entities {100 * errors[0]:.1f} % -> {100 * errors[1]:.1f} %"
    )
    return replace(tagged, decoded=decoded)


def _too_few(entities: Judged, how: Calibrate) -> str | None:
    """Why there is no temperature to be had of these entities, if so."""
    found, right = len(entities.scores), int(entities.right.sum())
    least, each = (LEAST_FOUND, LEAST_EACH) if how == "auto" else (2, 1)
    if found >= least and min(right, found - right) >= each:
        return None
    return (
        f"{counted(found, 'entity')} found on dev, {right} of them right; --calibrate {how} asks "
        f"for {least} or more, and {each} or more both right and wrong"
    )


def _fitted(labeler: Labeler, dataset: Dataset, tagged: Tagged) -> float:
    """The temperature, by the sentences that hold an entity."""
    assert tagged.emissions is not None
    held = [index for index, each in enumerate(tagged.decoded) if each.spans]
    sentences = [dataset.sentences[index] for index in held]
    own = replace(
        tagged,
        decoded=[tagged.decoded[index] for index in held],
        emissions=[tagged.emissions[index] for index in held],
    )

    def loss(temperature: float) -> float:
        return judged(sentences, labeler.at_temperature(own, temperature)).log_loss

    return fitted_temperature(loss)
