"""One part of ``benchmarks.gpu_check``, in a process of its own.

    python -m benchmarks.gpu_check.part a --device cuda --seconds 60

A kernel that reads where it must not takes its process and CUDA context along; so each part has
its own, and the others go on.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.attention.runs import warm_up
from benchmarks.gpu_check.curves import loss_curves
from benchmarks.gpu_check.device import compiles, graphs, launches
from benchmarks.gpu_check.model import models
from benchmarks.gpu_check.numerics import determinism, huge, numerics
from benchmarks.gpu_check.scope import Scope, Skipped
from benchmarks.gpu_check.small_operations import small_operations
from benchmarks.gpu_check.step import training_step
from benchmarks.gpu_check.tools import memcheck, train
from benchmarks.shared.flags import choose_device, parse_share
from benchmarks.shared.record import write_json
from lmsl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is checked, and how long it may take."""

    name: str
    run: Callable[[Scope], dict[str, Any]]
    """Answers with ``faults``, empty when all is well, and with what it found."""
    seconds: float
    shares: int = 1
    """Processes it is divided among."""


def _warm_up(scope: Scope) -> dict[str, Any]:
    scope.need_cuda()
    warm_up(scope.device, *scope.share)
    return {"faults": []}


PARTS: dict[str, Part] = {
    "a": Part(name="numerics", run=numerics, seconds=170, shares=8),
    "b": Part(name="determinism", run=determinism, seconds=90),
    "c": Part(name="memcheck", run=memcheck, seconds=170),
    "d": Part(name="more than 2**31 elements", run=huge, seconds=110),
    "e": Part(name="CUDA graphs", run=graphs, seconds=90),
    "f": Part(name="launches and waiting", run=launches, seconds=90),
    "g": Part(name="compiles once", run=compiles, seconds=120),
    "h": Part(name="models", run=models, seconds=150),
    "j": Part(name="training step", run=training_step, seconds=90),
    "k": Part(name="loss curves", run=loss_curves, seconds=200),
    "l": Part(name="small operations", run=small_operations, seconds=120),
    "w": Part(name="compile what i times", run=_warm_up, seconds=150, shares=3),
    "t": Part(name="train.py with NF4", run=train, seconds=120),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one part; 0 passed, 1 failed, 2 bad input, 3 skipped."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check.part")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--share", default="0/1", help="which share of the work, K/N from 0")
    parser.add_argument("--toy", action="store_true", help="toy sizes")
    parser.add_argument("--record", type=Path, help="JSON that the answer is written to")
    given = parser.parse_args(argv)
    try:
        scope = Scope(
            device=choose_device(given.device),
            ends=time.monotonic() + given.seconds,
            toy=given.toy,
            share=parse_share("--share", given.share),
            record=given.record,
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    record = run_part(PARTS[given.part], scope)
    if given.record is not None:
        write_json(given.record, record)
    print(json.dumps(record, indent=1))
    return {"passed": 0, "failed": 1, "skipped": 3}[record["status"]]


def run_part(part: Part, scope: Scope) -> dict[str, Any]:
    """Status, reason and answer of one part, whatever happens in it."""
    began = time.monotonic()
    record: dict[str, Any]
    try:
        answer = part.run(scope)
        if scope.device.type == "cuda":
            # What a kernel broke may only show at the next wait.
            torch.cuda.synchronize()
        faults = answer["faults"]
        reason = f"{len(faults)} faults, the first: {faults[0]}" if faults else None
        record = {"status": "failed" if faults else "passed", "reason": reason, "answer": answer}
    except Skipped as skipped:
        record = {"status": "skipped", "reason": str(skipped), "answer": {}}
    # A part may fail in any way; which one is what the record is for.
    except Exception as error:
        trace = traceback.format_exc()[-3000:]
        reason = f"{type(error).__name__}: {error!s:.300}"
        record = {"status": "failed", "reason": reason, "answer": {"trace": trace}}
    return record | {"seconds": round(time.monotonic() - began, 2)}


if __name__ == "__main__":
    sys.exit(main())
