"""``OUTPUT/oneshot``: what a one-shot run leaves. Its log and, last, ``oneshot.json``.

It looks like a run directory but holds no weights: the strings that it puts first are trained for
real, in run directories of their own.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmsl.data.formats.source import read_text
from lmsl.errors import InputError
from lmsl.run_directory.digests import Digests
from lmsl.run_directory.files import write_json, write_text
from lmsl.run_directory.folder import CHECKPOINT, check_place, clear
from lmsl.run_directory.oneshot import RESULT, read_result
from lmsl.training.checkpoint import (
    refuse_other_origin,
    refuse_other_settings,
    remove_checkpoint,
)
from lmsl.training.runs import Run

SHORT = "short"
_SETTINGS = "config.yaml"
_OURS = {RESULT, SHORT, _SETTINGS, "log.jsonl", CHECKPOINT}


def check_folder(run: Run, *, overwrite: bool, resume: bool) -> None:
    """Refuse, before anything is computed, a folder that the one-shot must not go to.

    Raises:
        InputError: it holds one already and neither flag says what to do, one with other settings,
            or other things.
    """
    folder = run.folder
    check_place(folder)
    foreign = sorted(p.name for p in folder.glob("[!.]*") if p.name not in _OURS)
    if foreign:
        found = ", ".join(foreign[:3])
        raise InputError(f"--output: expected {folder} empty or of a one-shot, found {found}")
    if resume and (folder / RESULT).exists():
        refuse_other_settings(folder, read_text(folder / _SETTINGS), run.settings)
        made_of = (read_result(folder) or {}).get("digests")
        if made_of is not None:
            refuse_other_origin(folder, Digests(**made_of), run.digests)
    if not (overwrite or resume) and any((folder / name).exists() for name in _OURS):
        raise InputError(
            f"--output: {folder} holds a one-shot already; go on with it by --resume, or replace "
            "it by --overwrite"
        )


def begin(folder: Path) -> None:
    """Remove what an earlier one-shot left, its result first."""
    if folder.exists():
        (folder / RESULT).unlink(missing_ok=True)
        shutil.rmtree(folder / SHORT, ignore_errors=True)
        clear(folder)


def write_result(run: Run, document: Mapping[str, Any]) -> None:
    """Write settings and result; with them the checkpoint is no longer needed."""
    write_text(run.folder / _SETTINGS, run.settings)
    write_json(run.folder / RESULT, {**document, "digests": asdict(run.digests)})
    remove_checkpoint(run.folder)
