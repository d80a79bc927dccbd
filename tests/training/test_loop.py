"""The training loop against sums written out, and what must not change its results."""

from dataclasses import replace
from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
import torch

from lmsl.data.tags.vocabulary import IGNORED_ID
from lmsl.errors import TrainingError
from lmsl.packs.packing import pack
from lmsl.training.checkpoint import restore
from lmsl.training.eager_step import word_losses as losses_of
from lmsl.training.schedule import draw_updates
from tests.tagger.tagger_tools import CPU, build_tagger, build_task
from tests.training.training_tools import (
    CONFIG,
    assert_near,
    assert_same,
    hand_loss,
    seen_sentences,
    train,
)


def test_equal_seeds_see_equal_batches_under_every_string() -> None:
    task = build_task(10)
    orders = []
    for string in ("00", "01", "11"):
        built = build_tagger((7,), string=string)
        seen = seen_sentences(built, task)
        train(built, task)
        orders.append(seen)
    assert orders[0] == orders[1] == orders[2]
    other = build_tagger((8,))
    seen = seen_sentences(other, task)
    train(other, task)
    assert seen != orders[0]
    for epoch in (orders[0][:3], orders[0][3:]):
        assert sorted(chain.from_iterable(epoch)) == list(range(10))
    assert orders[0][:3] != orders[0][3:], "a new order for each epoch"


@pytest.mark.parametrize("loss", ["ce", "focal"])
def test_how_an_update_is_cut_changes_rounding_alone(loss: Any) -> None:
    task, found = build_task(9), []
    for budget in (1, 20, 10_000):
        built = build_tagger((3,), label_at="mean", dropout=0.3)
        config = replace(CONFIG, tokens_per_batch=budget, loss=loss)
        updates = train(built, task, config)
        found.append(([u.loss[0] for u in updates], built.weights()))
    for losses, weights in found[1:]:
        np.testing.assert_allclose(losses, found[0][0], rtol=2e-5)
        assert_near(weights, found[0][1], 2e-5)


def test_dropout_is_on_and_moves_with_the_step() -> None:
    """The same sentence again and again, at fixed weights: only masks can make a difference."""
    task, config = build_task(1), replace(CONFIG, epochs=4)
    dry = [u.loss[0] for u in train(build_tagger(dropout=0.0), task, config, optimizers=[])]
    wet = [u.loss[0] for u in train(build_tagger(dropout=0.5), task, config, optimizers=[])]
    assert len(set(dry)) == 1 and len({*wet, dry[0]}) == 5


def test_the_loss_is_the_mean_over_the_words_of_the_whole_update() -> None:
    """Lengths differ, so a mean of means, by sentence or by micro-batch, is another number."""
    task = build_task(10)
    config = replace(CONFIG, tokens_per_batch=1)
    built = build_tagger((3,), dropout=0.0)
    updates = train(built, task, config, optimizers=[])
    drawn = list(draw_updates(10, config, 3))
    assert [len(own) for own in drawn] == [4, 4, 2] * 2
    means = []
    for update, sentences in zip(updates, drawn, strict=True):
        assert update.loss[0] == pytest.approx(hand_loss(built, task, sentences), rel=1e-5)
        means.append(np.mean([hand_loss(built, task, [index]) for index in sentences]))
    assert sum(abs(u.loss[0] - mean) > 1e-3 for u, mean in zip(updates, means, strict=True)) >= 3


def test_gradients_are_those_of_the_mean() -> None:
    """A step of plain gradient descent against finite differences of the loss by definition."""
    task = build_task(5)
    config = replace(CONFIG, schedule="constant", batch_size=5, epochs=1, max_grad_norm=1e9)
    built = build_tagger((3,), dropout=0.0)
    before = built.weights()
    sgd = torch.optim.SGD(built.parameters.views[0].values(), lr=1.0)
    update = train(built, task, config, optimizers=[sgd], lr=1.0)[0]
    gradients = {name: before[name] - after for name, after in built.weights().items()}
    norm = torch.cat([g.flatten() for g in gradients.values()]).norm()
    assert update.grad_norm[0] == pytest.approx(float(norm), rel=1e-3)
    restore(built.parameters.views[0], before)
    generator, step = torch.Generator().manual_seed(0), 1e-2
    for name, view in built.parameters.views[0].items():
        direction = torch.randn(view.shape, generator=generator)
        direction /= direction.norm()
        ends = []
        for sign in (1, -1):
            view.data += sign * step * direction
            ends.append(hand_loss(built, task, range(5)))
            view.data.copy_(before[name])
        expected = (ends[0] - ends[1]) / (2 * step)
        assert float((gradients[name] * direction).sum()) == pytest.approx(expected, abs=1e-3)


def test_gradients_are_clipped_run_by_run() -> None:
    task = build_task(4)
    config = replace(CONFIG, schedule="constant", epochs=1, max_grad_norm=0.05)
    built = build_tagger((3, 4))
    before = [built.weights(run) for run in range(2)]
    sgds = [torch.optim.SGD(views.values(), lr=1.0) for views in built.parameters.views]
    (update,) = train(built, task, config, optimizers=sgds, lr=1.0)
    for run in range(2):
        assert update.grad_norm[run] > 0.05, "the norm before clipping"
        after = built.weights(run)
        moved = torch.cat([(after[name] - before[run][name]).flatten() for name in after])
        assert float(moved.norm()) == pytest.approx(0.05, rel=1e-3)


def test_words_without_labels_neither_count_nor_learn() -> None:
    """Relabelling them to anything is seen by nothing, and an update of them changes nothing."""
    task = build_task(6, ignored=1.0)
    built = build_tagger((3,))
    before = built.weights()
    updates = train(built, task)
    assert all(u.loss == [0.0] and u.grad_norm == [0.0] for u in updates)
    assert_same(built.weights(), before)


def test_an_update_without_labels_is_skipped_in_a_stack_as_alone() -> None:
    """With one sentence an update, the runs meet the unlabelled ones at different times."""
    whole = build_task(6)
    labels = [[IGNORED_ID] * len(own) if i % 2 else own for i, own in enumerate(whole.labels)]
    examples = [[] if i == 1 else own for i, own in enumerate(whole.examples)]
    task = replace(whole, labels=labels, examples=examples)
    config = replace(CONFIG, batch_size=1)
    stack = build_tagger((3, 4))
    train(stack, task, config)
    for run, seed in enumerate((3, 4)):
        single = build_tagger((seed,))
        train(single, task, config)
        assert_near(stack.weights(run), single.weights(), 1e-4)


def test_steps_and_epochs_are_counted() -> None:
    task = build_task(9)
    updates = train(build_tagger(), task, replace(CONFIG, max_steps=5))
    places = [(u.step, u.epoch, u.ends_epoch) for u in updates]
    assert places == [(1, 1, False), (2, 1, False), (3, 1, True), (4, 2, False), (5, 2, True)]
    assert updates[0].lr == 1e-2 and updates[-1].lr < 2e-3
    lengths = [len(own[0].ids) for own in task.examples]
    drawn = draw_updates(9, CONFIG, 1)
    assert [u.tokens for u in updates] == [
        sum(lengths[index] for index in own) for own in islice(drawn, 5)
    ]


@pytest.mark.parametrize("place", ["lora_A", "head.bias"])
def test_not_a_number_stops_before_the_step(place: str) -> None:
    task = build_task(8)
    built = build_tagger((3, 4))
    (name,) = [key for key in built.parameters.views[1] if key.endswith(place)][:1]
    built.parameters.views[1][name].data.view(-1)[0] = torch.nan
    before = [built.weights(run) for run in range(2)]
    with pytest.raises(TrainingError, match=r"update 1 of seed 4: .*--lr") as caught:
        train(built, task)
    expected = [task.names[index] for index in next(draw_updates(8, CONFIG, 4))]
    assert str(caught.value).endswith(": " + ", ".join(expected))
    assert "\n" not in str(caught.value)
    assert_same(built.weights(0), before[0])
    for key, weight in built.weights(1).items():
        assert torch.equal(weight.nan_to_num(9.0), before[1][key].nan_to_num(9.0))


def test_focal_loss_by_hand() -> None:
    """One word of probability 0.9, one of 0.25, one without a label."""
    chances = [[0.9, 0.06, 0.04], [0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]
    logits = torch.tensor([chances, chances]).log() + 5.0
    batch = pack([[], []], None, CPU)
    labels = torch.tensor([[0, 1, IGNORED_ID], [IGNORED_ID] * 3])
    batch = replace(batch, labels=labels)
    ce, focal = (losses_of(logits, batch, kind).tolist() for kind in ("ce", "focal"))
    assert ce == pytest.approx([0.1053605157 + 1.3862943611, 0.0], rel=1e-5)
    assert focal == pytest.approx([0.01 * 0.1053605157 + 0.5625 * 1.3862943611, 0.0], rel=1e-5)


def test_keep_every_gives_the_rates_and_gradients_released_with_the_2024_paper() -> None:
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
