"""Repeating and resuming a run to the bit, and checkpoints that cannot be used."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lmsl.errors import InputError
from lmsl.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from lmsl.training.loop import Update
from tests.tagger.tagger_tools import build_tagger, build_task
from tests.training.training_tools import CONFIG, assert_same, optimizers_of, train


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
    update = Update(
        step=3, epoch=1, ends_epoch=True, loss=[], grad_norm=[], lr=0.0, tokens=0, tokens_of=[]
    )
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
