"""The proof on a GPU, in toy sizes on a CPU: each part passes, and finds the faults it is for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.attention import peers
from benchmarks.gpu_check import (
    part_f_launches,
    part_j_replays,
    part_l_operations,
)
from benchmarks.gpu_check.part_b_determinism import cases as cells
from benchmarks.gpu_check.part_b_determinism import test_repeats_are_equal as repeats_are_equal
from benchmarks.gpu_check.part_d_huge import test_copies_are_equal as copies_are_equal
from benchmarks.gpu_check.part_e_graphs import cases as buffers
from benchmarks.gpu_check.part_e_graphs import test_replays_are_fresh_calls as replays_are_fresh
from benchmarks.gpu_check.scope import Scope
from lmsl.layers import dropout
from lmsl.layers.fused.triton_ops import triton_ops
from lmsl.layers.lora import trainable_parameters
from lmsl.packs.packing import Pack
from lmsl.tagger.captured import CapturedForward
from lmsl.tagger.rooms import FixedPack
from lmsl.training.captured_step import Captured, Gradients
from lmsl_kernels import attention
from lmsl_kernels.flash import launch

TOY = Scope(device=torch.device("cpu"), toy=True)
CELLS, BUFFERS = cells(TOY), buffers(TOY)
interpreted = pytest.mark.skipif(
    not launch.INTERPRETED, reason="the kernels run here only with TRITON_INTERPRET=1"
)


def sdpa(*leaves: Tensor, impl: str, **arguments: Any) -> Tensor:
    """Stands in where kernels would do."""
    return attention(*leaves, impl="sdpa", **arguments)


def drifting() -> Callable[..., Tensor]:
    calls = 0

    def call(*leaves: Tensor, **arguments: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return sdpa(*leaves, **arguments) * (1 + 1e-6 * (calls % 2))

    return call


def last_is_off() -> Callable[..., Tensor]:
    def call(*leaves: Tensor, **arguments: Any) -> Tensor:
        out = sdpa(*leaves, **arguments)
        weights = torch.ones(out.shape[:1] + (1,) * (out.dim() - 1))
        weights[-1] = 1.001
        return out * weights

    return call


def frozen() -> Callable[..., Tensor]:
    """The lengths of the capture, whatever the buffers hold."""
    first: list[Any] = []

    def call(*leaves: Tensor, plan: Any, **arguments: Any) -> Tensor:
        first.append(replace(plan, cu_seqlens=plan.cu_seqlens.clone()))
        return sdpa(*leaves, plan=first[0], **arguments)

    return call


@interpreted
@pytest.mark.parametrize(
    ("fault", "proof", "arguments", "expected"),
    [
        (drifting, repeats_are_equal, (CELLS[0],), "repeat 1 differs in out"),
        (last_is_off, copies_are_equal, (64, 32, False), "out of equal sentences differs"),
        (last_is_off, copies_are_equal, (64, 8, True), "out of equal sentences differs"),
        (frozen, replays_are_fresh, (BUFFERS[0], True), "is off by"),
    ],
    ids=["other bits", "last copy", "last copy of a batch", "other lengths"],
)
def test_wrong_attention_is_found(
    fault: Callable[[], Any],
    proof: Callable[..., None],
    arguments: tuple[Any, ...],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the proof that is there to find it, which our kernels pass."""
    figures = ({},) if proof is copies_are_equal else ()
    proof(*arguments, TOY, *figures)
    monkeypatch.setattr(peers, "attention", fault())
    with pytest.raises(AssertionError, match=expected):
        proof(*arguments, TOY, *figures)


@interpreted
def test_one_launch_too_many_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: dict[str, Any] = {}
    part_f_launches.test_few_launches_and_no_waiting("sentences", TOY, figures)
    assert figures["ours"] == (1, 1)
    monkeypatch.setitem(part_f_launches.REGIMES, "sentences", (32, (1, 0)))
    with pytest.raises(AssertionError, match=r"\(1, 1\) launches"):
        part_f_launches.test_few_launches_and_no_waiting("sentences", TOY, {})


@interpreted
@pytest.mark.parametrize(("drift", "expected"), [(0.1, "outputs"), (1e-7, "other bits")])
def test_small_operations_that_are_off_are_found(
    drift: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off by more than rounding, and other bits when computed again."""
    calls = []

    def off(gate_up: Tensor) -> Tensor:
        calls.append(1)
        return triton_ops().swiglu_forward(gate_up) * (1 + drift * len(calls))

    wrong = replace(triton_ops(), swiglu_forward=off)
    cases = part_l_operations.cases(TOY)
    assert len(cases) == 14
    (case,) = (one for one in cases if (one.operation, one.dtype) == ("SwiGLU", torch.float32))
    part_l_operations.test_exact_and_the_same_bits_again(case, TOY)
    monkeypatch.setattr(part_l_operations, "triton_ops", lambda: wrong)
    with pytest.raises(AssertionError, match=expected):
        part_l_operations.test_exact_and_the_same_bits_again(case, TOY)


def trained(figures: dict[str, Any] | None = None) -> None:
    part_j_replays.test_replayed_steps_are_eager_steps(TOY, {} if figures is None else figures)


def predicted(figures: dict[str, Any] | None = None) -> None:
    own = {} if figures is None else figures
    part_j_replays.test_replayed_forwards_are_eager_forwards(TOY, own)


@pytest.mark.parametrize("replays", [trained, predicted])
def test_replays_pass(replays: Callable[[dict[str, Any]], None]) -> None:
    found: dict[str, Any] = {}
    replays(found)
    assert found["batches"] >= 3 and found["rooms"] >= 1 and 0 < found["of_allowed"] < 1
    times = [one for name, one in found.items() if name.startswith("ms")]
    for ms in (one for both in times for one in both.values()):
        assert 0 < ms["lowest"] <= ms["median"] <= ms["highest"]


@pytest.mark.parametrize("fault", ["labels", "place", "sums"])
def test_what_is_not_loaded_or_kept_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels and dropout of an earlier batch; gradients that are replaced instead of added."""
    load = Captured.load

    def forgetful(self: Captured, *arguments: Any) -> None:
        kept = self._pack.read().labels if fault == "labels" else self._place
        before = kept.clone()
        load(self, *arguments)
        # The first batch of a room meets memory that was loaded for itself.
        if hasattr(self, "replay"):
            kept.copy_(before)

    def twice(self: Gradients, objective: torch.Tensor) -> None:
        found = torch.autograd.grad(objective, self._parameters)
        torch._foreach_add_(self._sums, found, alpha=2)

    if fault == "sums":
        monkeypatch.setattr(Gradients, "add", twice)
    else:
        monkeypatch.setattr(Captured, "load", forgetful)
    with pytest.raises(AssertionError, match="a replay is off by"):
        trained()


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
    expected = "adapters changed" if fault == "weights" else "a replay is off by"
    with pytest.raises(AssertionError, match=expected):
        predicted()


def test_masks_of_another_step_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = dropout.dropout_mask

    def later_each_time(clock: Any, **settings: Any) -> torch.Tensor:
        clock.step += 1
        return honest(clock, **settings)

    part_j_replays.test_dropout_is_that_of_the_host(TOY)
    monkeypatch.setattr(part_j_replays, "dropout_mask", later_each_time)
    with pytest.raises(AssertionError, match="dropout of 33 features is not that of the host"):
        part_j_replays.test_dropout_is_that_of_the_host(TOY)
