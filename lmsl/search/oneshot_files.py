"""``OUTPUT/oneshot``: what a one-shot run leaves. Its log and, last, ``oneshot.json``.

It looks like a run directory but holds no weights: the strings that it puts first are trained for
real, in run directories of their own.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmsl.data.formats.source import read_text
from lmsl.errors import InputError
from lmsl.run_directory.files import write_json, write_text
from lmsl.run_directory.folder import CHECKPOINT, check_place, clear
from lmsl.training.checkpoint import refuse_other_settings, remove_checkpoint
from lmsl.training.runs import Run

FOLDER = "oneshot"
RESULT = "oneshot.json"
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
    write_json(run.folder / RESULT, document)
    remove_checkpoint(run.folder)


def below_line(document: Mapping[str, Any]) -> str | None:
    """Whether the order of the strings is more than chance, for people; None where an older
    version did not look."""
    rows = document["candidates"]
    if any("below_best" not in row for row in rows):
        return None
    below = sum(row["below_best"] for row in rows)
    if not below:
        return "no string is surely below the best: this order may be chance alone"
    return f"{below} of the {len(rows) - 1} other strings are surely below the best"


def read_result(folder: Path) -> dict[str, Any] | None:
    """What ``oneshot.json`` says; None where there is none.

    Raises:
        InputError: the file cannot be read.
    """
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = {row["unmask"]: float(row["dev"]) for row in document["candidates"]}
        ranked = set(document["ranking"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected the result of a one-shot: {error!r:.150}") from error
    if ranked != set(found):
        raise InputError(f"{path}: ranking and candidates name different strings")
    return document
