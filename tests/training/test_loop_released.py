"""``keep_every`` against the loop released with the 2024 paper, written out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lmsl.training.loop import draw_updates, kept_part, total_updates
from tests.tagger.tagger_tools import build_tagger, build_task
from tests.training.training_tools import CONFIG, hand_loss, seen_sentences, train


def test_keep_every_gives_the_released_updates() -> None:
    """The released loop, written out: micro-batches of 16, the gradient zeroed before each, a
    step after every fourth and after the last of the loader."""
    config = replace(CONFIG, batch_size=64, keep_every=4, epochs=2)
    for sentences in (1, 15, 16, 17, 63, 64, 65, 130, 208, 250):
        expected = []
        for epoch in range(config.epochs):
            order = np.random.default_rng([11, epoch]).permutation(sentences).tolist()
            loader = [order[first : first + 16] for first in range(0, sentences, 16)]
            for number, micro in enumerate(loader, start=1):
                if number % 4 == 0 or number == len(loader):
                    expected.append(micro)
        assert list(draw_updates(sentences, config, 11)) == expected
        assert total_updates(sentences, config) == len(expected)


def test_keep_every_gives_the_released_rates_and_gradients() -> None:
    """The schedule is laid out over micro-batches but advances with updates, and the loss is a
    quarter of what it should be."""
    task = build_task(21)
    config = replace(CONFIG, batch_size=8, keep_every=4, max_grad_norm=1e9)
    built = build_tagger((3,), dropout=0.0)
    forwards = seen_sentences(built, task)
    updates = train(built, task, config, optimizers=[])
    seen = forwards.copy()
    assert [len(micro) for micro in seen] == [2, 2, 1] * 2
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=11 * 2)
    for update, micro in zip(updates, seen, strict=True):
        assert update.lr == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        assert update.loss[0] == pytest.approx(hand_loss(built, task, micro), rel=1e-5)
        optimizer.step()
        schedule.step()
    whole = replace(config, keep_every=1, batch_size=2)
    alone = replace(
        task,
        examples=[task.examples[index] for index in seen[0]],
        labels=[task.labels[index] for index in seen[0]],
        names=task.names[:2],
    )
    renumbered = [[replace(own[0], sentence=i)] for i, own in enumerate(alone.examples)]
    (update, _) = train(built, replace(alone, examples=renumbered), whole, optimizers=[])
    assert updates[0].grad_norm[0] == pytest.approx(update.grad_norm[0] / 4, rel=1e-4)


def test_kept_part() -> None:
    drawn = list(range(10))
    assert kept_part(drawn, 10) == kept_part(drawn, 16) == drawn
    assert kept_part(drawn, 4) == [8, 9] and kept_part(drawn, 5) == [5, 6, 7, 8, 9]
    assert kept_part([7], 4) == [7]
