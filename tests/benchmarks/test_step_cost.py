"""What a step costs besides its time: gaps are counted as they are drawn by hand."""

import gzip
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.shared.lengths import known_lengths, length_task
from benchmarks.shared.step_cost import idle_share, operations, trace
from benchmarks.train_step.contenders import Workshop
from benchmarks.train_step.work import Work, our_updates
from lmsl.config.config import Config
from lmsl.layers.lora import trainable_parameters

CPU = torch.device("cpu")


def written(path: Path, *events: dict[str, Any]) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        json.dump({"traceEvents": events}, file)
    return path


def event(start: float, duration: float, kind: str = "kernel") -> dict[str, Any]:
    return {"ph": "X", "cat": kind, "name": "x", "ts": start, "dur": duration}


def test_gaps_between_what_a_device_does(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    # From 10 to 110; nothing from 40 to 50 and from 70 to 100. Two streams overlap, one event
    # lies within another, and they are not in order.
    busy = [event(100, 10), event(10, 20), event(25, 15, "gpu_memcpy"), event(50, 20)]
    within = event(52, 3, "gpu_memset")
    # Notes of the host, of named ranges and of no duration are nothing that a device does.
    notes = [event(0, 500, "cpu_op"), event(0, 500, "gpu_user_annotation")]
    other = {"ph": "i", "cat": "kernel", "ts": 45}
    written(path, *busy, within, *notes, other)
    assert idle_share(path) == pytest.approx(0.4)
    assert idle_share(written(path, event(3, 7))) == 0
    assert idle_share(written(path, *notes)) is None


def test_a_trace_of_a_cpu_holds_its_operators(tmp_path: Path) -> None:
    path, calls = tmp_path / "folder" / "trace.json.gz", 0

    def step() -> None:
        nonlocal calls
        calls += 1
        torch.mm(torch.ones(8, 8), torch.ones(8, 8))

    trace(step, CPU, path)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        names = [one.get("name") for one in json.load(file)["traceEvents"]]
    # One step warms up, one is kept.
    assert calls == 2 and names.count("aten::mm") == 1 and idle_share(path) is None
    assert operations(step, CPU)["shares"]["aten::mm"] > 0


def test_variants_of_ours_share_frozen_weights_and_nothing_else() -> None:
    task = length_task(known_lengths()["conll2003"], sentences=8, vocabulary=64, seed=1)
    config = Config(unmask=("0011",), model="shape:toy", batch_size=4, lr=1e-2)
    work = Work(config=config, task=task, classes=9)
    with ExitStack() as running:
        workshop = Workshop(work=work, running=running, unsloth="python", updates=9)
        first = work.but(resident="yes")
        plain = work.but(resident="yes", block="plain")
        one, other = workshop._assembled(first), workshop._assembled(plain)
    weights = [
        {layer.resident.data_ptr() for layer in each.tagger.modules() if hasattr(layer, "packed")}
        for each in (one, other)
    ]
    assert weights[0] == weights[1] and len(weights[0]) == 4 * 7
    trained = [
        {tensor.data_ptr() for tensor in trainable_parameters(each.tagger).values()}
        for each in (one, other)
    ]
    assert not trained[0] & trained[1]
    assert (one.tagger.block is None, other.tagger.block is None) == (False, True)
    # Who was there first trains on, and the second begins where it began.
    mine = [next(our_updates(each, first, train=True)).loss[0] for each in (one, one, other)]
    assert mine[2] == pytest.approx(mine[0], rel=1e-5) and mine[1] != mine[0]
