"""The state of an interrupted run: weights, optimizer, the weights selected so far, how far it is.

Order and dropout are functions of seed and step, so no generator state has to be kept: a resumed
run makes the same updates as one that was never stopped.
"""

import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lmsl.errors import InputError
from lmsl.run_directory.digests import Digests, changed
from lmsl.run_directory.files import write_whole
from lmsl.run_directory.folder import CHECKPOINT
from lmsl.training.loop import Update
from lmsl.wording import one_line

_FILES = ("state.pt", "before.pt")
"""The newest state and the one before it."""
_MOMENTS = ("exp_avg", "exp_avg_sq", "state1", "state2")
"""What AdamW and its 8-bit form keep for each element of a parameter."""
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    NotImplementedError,
    zipfile.BadZipFile,
    pickle.UnpicklingError,
)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a run is made of: runs that differ in it must not go on in each other's place."""

    config: str
    """Its ``config.yaml``."""
    digests: Digests = field(default_factory=Digests)
    """Of base and data."""


@dataclass(kw_only=True)
class Progress:
    """How far a run is, and the best it has been."""

    updates: int = 0
    warmed: bool = False
    """The warm-up is behind it (``--warmup-mntp``)."""
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

    @property
    def begun(self) -> bool:
        """Whether there is anything that a checkpoint would keep."""
        return self.warmed or self.updates > 0

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
    origin: Origin,
) -> None:
    """Write the state of a run whole or not at all; the one before it is kept.

    Args:
        origin: guards against mixing runs.
    """
    (folder / CHECKPOINT).mkdir(parents=True, exist_ok=True)
    state = {
        "progress": vars(progress),
        "weights": snapshot(parameters),
        "optimizer": optimizer.state_dict(),
        "config": origin.config,
        "base": origin.digests.base,
        "data": origin.digests.data,
    }
    # torch reports a full disk as a RuntimeError without a reason; writing bytes says what it is.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    newest, before = (folder / CHECKPOINT / name for name in _FILES)
    if newest.exists():
        os.replace(newest, before)
    write_whole(newest, buffer.getvalue())


def load_checkpoint(
    folder: Path,
    parameters: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    origin: Origin,
) -> Progress | None:
    """Put a run back where its checkpoint left it; None where there is none.

    Names and shapes are checked before anything is copied.

    Raises:
        InputError: the checkpoint belongs to a run with other settings, base or data, cannot be
            read, or holds other tensors.
    """
    state = _read(folder, origin, lambda line: None)
    if state is None:
        return None
    progress: Progress = state["progress"]
    place = folder / CHECKPOINT
    _refuse_other_tensors(f"{place}: weights", state["weights"], parameters)
    if progress.kept_weights:
        _refuse_other_tensors(f"{place}: kept weights", progress.kept_weights, parameters)
    fresh = optimizer.state_dict()
    try:
        optimizer.load_state_dict(state["optimizer"])
        _refuse_other_moments(optimizer)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        optimizer.load_state_dict(fresh)
        raise InputError(
            f"{place}: the optimizer's state is of another model ({error!r:.80}); begin anew with "
            "--overwrite"
        ) from error
    restore(parameters, state["weights"])
    return progress


def read_progress(
    folder: Path, origin: Origin, say: Callable[[str], None] = lambda line: None
) -> Progress | None:
    """How far the checkpoint of a run is; None where there is none. Raises as above."""
    state = _read(folder, origin, say)
    return None if state is None else state["progress"]


def _read(folder: Path, origin: Origin, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest state that can be read, of the same origin."""
    reasons = []
    for name in _FILES:
        file = folder / CHECKPOINT / name
        if not file.exists():
            continue
        try:
            state = _state(file.read_bytes())
        except _UNREADABLE as error:
            reasons.append(f"{file}: not a checkpoint ({one_line(error):.80})")
            continue
        if reasons:
            done = state["progress"].updates
            say(f"{reasons[0]}; going on from the one before it, update {done}")
        refuse_other_settings(folder, state["config"], origin.config)
        made_of = Digests(base=state["base"], data=state["data"])
        refuse_other_origin(folder, made_of, origin.digests)
        return state
    if reasons:
        raise InputError(f"{reasons[0]}; begin anew with --overwrite")
    return None


def _state(content: bytes) -> dict[str, Any]:
    """What a checkpoint holds; torch itself does not look at the checksums in its files."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"checksum of {damaged}")
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    state["progress"] = Progress(**state["progress"])
    missing = {"weights", "optimizer", "config", "base", "data"} - state.keys()
    if missing:
        raise LookupError(f"no {min(missing)} in it")
    return state


def _refuse_other_tensors(
    place: str, found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]
) -> None:
    """Raise InputError for the first tensor that is missing, too much, or of another shape."""
    for name in sorted({*found, *wanted}):
        shapes = [list(t[name].shape) if name in t else "none" for t in (wanted, found)]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"{place}: {name}: expected {shapes[0]}, found {shapes[1]}; begin anew with "
                "--overwrite"
            )


def _refuse_other_moments(optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError where a moment has another shape than its parameter."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            for name in _MOMENTS:
                if name in state and state[name].shape != parameter.shape:
                    raise ValueError(f"{name}: {list(state[name].shape)}")


def refuse_other_origin(folder: Path, before: Digests, now: Digests) -> None:
    """Raise InputError where a run in ``folder`` was made of another base or other data."""
    for what, then, today in (
        ("base model", before.base, now.base),
        ("data", before.data, now.data),
    ):
        # Of a model without files nothing was recorded.
        if then and (names := changed(then, today)):
            raise InputError(
                f"--resume {folder}: the {what} changed since that run began "
                f"({', '.join(names)}); put it back, or begin anew with --overwrite"
            )


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
