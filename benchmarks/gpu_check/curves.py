"""Part of ``benchmarks.gpu_check`` about learning: ours and the padded peer, two seeds each."""

from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.gpu_check.scope import Scope, Skipped
from benchmarks.shared.labelled import SYNTHETIC, labelled, prepare
from benchmarks.shared.loss_curves import OURS, PEER, compare
from benchmarks.train_step.pair import learnt
from benchmarks.train_step.work import labelled_work
from lmsl.config.config import Config
from lmsl.training.stack import Place

SEEDS = (1, 2)


def loss_curves(scope: Scope) -> dict[str, Any]:
    """`tiny` on generated sentences by ours and by transformers, with dropout: losses alike.

    On a GPU in bfloat16 over 200 updates; on a CPU in float32.
    """
    missing = [name for name in ("bitsandbytes", "peft") if find_spec(name) is None]
    if missing:
        raise Skipped(f"{' and '.join(missing)} cannot be imported")
    # Batches this small are slower on two cores than on one.
    prepare(1 if scope.device.type == "cpu" else None)
    updates, size = (24, 4) if scope.toy else (200, 16)
    dtype = torch.float32 if scope.device.type == "cpu" else torch.bfloat16
    config = Config(
        # The peer is causal.
        unmask=("causal",),
        batch_size=size,
        epochs=2,
        schedule="constant",
        warmup=0.0,
    )
    data = labelled(SYNTHETIC, "train", updates * size // 2)
    work = labelled_work(data, config, Place(device=scope.device, dtype=dtype))
    curves: dict[str, dict[str, list[float]]] = {OURS: {}, PEER: {}}
    answer: dict[str, Any] = {"faults": [], "curves": curves, "updates": updates}
    for seed in SEEDS:
        for who, losses in learnt(work, seed, updates).items():
            curves[who][str(seed)] = losses
        scope.note(answer)
    found, allowed, answer["faults"] = compare(curves)
    answer["distances"] = {seed: asdict(one) for seed, one in found.items()}
    answer["allowed"] = asdict(allowed)
    for who in curves:
        for key, losses in curves[who].items():
            # Were nothing learnt, the curves would say nothing.
            if not losses[-1] < 0.8 * losses[0]:
                answer["faults"].append(f"{who}, seed {key}: it learns nothing")
    return answer
