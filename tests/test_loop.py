"""The training loop against sums written out, and what must not change its results."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lmsl.checkpoint import Progress, load_checkpoint, restore, save_checkpoint
from lmsl.config import Config
from lmsl.errors import InputError, TrainingError
from lmsl.loop import Task, Update, draw_updates, kept_part, total_updates, training_updates
from lmsl.loop import word_losses as losses_of
from lmsl.optim import build_optimizer
from lmsl.packing import Pack, pack
from lmsl.vocabulary import IGNORED_ID
from tests.tagger_tools import CPU, Built, build_tagger, build_task

CONFIG = Config(batch_size=4, epochs=2, warmup=0.0, weight_decay=0.1, epsilon=1e-6)


def optimizers_of(built: Built, config: Config) -> list[torch.optim.Optimizer]:
    return [
        build_optimizer(
            views,
            name="adamw",
            lr=1e-2,
            beta2=config.beta2,
            epsilon=config.epsilon,
            weight_decay=config.weight_decay,
        )
        for views in built.parameters.views
    ]


def train(
    built: Built,
    task: Task,
    config: Config = CONFIG,
    *,
    optimizers: Sequence[torch.optim.Optimizer] | None = None,
    done: int = 0,
    stop: int | None = None,
    lr: float = 1e-2,
) -> list[Update]:
    updates = training_updates(
        built.tagger,
        task,
        config,
        clock=built.clock,
        parameters=built.parameters,
        optimizers=optimizers_of(built, config) if optimizers is None else optimizers,
        peak_lr=lr,
        device=CPU,
        done=done,
    )
    return list(islice(updates, stop))


def seen_sentences(built: Built, task: Task) -> list[list[int]]:
    """Fills with the sentences of every forward as they are trained on, found by their ids."""
    known = {tuple(own[0].ids.tolist()): index for index, own in enumerate(task.examples)}
    seen: list[list[int]] = []

    def note(module: Any, inputs: tuple[Pack]) -> None:
        (batch,) = inputs
        begins = np.flatnonzero(batch.positions[0].numpy() == 0)[1:]
        pieces = np.split(batch.ids[0].numpy(), begins)
        seen.append([known[tuple(piece.tolist())] for piece in pieces])

    built.tagger.register_forward_pre_hook(note)
    return seen


def hand_loss(built: Built, task: Task, sentences: Sequence[int]) -> float:
    """Mean over the labelled words of some sentences, one forward a sentence, by definition."""
    built.tagger.eval()
    terms = []
    for index in sentences:
        with torch.no_grad():
            logits = built.tagger(pack([task.examples[index]], None, CPU))[0].double()
        for word, label in enumerate(task.labels[index]):
            if label != IGNORED_ID:
                terms.append(-float(logits[word, label] - torch.logsumexp(logits[word], 0)))
    return sum(terms) / len(terms) if terms else 0.0


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def assert_near(
    one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float
) -> None:
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=tolerance, msg=name)


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
        assert sorted(index for batch in epoch for index in batch) == list(range(10))
    assert orders[0][:3] != orders[0][3:], "a new order for each epoch"


@pytest.mark.parametrize("loss", ["ce", "focal"])
def test_how_an_update_is_cut_changes_rounding_alone(loss: Any) -> None:
    task, found = build_task(9), []
    for budget in (1, 20, 10_000):
        built = build_tagger((3,), label_at="mean", dropout=0.3)
        config = replace(CONFIG, tokens_per_batch=budget, loss=loss)
        updates = train(built, task, config)
        found.append(([u.loss[0] for u in updates], built.weights()))
        assert [u.tokens for u in updates] == [u.tokens for u in train(built, task, config)]
    for losses, weights in found[1:]:
        np.testing.assert_allclose(losses, found[0][0], rtol=2e-5)
        assert_near(weights, found[0][1], 2e-5)


def test_dropout_is_on_and_moves_with_the_step() -> None:
    task = build_task(4)
    config = replace(CONFIG, batch_size=4, epochs=1)
    dry = train(build_tagger((3,), dropout=0.0), task, config)[0].loss
    wet = train(build_tagger((3,), dropout=0.5), task, config)[0].loss
    assert abs(dry[0] - wet[0]) > 1e-3


def test_the_loss_is_the_mean_over_the_words_of_the_whole_update() -> None:
    """Lengths differ, so a mean of means, by sentence or by micro-batch, is another number."""
    task = build_task(10)
    config = replace(CONFIG, tokens_per_batch=1)
    built = build_tagger((3,), dropout=0.0)
    updates = train(built, task, config, optimizers=[])
    drawn = list(draw_updates(10, config, 3))
    assert [len(own) for own in drawn] == [4, 4, 2] * 2
    for update, sentences in zip(updates, drawn, strict=True):
        assert update.loss[0] == pytest.approx(hand_loss(built, task, sentences), rel=1e-5)
        means = np.mean([hand_loss(built, task, [index]) for index in sentences])
        assert abs(update.loss[0] - means) > 1e-4


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


def test_a_stack_trains_as_its_runs_alone() -> None:
    task = build_task(9)
    stack = build_tagger((3, 4), label_at="mean", dropout=0.2)
    together = train(stack, task, replace(CONFIG, tokens_per_batch=30))
    for run, seed in enumerate((3, 4)):
        single = build_tagger((seed,), label_at="mean", dropout=0.2)
        alone = train(single, task)
        np.testing.assert_allclose(
            [u.loss[run] for u in together], [u.loss[0] for u in alone], rtol=5e-5
        )
        assert_near(stack.weights(run), single.weights(), 5e-5)


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


def test_a_run_can_be_repeated_to_the_bit() -> None:
    task, found = build_task(9), []
    for _ in range(2):
        built = build_tagger((3, 4))
        found.append((train(built, task), built))
    assert found[0][0] == found[1][0]
    for run in range(2):
        assert_same(found[0][1].weights(run), found[1][1].weights(run))


@pytest.mark.parametrize("done", [1, 3, 4])
def test_a_resumed_run_is_the_same_to_the_bit(done: int, tmp_path: Path) -> None:
    task = build_task(9)
    whole = build_tagger((3,))
    expected = train(whole, task)
    first = build_tagger((3,))
    (optimizer,) = optimizers_of(first, CONFIG)
    begun = train(first, task, optimizers=[optimizer], stop=done)
    progress = Progress(updates=done, best_score=0.25, kept_weights=first.weights())
    save_checkpoint(tmp_path, progress, first.parameters.views[0], optimizer, "settings")
    second = build_tagger((3,))
    (fresh,) = optimizers_of(second, CONFIG)
    loaded = load_checkpoint(tmp_path, second.parameters.views[0], fresh, "settings")
    assert loaded is not None and loaded.updates == done and loaded.best_score == 0.25
    assert_same(loaded.kept_weights, first.weights())
    rest = train(second, task, optimizers=[fresh], done=loaded.updates)
    assert begun + rest == expected
    assert_same(second.weights(), whole.weights())


def test_steps_and_epochs_are_counted() -> None:
    task = build_task(9)
    updates = train(build_tagger(), task, replace(CONFIG, max_steps=5))
    assert [u.step for u in updates] == [1, 2, 3, 4, 5]
    assert [u.epoch for u in updates] == [1, 1, 1, 2, 2]
    assert [u.ends_epoch for u in updates] == [False, False, True, False, True]
    assert updates[0].lr == 1e-2 and updates[-1].lr < 2e-3
    lengths = [len(own[0].ids) for own in task.examples]
    drawn = draw_updates(9, CONFIG, 1)
    assert [u.tokens for u in updates] == [
        sum(lengths[index] for index in own) for own in islice(drawn, 5)
    ]
    assert total_updates(9, CONFIG) == 6 and total_updates(8, CONFIG) == 4


@pytest.mark.parametrize("place", ["lora_A", "head.bias"])
def test_not_a_number_stops_before_the_step(place: str) -> None:
    task = build_task(8)
    built = build_tagger((3, 4))
    (name,) = [key for key in built.parameters.views[1] if key.endswith(place)][:1]
    built.parameters.views[1][name].data.view(-1)[0] = torch.nan
    before = [built.weights(run) for run in range(2)]
    with pytest.raises(TrainingError, match=r"update 1: .*--lr") as caught:
        train(built, task)
    expected = [task.names[index] for index in next(draw_updates(8, CONFIG, 4))]
    assert str(caught.value).endswith(": " + ", ".join(expected))
    assert "\n" not in str(caught.value)
    assert_same(built.weights(0), before[0])
    for key, weight in built.weights(1).items():
        assert torch.equal(weight.nan_to_num(9.0), before[1][key].nan_to_num(9.0))


def test_keep_every_gives_the_released_updates(monkeypatch: pytest.MonkeyPatch) -> None:
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
    task = build_task(22)
    config = replace(CONFIG, batch_size=8, keep_every=4, max_grad_norm=1e9)
    built = build_tagger((3,), dropout=0.0)
    seen = seen_sentences(built, task)
    updates = train(built, task, config, optimizers=[])
    assert [len(micro) for micro in seen] == [2, 2, 2] * 2
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


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut short"])
def test_a_broken_checkpoint_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    """An empty file used to end in an EOFError, text in an UnpicklingError."""
    built = build_tagger()
    views, (optimizer,) = built.parameters.views[0], optimizers_of(built, CONFIG)
    assert load_checkpoint(tmp_path, views, optimizer, "") is None
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "state.pt").write_bytes(content)
    with pytest.raises(InputError, match="not a checkpoint") as caught:
        load_checkpoint(tmp_path, views, optimizer, "")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    built = build_tagger()
    views, (optimizer,) = built.parameters.views[0], optimizers_of(built, CONFIG)
    save_checkpoint(tmp_path, Progress(), views, optimizer, "epochs: 5\nlr: 1\n")
    before = built.weights()
    with pytest.raises(InputError, match=r"other settings; now: epochs: 6; repeat"):
        load_checkpoint(tmp_path, views, optimizer, "epochs: 6\nlr: 1\n")
    assert_same(built.weights(), before)


def test_progress_keeps_the_best_or_the_last() -> None:
    update = Update(step=3, epoch=1, ends_epoch=True, loss=[], grad_norm=[], lr=0.0, tokens=0)
    weight = torch.zeros(1)
    for keep_last, kept, epoch in ((False, 2.0, 2), (True, 4.0, 4)):
        progress = Progress()
        for number, score in enumerate((0.0, 0.5, 0.5, 0.4), start=1):
            weight.fill_(number)
            progress.note(
                replace(update, epoch=number), score, 1.0, {"w": weight}, keep_last=keep_last
            )
        assert progress.kept_weights["w"].item() == kept and progress.kept_epoch == epoch
        assert progress.bad_epochs == 2 and progress.best_score == 0.5
