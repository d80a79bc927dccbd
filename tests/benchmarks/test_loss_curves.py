"""Ours and transformers with PEFT on padded batches learn alike, update by update.

Both are causal, with the same adapters and head, over the same sentences; what differs is padding,
the fused forward and backward, and the order of sums. Without dropout they agree to rounding; with
it they are held against the noise of two seeds, by the part of the GPU proof that does so at
length.
"""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.gpu_check.part_k_curves import test_curves_are_alike as curves_are_alike
from benchmarks.gpu_check.scope import Scope
from benchmarks.shared.loss_curves import OURS, PEER, compare, smoothed
from benchmarks.shared.machine import machine
from benchmarks.shared.plots import draw_curves
from benchmarks.train_step import pair as train_pair
from benchmarks.train_step.padded_peer import check_not_repacked
from benchmarks.train_step.pair import pair
from benchmarks.train_step.work import labelled_work
from lmsl.config.config import Config
from lmsl.data import synthetic

CONFIG = Config(
    unmask=("causal",),
    batch_size=6,
    epochs=2,
    schedule="constant",
    warmup=0.0,
    lora_dropout=0.0,
    head_dropout=0.0,
    resident="yes",
)


@pytest.mark.parametrize(("quantize", "steps", "fallen"), [("nf4", 8, 0.8), ("none", 4, 0.95)])
def test_updates_agree_one_by_one(quantize: str, steps: int, fallen: float) -> None:
    config = replace(CONFIG, quantize=quantize)
    data = synthetic.generate("train", synthetic.DEFAULT_DIAL, 3 * steps)
    work = labelled_work(data, config)
    both = pair(work)
    mine, its = list(islice(both.ours, steps)), list(islice(both.peer, steps))
    check_not_repacked(both.model)
    losses = [update.loss[0] for update in mine]
    assert len(losses) == len(its) == steps
    assert losses == pytest.approx([update.loss for update in its], rel=1e-4)
    norms = [update.grad_norm[0] for update in mine]
    assert norms == pytest.approx([update.grad_norm for update in its], rel=1e-3)
    # Were nothing learnt, the curves would say nothing.
    assert losses[-1] < fallen * losses[0]


TOY = Scope(device=torch.device("cpu"), toy=True)


def test_with_dropout_the_curves_agree_within_two_seeds() -> None:
    found: dict[str, Any] = {}
    curves_are_alike(TOY, found)
    for who in (OURS, PEER):
        assert {len(losses) for losses in found["curves"][who].values()} == {12}
    for seed in ("1", "2"):
        ours, peer = (found["curves"][who][seed] for who in (OURS, PEER))
        # Nothing is drawn before the first loss but dropout; a copy of one would be equal.
        assert ours != peer and ours[0] == pytest.approx(peer[0], rel=0.1)


@pytest.mark.slow
def test_a_peer_that_learns_otherwise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    build = train_pair.optimizer_of

    def slow(*arguments: Any) -> torch.optim.Optimizer:
        made = build(*arguments)
        for group in made.param_groups:
            group["lr"] *= 0.5
        return made

    monkeypatch.setattr(train_pair, "optimizer_of", slow)
    with pytest.raises(AssertionError, match="course"):
        curves_are_alike(TOY, {})


def curves(shift: float = 0.0, length: int = 200) -> dict[str, dict[str, list[float]]]:
    """Falling losses with the noise of batches, which both see alike, and some of their own."""
    generator = np.random.default_rng(5)
    steps = np.arange(length)
    made: dict[str, dict[str, list[float]]] = {OURS: {}, PEER: {}}
    for seed in ("1", "2"):
        batches = generator.normal(0, 0.1, length)
        for who in made:
            own = generator.normal(0, 0.02, length) + (shift if who == PEER else 0.0)
            made[who][seed] = (2 * np.exp(-steps / 60) + 0.3 + batches + own).tolist()
    return made


def test_what_is_allowed_is_the_noise_of_two_seeds() -> None:
    found, allowed, faults = compare(curves())
    assert not faults and 0 < found["1"].last < allowed.last < 0.05 > allowed.course
    _, _, faults = compare(curves(shift=0.1))
    assert len(faults) == 4 and faults[0].startswith("seed 1, last: 0.")
    broken = curves()
    broken[PEER]["2"][7] = float("nan")
    assert [fault.split(":")[0] for fault in compare(broken)[2]] == ["seed 2, course"]
    assert smoothed([1.0, 2.0, 6.0]).tolist() == [3.0]


def test_curves_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the optional extra `plots` is not installed")
    found = machine(torch.device("cpu"))
    draw_curves(curves(), found, tmp_path / "gpu_check_cpu.json")
    assert (tmp_path / "gpu_check_cpu_curves.png").read_bytes().startswith(b"\x89PNG")
