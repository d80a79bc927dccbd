"""Unsloth as a contender: the side of it that lives with the others.

Unsloth's own environment runs ``benchmarks.train_step.unsloth_child``, one program for each
contender, which is told by lines of JSON when to make an update; so it takes its turns with all
others, and waiting for its answer, some tens of microseconds, is on its time. Model, batches and
the start for the comparison are handed over as files.
"""

import json
import os
import select
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from benchmarks.shared.machine import REPOSITORY
from benchmarks.shared.model_folder import write_model
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


def why_no_unsloth(python: str) -> str | None:
    """Why an environment cannot run Unsloth, as far as that shows without importing it."""
    asked = "import importlib.util as u, sys; sys.exit(3 * (u.find_spec('unsloth') is None))"
    try:
        status = subprocess.run([python, "-c", asked], env=_environment(), timeout=60).returncode
    except (OSError, subprocess.SubprocessError) as error:
        return f"{python} does not run: {error}"
    return None if status == 0 else "no package unsloth; name its Python by --unsloth"


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
        self._folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        ours = perturbed(compared(work).but(resident="no"))
        self._expected = next(our_updates(ours, compared(work), train=False))
        self._work = work
        _write(self._folder, work, ours, model, updates)
        del ours
        tidy(work.place.device)
        self._errors = running.enter_context(open(self._folder / "errors", "w+b"))  # noqa: SIM115
        self._program = running.enter_context(
            subprocess.Popen(
                [python, "-m", "benchmarks.train_step.unsloth_child", str(self._folder)],
                # It leaves what it compiled where it runs.
                cwd=self._folder,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
        )
        # Called before the program is waited for.
        running.callback(self._program.kill)
        self.versions: dict[str, Any] = self._answer()["versions"]

    def agreement(self, name: str) -> Agreement:
        """One update of ours, NF4, beside Unsloth's."""
        its = self._told({"do": "gate"})
        return against(f"NF4, {name}", self._work, self._expected, **its)

    def step(self) -> int:
        """One update; its real tokens."""
        return int(self._told({"do": "update"})["tokens"])

    def peak(self) -> int | None:
        """The most bytes in use during an update; another process's, so counted there."""
        found: int | None = self._told({"do": "peak"})["bytes"]
        return found

    def trace(self, path: Path) -> None:
        """See ``step_cost.trace``."""
        self._told({"do": "trace", "path": str(path.absolute())})

    def _told(self, order: dict[str, Any]) -> dict[str, Any]:
        try:
            stdin = self._pipe(self._program.stdin)
            stdin.write(json.dumps(order).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            # It has ended; with what words is said where its answer is waited for.
            pass
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        stdout = self._pipe(self._program.stdout)
        ready, _, _ = select.select([stdout], [], [], _MOST_SECONDS)
        line = stdout.readline() if ready else b""
        if not line:
            end = "it ended" if ready else f"no answer within {_MOST_SECONDS:.0f} s"
            raise CannotRun(f"{end}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe


def write_shared_model(work: Work, running: ExitStack) -> Path:
    """The model of the work as a folder, which all trainers read."""
    folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
    write_model(work.base(), folder)
    return folder


def _write(folder: Path, work: Work, ours: Assembled, model: Path, updates: int) -> None:
    """``settings.json`` and ``work.pt`` of a program."""
    config, hidden = work.config, ours.tagger.head.hidden
    batches = _batches(work, updates)
    settings = {
        "model": str(model),
        "device": str(work.place.device),
        "dtype": str(work.place.dtype).removeprefix("torch."),
        "max_length": max(part["ids"].shape[1] for update in batches for part in update),
        "rank": config.lora_rank,
        "alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "targets": list(ours.lora.targets),
        "head_dropout": config.head_dropout,
        "seed": config.seed[0],
        "lr": default_lr(hidden),
        "beta2": config.beta2,
        "epsilon": config.epsilon,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    adapters = {
        name: (layer.lora_A[0].detach().cpu(), layer.lora_B[0].detach().cpu())
        for name, layer in stacked_layers(ours.tagger.decoder).items()
    }
    head = {
        "weight": ours.tagger.head.weight[0].detach().float().cpu(),
        "bias": ours.tagger.head.bias[0].detach().float().cpu(),
    }
    torch.save({"batches": batches, "adapters": adapters, "head": head}, folder / "work.pt")


def _batches(work: Work, updates: int) -> list[list[dict[str, Any]]]:
    """The forwards of the first updates: ids padded on the right, and where in them the labelled
    words end."""
    drawn = draw_updates(len(work.task), work.config, work.config.seed[0])
    return [
        [_batch(work, part) for part in parts(sentences, work.micro)]
        for sentences in islice(drawn, updates)
    ]


def _batch(work: Work, sentences: Sequence[int]) -> dict[str, Any]:
    examples = [example for index in sentences for example in work.task.examples[index]]
    padded = collate(examples, work.task.labels, 0)
    labels = padded["labels"].flatten()
    places = torch.from_numpy(np.flatnonzero(labels.numpy() != IGNORED_ID))
    return {
        "ids": padded["input_ids"],
        "places": places,
        "labels": labels[places],
        "tokens": sum(len(example.ids) for example in examples),
    }


def _environment() -> dict[str, str]:
    """Of Unsloth's program: it finds this repository, and looks for nothing on the network."""
    paths: Sequence[str] = (str(REPOSITORY), os.environ.get("PYTHONPATH", ""))
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "HF_HUB_OFFLINE": "1",
        "UNSLOTH_DISABLE_STATISTICS": "1",
    }
