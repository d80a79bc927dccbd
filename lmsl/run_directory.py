"""What a run leaves on disk, and how it is read back.

``lmsl.json`` holds everything that prediction needs beside the weights; ``config.yaml`` everything
that repeating the run needs. Files are written whole or not at all, and ``lmsl.json`` last: a
folder without it is not a run.
"""

import dataclasses
import errno
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any, get_type_hints

from lmsl import __version__
from lmsl.config.choices import Forward, LabelAt, LoRA, Overflow, Quantize
from lmsl.config.hints import converted, described, fits
from lmsl.data.formats.options import FileShape, WordMode
from lmsl.data.tags.decode import Decoder
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.errors import InputError, TrainingError
from lmsl.tensor_files import write_whole

INFO = "lmsl.json"
CHECKPOINT = "checkpoint"
PRUNED = "pruned.json"
_FORMAT = 1
_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "tokenizers", "numpy")
_OURS = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "head.safetensors",
    "lmsl.json",
    "config.yaml",
    "metrics.json",
    "influence.json",
    "log.jsonl",
    "predictions.dev.conll",
    "predictions.test.conll",
    "README.md",
    "report.html",
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
    CHECKPOINT,
    PRUNED,
)


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a trained run needs to be known by, beside its weights."""

    unmask: str
    labels: LabelSet
    base: str
    revision: str | None
    lora: LoRA
    label_at: LabelAt
    words: WordMode
    tokenization: str
    decode: Decoder
    repeat: int
    exit_layer: int | None
    context: int
    max_length: int
    overflow: Overflow
    tokens_per_batch: int
    quantize: Quantize
    block: Forward
    """Whose forward it was trained and scored with."""
    dtype: str
    seed: int
    files: FileShape
    """Of the files it was trained on."""

    def to_json(self) -> str:
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "labels"
        }
        values["lora"] = dataclasses.asdict(self.lora)
        values["files"] = dataclasses.asdict(self.files)
        scheme = "plain" if self.labels.plain else "iob2"
        heads = [{"name": "labels", "labels": list(self.labels.names), "scheme": scheme}]
        document = {"format": _FORMAT, **values, "heads": heads, "versions": versions()}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def read_info(folder: Path) -> RunInfo:
    """Read ``lmsl.json``.

    Raises:
        InputError: the folder is not a run of this format.
    """
    path = folder / INFO
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a run directory, found no such folder")
    if not path.is_file():
        raise InputError(f"{folder}: expected a run directory, found no {INFO} in it")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != _FORMAT:
            raise InputError(
                f"{path}: expected format {_FORMAT}, got {document['format']}; use the version of "
                f"lmsl that wrote it ({document['versions']['lmsl']})"
            )
        (head,) = document["heads"]
        labels = LabelSet(tuple(head["labels"]), plain=head["scheme"] == "plain")
        lora = LoRA(**_typed(path, LoRA, document["lora"]))
        # Runs that are older than this entry do not say what their files were like.
        shape = dataclasses.asdict(FileShape()) | document.get("files", {})
        files = FileShape(**_typed(path, FileShape, shape))
        built = {"labels": labels, "lora": lora, "files": files}
        # Nor whose forward they used: there was but one.
        return RunInfo(**_typed(path, RunInfo, {"block": "plain", **document, **built}))
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a description of a run: {error!r:.150}") from error


def _typed(path: Path, kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a dataclass, each checked against its hint."""
    typed = {}
    for name, hint in get_type_hints(kind).items():
        typed[name] = converted(values[name], hint)
        if not fits(typed[name], hint):
            raise InputError(
                f"{path}: {name}: expected {described(hint)}, got {values[name]!r:.60}"
            )
    return typed


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"lmsl": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


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
    leftovers = [path.name for path in folder.glob(".*.tmp")]
    for name in (INFO, *_OURS, *leftovers):
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_whole(path, text.encode("utf-8"))


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def making(folders: Sequence[Path], *, overwrite: bool) -> Iterator[None]:
    """Makes the folders of runs, emptied on request; takes back those that nothing came of."""
    for folder in folders:
        with writing(folder):
            if overwrite:
                clear(folder)
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
