"""The part of the GPU proof about the training step: it passes as things are, and finds faults."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check.scope import Scope
from benchmarks.gpu_check.step import training_step
from benchmarks.gpu_check.tools import Finished
from lmsl.layers import dropout
from lmsl.layers.lora import trainable_parameters
from lmsl.packs.packing import Pack
from lmsl.tagger.captured import CapturedForward
from lmsl.tagger.rooms import FixedPack
from lmsl.training.captured_step import Captured, Gradients

CPU = torch.device("cpu")


def answer() -> dict[str, Any]:
    return training_step(Scope(device=CPU, ends=time.monotonic() + 600, toy=True))


def test_the_step_passes() -> None:
    found = answer()
    assert found["faults"] == [] and found["batches"] == 3 and found["rooms"] >= 1
    assert 0 < found["worst"][0] < 1
    forward = found["forward"]
    assert forward["packs"] >= 4 and forward["rooms"] >= 1 and 0 < forward["worst"][0] < 1
    for ms in (*found["ms"].values(), *forward["ms"].values()):
        assert 0 < ms["lowest"] <= ms["median"] <= ms["highest"]


@pytest.mark.parametrize("fault", ["labels", "place", "sums"])
def test_what_is_not_loaded_or_kept_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels and dropout of an earlier batch; gradients that are replaced instead of added."""
    load = Captured.load

    def forgetful(self: Captured, *arguments: Any) -> None:
        kept = self._pack.read().labels if fault == "labels" else self._place
        before = kept.clone()
        load(self, *arguments)
        if hasattr(self, "replay"):
            kept.copy_(before)

    def twice(self: Gradients, objective: torch.Tensor) -> None:
        found = torch.autograd.grad(objective, self._parameters)
        torch._foreach_add_(self._sums, found, alpha=2)

    if fault == "sums":
        monkeypatch.setattr(Gradients, "add", twice)
    else:
        monkeypatch.setattr(Captured, "load", forgetful)
    found = answer()
    # The first batch of a room meets memory that was loaded for itself.
    assert any("a replay is off by" in one for one in found["faults"])


@pytest.mark.parametrize("fault", ["ids", "weights"])
def test_a_forward_that_follows_nothing_is_found(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids of an earlier pack; answers by the adapters that were there at the capture."""
    load, compute = FixedPack.load, CapturedForward._compute
    seen: dict[int, torch.Tensor] = {}
    adapters: dict[CapturedForward, list[torch.Tensor]] = {}

    def forgetful(self: FixedPack, pack: Pack) -> None:
        ids = self.read().ids
        before = ids.clone()
        load(self, pack)
        # The first pack is loaded before anything is captured.
        if id(ids) in seen:
            ids.copy_(before)
        seen[id(ids)] = ids

    def frozen(self: CapturedForward) -> None:
        trained = trainable_parameters(self._eager.tagger).values()
        now = [parameter.detach().clone() for parameter in trained]
        first = adapters.setdefault(self, now)
        for parameter, own in zip(trained, first, strict=True):
            parameter.data.copy_(own)
        compute(self)
        for parameter, own in zip(trained, now, strict=True):
            parameter.data.copy_(own)

    if fault == "weights":
        monkeypatch.setattr(CapturedForward, "_compute", frozen)
    else:
        monkeypatch.setattr(FixedPack, "load", forgetful)
    found = [one for one in answer()["faults"] if "a replayed forward is off by" in one]
    assert found and (fault == "ids" or "adapters changed" in found[0])


def test_masks_of_another_step_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = dropout.dropout_mask

    def later_each_time(clock: Any, **settings: Any) -> torch.Tensor:
        clock.step += 1
        return honest(clock, **settings)

    monkeypatch.setattr("benchmarks.gpu_check.step.dropout_mask", later_each_time)
    assert "dropout of 33 features is not that of the host" in answer()["faults"]


def test_what_is_timed_runs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[str] = []
    beside: dict[str, list[str]] = {}

    def child(command: list[str], **others: Any) -> Finished:
        letter = command[command.index("benchmarks.gpu_check.part") + 1]
        running.append(letter)
        beside[letter] = [*running]
        time.sleep(0.2)
        record = Path(command[command.index("--record") + 1])
        record.write_text('{"status": "passed", "reason": null, "answer": {}}')
        running.remove(letter)
        return Finished(status=0, output="")

    monkeypatch.setattr(gpu_check, "run_program", child)
    arguments = ["--device", "cpu", "--toy", "--parts", "a,b,j", "--out", str(tmp_path)]
    assert gpu_check.main(arguments) == 0
    assert beside["j"] == ["j"] and set(beside) == {"a", "b", "j"}
