"""The folder of a run: whether one may go there, whether it is whole, and clearing it.

``lmsl.json`` holds everything that prediction needs beside the weights; ``config.yaml`` everything
that repeating the run needs. ``lmsl.json`` is written last: a folder without it is not a run.
"""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from lmsl.errors import InputError, TrainingError
from lmsl.run_directory.info import CHECKPOINT, INFO

PRUNED = "pruned.json"
MODEL_FILES = ("model.safetensors", "config.json")
"""Of a run of which all weights were trained: the model itself."""
_ADAPTER = ("adapter_model.safetensors", "adapter_config.json")
_LOADED = (*_ADAPTER, *MODEL_FILES, "head.safetensors")
_REPORTED = (
    "predictions.dev.conll",
    "predictions.test.conll",
    "answers.dev.jsonl",
    "answers.test.jsonl",
)
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "additional_chat_templates",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
)
_OURS = (
    *_LOADED,
    *_REPORTED,
    *_TOKENIZER,
    INFO,
    "metrics.json",
    "config.yaml",
    "influence.json",
    "log.jsonl",
    "README.md",
    "report.html",
    CHECKPOINT,
    PRUNED,
)


def is_loaded(name: str) -> bool:
    """Whether answers hang on this file of a run; its tokenizer is there for other programs."""
    return name in _LOADED or name in _TOKENIZER


def final_files(folder: Path) -> list[str]:
    """The files of a finished run whose change would change answers or reports."""
    return [n for n in (*_LOADED, *_REPORTED, *_TOKENIZER) if (folder / n).is_file()]


def check_output(folder: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse, before anything is computed or created, a folder that a run must not go to.

    Raises:
        InputError: it cannot be written to, holds a run (or an unfinished one) and neither flag
            says what to do, or holds other things.
    """
    check_place(folder)
    finished, unfinished = is_finished(folder), (folder / CHECKPOINT).exists()
    if is_pruned(folder) and not (overwrite or resume):
        raise InputError(
            f"--output {folder}: holds a run that a sweep with --prune dropped; choose another "
            "folder, or --overwrite"
        )
    if finished and not (overwrite or resume):
        raise InputError(
            f"--output {folder}: holds a run already; choose another folder, or --overwrite"
        )
    if unfinished and not (overwrite or resume):
        raise InputError(
            f"--output {folder}: holds an interrupted run; go on with it by --resume, or replace "
            "it by --overwrite"
        )
    # Names with a dot in front are the system's, or what an interrupted write left behind.
    foreign = sorted(
        path.name
        for path in folder.glob("*")
        if path.name not in _OURS and not path.name.startswith(".")
    )
    if foreign:
        found = ", ".join(foreign[:3]) + (" ..." if len(foreign) > 3 else "")
        raise InputError(f"--output {folder}: expected an empty folder or a run, found {found}")


def check_sweep(folder: Path) -> None:
    """Refuse, for several runs, a folder that is one run itself."""
    check_place(folder)
    if is_finished(folder) or (folder / CHECKPOINT).exists():
        raise InputError(
            f"--output {folder}: expected a folder for several runs, found a run; choose another"
        )


def check_place(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to, as far as that shows beforehand."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"--output {folder}: expected a folder, but {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"--output {folder}: cannot be written (no permission in {there})")


def next_folder() -> Path:
    """The first of ``runs/1``, ``runs/2``, ... that is not there yet."""
    return next(path for n in count(1) if not (path := Path("runs") / str(n)).exists())


def is_finished(folder: Path) -> bool:
    """Whether the folder holds a whole run."""
    return (folder / INFO).is_file()


def is_pruned(folder: Path) -> bool:
    """Whether a sweep dropped the run of this folder before its end."""
    return (folder / PRUNED).is_file()


def clear(folder: Path) -> None:
    """Remove the files of a run, ``lmsl.json`` first."""
    for path in (folder / INFO, *(folder / name for name in _OURS)):
        _remove(path)
    sweep_leftovers(folder)


def sweep_leftovers(folder: Path) -> None:
    """Remove what a killed process left: half-written files, and the checkpoint of a run that has
    ended. Nobody else may be at work there."""
    for path in folder.glob(".*.tmp"):
        _remove(path)
    if is_finished(folder) or is_pruned(folder):
        _remove(folder / CHECKPOINT)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def making(folders: Sequence[Path], *, overwrite: bool) -> Iterator[None]:
    """Makes the folders of runs, emptied on request; takes back those that nothing came of."""
    for folder in folders:
        with writing(folder):
            if overwrite:
                clear(folder)
            sweep_leftovers(folder)
            folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in folders:
            # Fails, as it should, where there is anything in it.
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns a full disk or a forbidden folder into one line for people."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TrainingError(
                f"{folder}: the disk is full; free some space and go on with --resume"
            ) from error
        reason = error.strerror or str(error)
        raise InputError(f"--output {folder}: cannot be written ({reason})") from error
