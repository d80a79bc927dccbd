"""Repeating and resuming a run to the bit, and checkpoints that cannot be used."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lmsl.errors import InputError
from lmsl.run_directory.digests import Digests
from lmsl.training.checkpoint import (
    Origin,
    Progress,
    load_checkpoint,
    read_progress,
    save_checkpoint,
)
from lmsl.training.loop import Update
from tests.tagger.tagger_tools import build_tagger, build_task
from tests.training.training_tools import CONFIG, assert_same, optimizers_of, train

ORIGIN = Origin(config="settings")


@pytest.mark.parametrize("done", [1, 3, 4])
def test_a_resumed_run_is_the_same_to_the_bit(done: int, tmp_path: Path) -> None:
    task = build_task(9)
    whole = build_tagger((3,))
    expected = train(whole, task)
    first = build_tagger((3,))
    (optimizer,) = optimizers_of(first, CONFIG)
    begun = train(first, task, optimizers=[optimizer], stop=done)
    progress = Progress(updates=done, best_score=0.25, kept_weights=first.weights())
    save_checkpoint(tmp_path, progress, first.parameters.views[0], optimizer, ORIGIN)
    second = build_tagger((3,))
    (fresh,) = optimizers_of(second, CONFIG)
    loaded = load_checkpoint(tmp_path, second.parameters.views[0], fresh, ORIGIN)
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
    assert load_checkpoint(tmp_path, views, optimizer, ORIGIN) is None
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "state.pt").write_bytes(content)
    with pytest.raises(InputError, match="not a checkpoint") as caught:
        load_checkpoint(tmp_path, views, optimizer, ORIGIN)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    built = build_tagger()
    views, (optimizer,) = built.parameters.views[0], optimizers_of(built, CONFIG)
    origin = Origin(
        config="epochs: 5\nlr: 1\n", digests=Digests(base={"w": "1"}, data={"train": "2"})
    )
    save_checkpoint(tmp_path, Progress(), views, optimizer, origin)
    before = built.weights()
    for other, message in (
        (replace(origin, config="epochs: 6\nlr: 1\n"), r"other settings; now: epochs: 6; repeat"),
        (replace(origin, digests=Digests(base={"w": "1"})), r"the data changed .*\(train\)"),
        (replace(origin, digests=Digests(data={"train": "2"})), r"base model changed .*\(w\)"),
    ):
        with pytest.raises(InputError, match=message):
            load_checkpoint(tmp_path, views, optimizer, other)
        with pytest.raises(InputError, match=message):
            read_progress(tmp_path, other)
    assert_same(built.weights(), before)


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(tmp_path: Path) -> None:
    """torch reads a flipped bit without a word."""
    built = build_tagger((3,))
    views, (optimizer,) = built.parameters.views[0], optimizers_of(built, CONFIG)
    for done in (1, 2):
        save_checkpoint(tmp_path, Progress(updates=done), views, optimizer, ORIGIN)
    newest, before = (tmp_path / "checkpoint" / name for name in ("state.pt", "before.pt"))
    whole = newest.read_bytes()
    said: list[str] = []
    for place in range(0, len(whole), len(whole) // 23):
        newest.write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
        found = read_progress(tmp_path, ORIGIN, said.append)
        # What no checksum covers (a time stamp, padding) may be damaged: nothing is read from it.
        assert found is not None and found.updates in (1, 2)
    assert len(said) > 15 and "going on from the one before it, update 1" in said[0]
    newest.write_bytes(whole[:-99])
    loaded = load_checkpoint(tmp_path, views, optimizer, ORIGIN)
    assert loaded is not None and loaded.updates == 1
    before.write_bytes(b"")
    with pytest.raises(InputError, match=r"state.pt: not a checkpoint .*--overwrite"):
        load_checkpoint(tmp_path, views, optimizer, ORIGIN)


@pytest.mark.parametrize("part", ["weights", "progress", "optimizer"])
@pytest.mark.parametrize("kind", ["another shape", "missing", "too much"])
def test_tensors_of_another_model_are_refused(part: str, kind: str, tmp_path: Path) -> None:
    """A bias of one element was broadcast; a missing name was a KeyError."""
    task = build_task(4)
    built = build_tagger((3,))
    (optimizer,) = optimizers_of(built, CONFIG)
    train(built, task, optimizers=[optimizer], stop=1)
    views, weights = built.parameters.views[0], built.weights()
    progress = Progress(updates=1, kept_weights=dict(weights))
    save_checkpoint(tmp_path, progress, views, optimizer, ORIGIN)
    file = tmp_path / "checkpoint" / "state.pt"
    state = torch.load(file, weights_only=True)
    spoiled: dict[Any, Any] = {
        "weights": state["weights"],
        "progress": state["progress"]["kept_weights"],
        "optimizer": state["optimizer"]["state"],
    }[part]
    name = next(iter(spoiled))
    if part == "optimizer":
        moments = spoiled[name]
        moments["exp_avg"] = moments["exp_avg"][:1, :1] if kind == "another shape" else None
        if kind == "too much":
            state["optimizer"]["param_groups"].append({"params": [99]})
    elif kind == "another shape":
        spoiled[name] = spoiled[name].flatten()[:1]
    elif kind == "missing":
        del spoiled[name]
    else:
        spoiled["new"] = torch.zeros(1)
    torch.save(state, file)
    with pytest.raises(InputError, match="begin anew") as caught:
        load_checkpoint(tmp_path, views, optimizer, ORIGIN)
    assert "\n" not in str(caught.value)
    assert_same(built.weights(), weights)
    train(built, task, optimizers=[optimizer], done=1, stop=2)


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
