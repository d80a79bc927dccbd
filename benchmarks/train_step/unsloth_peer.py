"""Unsloth as a contender: the side of it that lives with the others.

Unsloth's own environment runs ``benchmarks.train_step.unsloth_child``, one program for each
contender, which is told by a line when to make an update; so it takes its turns with all others,
and waiting for its answer, some tens of microseconds, is on its time. Model, batches and the start
for the comparison are handed over as files.
"""

import json
import os
import select
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.shared.machine import REPOSITORY
from benchmarks.shared.timing import CannotRun, tidy
from benchmarks.train_step.gate import Agreement, against, compared, perturbed
from benchmarks.train_step.peer_steps import collate, parts
from benchmarks.train_step.work import Work, our_updates
from lmsl.data.tags.vocabulary import IGNORED_ID
from lmsl.layers.lora import stacked_layers
from lmsl.tagger.assemble import Assembled
from lmsl.training.optim import default_lr
from lmsl.training.schedule import draw_updates

# Loading 7B, importing everything, and compiling what the first update needs.
_MOST_SECONDS = 420.0


class Unsloth:
    """One trainer by Unsloth, in a program of its own.

    Args:
        work: its model, adapters and updates.
        python: of Unsloth's environment.
        model: folder by ``write_model``.
        updates: that it will be asked for.
        running: ends the program.

    Raises:
        CannotRun: it ended, or did not answer in time.
    """

    def __init__(
        self, work: Work, *, python: str, model: Path, updates: int, running: ExitStack
    ) -> None:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        self._work, self._expected = work, write_work(folder, work, model, updates)
        tidy(work.place.device)
        self._said = folder / "errors"
        errors = running.enter_context(self._said.open("wb"))
        paths = (str(REPOSITORY), os.environ.get("PYTHONPATH"))
        environment = {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "HF_HUB_OFFLINE": "1",
            "UNSLOTH_DISABLE_STATISTICS": "1",
        }
        program = running.enter_context(
            subprocess.Popen(
                [python, "-m", "benchmarks.train_step.unsloth_child", str(folder)],
                # It leaves what it compiled where it runs.
                cwd=folder,
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        )
        # Called before the program is waited for.
        running.callback(program.kill)
        assert program.stdin is not None and program.stdout is not None
        self._orders, self._answers = program.stdin, program.stdout
        self._its = self._answer()
        self.versions: dict[str, Any] = self._its.pop("versions")

    def agreement(self, name: str) -> Agreement:
        """One update of ours, NF4, beside Unsloth's."""
        return against(f"NF4, {name}", self._work, self._expected, **self._its)

    def step(self) -> int:
        """One update; its real tokens."""
        return int(self._told("update")["tokens"])

    def peak(self) -> int | None:
        """The most bytes in use during an update; another process's, so counted there."""
        found: int | None = self._told("peak")["bytes"]
        return found

    def trace(self, path: Path) -> None:
        """See ``step_cost.trace``."""
        self._told(f"trace {path.absolute()}")

    def _told(self, order: str) -> dict[str, Any]:
        # Where it has ended, its last words are told when its answer is waited for.
        with suppress(BrokenPipeError):
            self._orders.write(f"{order}\n".encode())
            self._orders.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        ready, _, _ = select.select([self._answers], [], [], _MOST_SECONDS)
        line = self._answers.readline() if ready else b""
        if not line:
            end = "it ended" if ready else f"no answer within {_MOST_SECONDS:.0f} s"
            words = self._said.read_text(errors="replace").strip() or "it said nothing"
            raise CannotRun(f"{end}: {words.splitlines()[-1]:.300}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def write_work(folder: Path, work: Work, model: Path, updates: int) -> Any:
    """``work.pt`` of a program; what one update of ours makes of the same beginning."""
    ours = perturbed(compared(work).but(resident="no"))
    torch.save(_given(work, ours, model, updates), folder / "work.pt")
    return next(our_updates(ours, compared(work), train=False))


def _given(work: Work, ours: Assembled, model: Path, updates: int) -> dict[str, Any]:
    config, head = work.config, ours.tagger.head
    drawn = islice(draw_updates(len(work.task), config, config.seed[0]), updates)
    batches = [[_batch(work, part) for part in parts(update, work.micro)] for update in drawn]
    return {
        "batches": batches,
        "device": str(work.place.device),
        "dtype": str(work.place.dtype).removeprefix("torch."),
        "max_grad_norm": config.max_grad_norm,
        "model": {
            "model_name": str(model),
            "max_seq_length": max(part["ids"].shape[1] for update in batches for part in update),
        },
        "lora": {
            "r": config.lora_rank,
            "lora_alpha": config.lora_alpha,
            "lora_dropout": config.lora_dropout,
            "target_modules": list(ours.lora.targets) if ours.lora else [],
            "random_state": config.seed[0],
        },
        "adamw": {
            "lr": default_lr(head.hidden),
            "betas": (0.9, config.beta2),
            "eps": config.epsilon,
            "weight_decay": config.weight_decay,
        },
        "adapters": {
            name: (layer.lora_A[0].detach().cpu(), layer.lora_B[0].detach().cpu())
            for name, layer in stacked_layers(ours.tagger.decoder).items()
        },
        "head": {
            name: getattr(head, name)[0].detach().float().cpu() for name in ("weight", "bias")
        },
        "head_dropout": config.head_dropout,
    }


def _batch(work: Work, sentences: Sequence[int]) -> dict[str, Any]:
    """One forward: ids padded on the right, and where in them the labelled words end."""
    examples = [example for index in sentences for example in work.task.examples[index]]
    padded = collate(examples, work.task.labels, 0)
    labels = padded["labels"].flatten()
    places = (labels != IGNORED_ID).nonzero()[:, 0]
    tokens = sum(len(example.ids) for example in examples)
    return {
        "ids": padded["input_ids"],
        "places": places,
        "labels": labels[places],
        "tokens": tokens,
    }
