"""What a training does when: its updates, their sentences and their rates, before any is made.

Pure functions of the number of sentences, the configuration and a seed, so that a resumed run, a
run in a stack and a run alone make the same updates.
"""

import math
from collections.abc import Iterator

import numpy as np

from lmsl.config.config import Config
from lmsl.wording import counted

USUAL_EPOCHS = 4
LEAST_UPDATES = 400
"""Of a training whose epochs nobody chose. 100 sentences of conll2000, two seeds: F1 71.6 after 52
updates, 74.4 after 104, 76.8 after 208, 77.1 after 403."""
MOST_SCORES = 20
"""Of dev in such a training: between two there may be more than one pass over few sentences."""


def updates_per_epoch(sentences: int, batch_size: int) -> int:
    return -(-sentences // batch_size)


def epochs_of(sentences: int, config: Config) -> int:
    """Passes over the data: as chosen, or as many as few sentences ask for."""
    if config.epochs is not None:
        return config.epochs
    return max(USUAL_EPOCHS, -(-LEAST_UPDATES // updates_per_epoch(sentences, config.batch_size)))


def length_line(sentences: int, config: Config) -> str | None:
    """For people: how long training is where that is not what one would think."""
    updates, epochs = total_updates(sentences, config), epochs_of(sentences, config)
    few = f"training data is small: {counted(sentences, 'sentence')}"
    if config.epochs is None and config.max_steps is None and epochs > USUAL_EPOCHS:
        return f"{few}, so {epochs} epochs instead of {USUAL_EPOCHS} ({updates} updates; --epochs)"
    if updates < LEAST_UPDATES // 2:
        flag = "--epochs" if config.max_steps is None else "--max-steps"
        return (
            f"only {counted(updates, 'update')} will be made, which is hardly enough to "
            f"learn from; raise {flag}, or lower --batch-size"
        )
    return None


def total_updates(sentences: int, config: Config) -> int:
    """How many updates a run makes."""
    whole = epochs_of(sentences, config) * updates_per_epoch(sentences, config.batch_size)
    return whole if config.max_steps is None else min(whole, config.max_steps)


def draw_updates(sentences: int, config: Config, seed: int) -> Iterator[list[int]]:
    """Sentence numbers of every update, a new seeded order for each epoch."""
    whole, size = updates_per_epoch(sentences, config.batch_size), config.batch_size
    for step in range(total_updates(sentences, config)):
        epoch, place = divmod(step, whole)
        if place == 0:
            order = np.random.default_rng([seed, epoch]).permutation(sentences)
        drawn = order[place * size : (place + 1) * size]
        yield kept_part(drawn.tolist(), size // config.keep_every)


def kept_part(drawn: list[int], size: int) -> list[int]:
    """The last whole or begun part of ``size`` sentences: all of them where parts are not cut."""
    return drawn[(len(drawn) - 1) // size * size :]


def epoch_ends(sentences: int, config: Config) -> list[int]:
    """Updates made whenever dev is scored, at ends of epochs; the last is where training ends.

    That is every epoch, unless their number was raised for want of sentences.
    """
    last, whole = total_updates(sentences, config), updates_per_epoch(sentences, config.batch_size)
    if config.epochs is None:
        whole *= -(-epochs_of(sentences, config) // MOST_SCORES)
    return [*range(whole, last, whole), last]


def lr_factor(step: int, sentences: int, config: Config) -> float:
    """The rate of update ``step``, counted from 0, as a share of the peak.

    ``cosine`` and ``linear`` fall to 0 at the end, ``constant`` does not fall. With parts of
    updates left out (``keep_every``) the schedule is laid out over all parts and advances once an
    update, as in the code released with the 2024 paper.
    """
    steps = total_updates(sentences, config)
    rising = round(config.warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    if config.schedule == "constant":
        return 1.0
    parts = updates_per_epoch(sentences, config.batch_size // config.keep_every)
    stretch = parts / updates_per_epoch(sentences, config.batch_size)
    done = (step - rising) / max(1, steps * stretch - rising)
    return 1.0 - done if config.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
