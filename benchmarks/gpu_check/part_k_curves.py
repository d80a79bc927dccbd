"""Part k: 200 updates by ours and by the padded peer, two seeds each, learn alike."""

from dataclasses import asdict
from typing import Any

import pytest
import torch

from benchmarks.gpu_check.scope import Scope, agree
from benchmarks.shared.labelled import SYNTHETIC, labelled, prepare
from benchmarks.shared.loss_curves import OURS, PEER, compare
from benchmarks.train_step.pair import learnt
from benchmarks.train_step.work import labelled_work
from lmsl.config.config import Config
from lmsl.training.stack import Place

pytestmark = pytest.mark.gpu


def test_curves_are_alike(scope: Scope, figures: dict[str, Any]) -> None:
    """`tiny` on generated sentences with dropout; on a GPU in bfloat16, on a CPU in float32."""
    scope.need_packages("bitsandbytes", "peft")
    # Batches this small are slower on two cores than on one.
    prepare(None if scope.cuda else 1)
    updates, size = (12, 3) if scope.toy else (200, 16)
    config = Config(
        # The peer is causal.
        unmask=("causal",),
        batch_size=size,
        # What bitsandbytes does on a CPU takes most of the time.
        quantize="none" if scope.toy else "nf4",
        epochs=2,
        schedule="constant",
        warmup=0.0,
    )
    data = labelled(SYNTHETIC, "train", updates * size // 2)
    dtype = torch.bfloat16 if scope.cuda else torch.float32
    work = labelled_work(data, config, Place(device=scope.device, dtype=dtype))
    curves: dict[str, dict[str, list[float]]] = {OURS: {}, PEER: {}}
    figures |= {"curves": curves, "updates": updates}
    for seed in (1, 2):
        for who, losses in learnt(work, seed, updates).items():
            curves[who][str(seed)] = losses
    found, allowed, faults = compare(curves)
    figures["distances"] = {seed: asdict(one) for seed, one in found.items()}
    figures["allowed"] = asdict(allowed)
    # Were nothing learnt, the curves would say nothing.
    faults += [
        f"{who}, seed {seed}: it learns nothing"
        for who, seeds in curves.items()
        for seed, losses in seeds.items()
        if not losses[-1] < 0.8 * losses[0]
    ]
    agree(faults)
