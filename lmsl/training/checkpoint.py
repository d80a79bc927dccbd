"""The state of an interrupted run: weights, optimizer, the weights selected so far, how far it is.

Order and dropout are functions of seed and step, so no generator state has to be kept: a resumed
run makes the same updates as one that was never stopped.
"""

import io
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lmsl.errors import InputError
from lmsl.run_directory.files import write_whole
from lmsl.run_directory.folder import CHECKPOINT
from lmsl.training.loop import Update

_FILE = "state.pt"
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    pickle.UnpicklingError,
)


@dataclass(kw_only=True)
class Progress:
    """How far a run is, and the best it has been."""

    updates: int = 0
    seconds: float = 0.0
    """Spent on updates and evaluation so far."""
    best_score: float = -1.0
    """Best dev score of any epoch."""
    kept_epoch: int = 0
    kept_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    """Those of the best epoch, or of the last one, as ``--select`` says."""
    bad_epochs: int = 0
    """Epochs since the best one."""
    counts: torch.Tensor | None = None
    """int64 [dev sentences, 3]: gold, predicted and correct entities at the last evaluation, where
    runs are compared by them (``--prune``)."""

    def note(
        self,
        update: Update,
        score: float,
        seconds: float,
        trained: Mapping[str, torch.Tensor],
        *,
        keep_last: bool,
    ) -> None:
        """Take in an epoch's dev score; keep its weights if they are to be selected."""
        improved = score > self.best_score
        self.best_score = max(score, self.best_score)
        self.bad_epochs = 0 if improved else self.bad_epochs + 1
        self.updates, self.seconds = update.step, seconds
        if improved or keep_last:
            self.kept_epoch, self.kept_weights = update.epoch, snapshot(trained)


def snapshot(parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies of the trained parameters on the CPU."""
    return {name: p.detach().cpu().clone() for name, p in parameters.items()}


def restore(parameters: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> None:
    """Write copies back into the parameters, in place."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def save_checkpoint(
    folder: Path,
    progress: Progress,
    parameters: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    config: str,
) -> None:
    """Write the state of a run whole or not at all; ``config`` guards against mixing runs."""
    (folder / CHECKPOINT).mkdir(parents=True, exist_ok=True)
    state = {
        "progress": vars(progress),
        "weights": snapshot(parameters),
        "optimizer": optimizer.state_dict(),
        "config": config,
    }
    # torch reports a full disk as a RuntimeError without a reason; writing bytes says what it is.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(folder / CHECKPOINT / _FILE, buffer.getvalue())


def load_checkpoint(
    folder: Path,
    parameters: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    config: str,
) -> Progress | None:
    """Put a run back where its checkpoint left it; None where there is none.

    Raises:
        InputError: the checkpoint belongs to a run with other settings, or cannot be read.
    """
    state = _read(folder, config)
    if state is None:
        return None
    restore(parameters, state["weights"])
    optimizer.load_state_dict(state["optimizer"])
    progress: Progress = state["progress"]
    return progress


def read_progress(folder: Path, config: str) -> Progress | None:
    """How far the checkpoint of a run is; None where there is none. Raises as above."""
    state = _read(folder, config)
    return None if state is None else state["progress"]


def _read(folder: Path, config: str) -> dict[str, Any] | None:
    file = folder / CHECKPOINT / _FILE
    if not file.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        saved, state["progress"] = state["config"], Progress(**state["progress"])
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{file}: not a checkpoint ({reason:.100}); begin anew with --overwrite"
        ) from error
    refuse_other_settings(folder, saved, config)
    return state


def refuse_other_settings(folder: Path, before: str, now: str) -> None:
    """Raise InputError where a run in ``folder`` had another ``config.yaml`` than is asked now."""
    if before != now:
        known = before.splitlines()
        other = [line for line in now.splitlines() if line not in known]
        raise InputError(
            f"--resume {folder}: the run there had other settings; now: "
            f"{'; '.join(other[:3]) or 'fewer'}; repeat its flags, or --overwrite"
        )


def remove_checkpoint(folder: Path) -> None:
    """Forget the checkpoint of a run that is finished."""
    shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
