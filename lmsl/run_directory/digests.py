"""SHA-256 of what a run was made of and is kept in, so that no change of it goes unseen.

A run records digests of its own files, of the files of its base model and of its data. One flipped
bit of an adapter, a base that was trained on, an edited tokenizer: all would load without a word
and answer otherwise.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmsl.data.documents import read_object
from lmsl.data.tags.sentence import Dataset
from lmsl.errors import InputError
from lmsl.run_directory.files import write_text
from lmsl.wording import quoted

REMEMBERED = 64 * 2**20
"""From so many bytes on a file's digest is remembered by its path, size and time stamp."""

_INDEX = "model.safetensors.index.json"
_TOKENIZER = re.compile(
    r"tokenizer.*\.json|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)"
    r"|merges\.txt|.*\.model"
)
# In the hub's cache a file kept in its large storage is a link to a blob named by its SHA-256.
_BLOB = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Digests:
    """SHA-256 in hexadecimal, by name."""

    run: dict[str, str] = field(default_factory=dict)
    """Of the files of the run."""
    base: dict[str, str] = field(default_factory=dict)
    """Of configuration, weights and tokenizer of the base model."""
    data: dict[str, str] = field(default_factory=dict)
    """Of words, tags and documents of each split."""


def base_digests(folder: Path | None, say: Callable[[str], None]) -> dict[str, str]:
    """Of the files that a model and its tokenizer are loaded from.

    Of a model in the hub's cache the digests are those the hub gives its large files.

    Args:
        folder: as transformers would be given it, or the hub's snapshot of it, or a GGUF file; a
            model without files has no digests.
        say: told when gigabytes are to be read.
    """
    if folder is None:
        return {}
    paths = [folder] if folder.is_file() else _base_files(folder)
    known = _remembered()
    found, unknown = {}, []
    for path in paths:
        digest = _blob_name(path) or known.get(_stamp(path))
        if digest is None:
            unknown.append(path)
        else:
            found[path.name] = digest
    size = sum(path.stat().st_size for path in unknown)
    if size > 2**30:
        say(f"{folder}: taking the digests of {size / 2**30:.1f} GiB, once")
    for path in unknown:
        found[path.name] = file_digest(path)
    _remember({_stamp(path): found[path.name] for path in unknown})
    return dict(sorted(found.items()))


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_digest(dataset: Dataset) -> str:
    """SHA-256 of the sentences in their order, however the file says them."""
    digest = hashlib.sha256()
    for sentence in dataset:
        # JSON, since words may hold any character that could separate them.
        parts = (sentence.words, sentence.tags, sentence.document, sentence.missed)
        digest.update(json.dumps(parts, default=repr).encode())
    return digest.hexdigest()


def document_digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object without its own entry ``digest``, however it is laid out."""
    rest = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names that differ or stand on one side only."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def check_run_files(folder: Path, digests: Digests, names: Callable[[str], bool]) -> None:
    """Refuse a run of which a file is no longer what the training wrote; gone ones are not ours.

    Args:
        names: which of the files with a digest are looked at.

    Raises:
        InputError: names the file.
    """
    for name, digest in digests.run.items():
        path = folder / name
        if names(name) and path.is_file() and file_digest(path) != digest:
            raise InputError(
                f"{path}: changed or damaged since the training (SHA-256 differs from that in "
                "lmsl.json); copy the run anew or train it again"
            )


def check_base(
    base: Path | None, digests: Digests, *, allowed: bool, say: Callable[[str], None]
) -> None:
    """Refuse a base model that is not the one of the training, unless that is allowed.

    Raises:
        InputError: names the file.
    """
    names = changed(digests.base, base_digests(base, say))
    if not names:
        return
    place = names[0] if base is None else base if base.is_file() else base / names[0]
    line = f"{place}: changed since the training of the run"
    if not allowed:
        raise InputError(
            f"{line} (SHA-256 differs); put the base model back, or take its other answers by "
            "--allow-changed-base"
        )
    say(f"{line}; taken as it is")


def _base_files(folder: Path) -> list[Path]:
    """Configuration, weights and tokenizer of a model in a folder."""
    names = {"config.json", *_weight_files(folder)}
    names |= {path.name for path in folder.iterdir() if _TOKENIZER.fullmatch(path.name)}
    return [folder / name for name in sorted(names) if (folder / name).is_file()]


def _weight_files(folder: Path) -> list[str]:
    """The files that transformers reads weights from; a folder may hold others beside them."""
    if not (folder / _INDEX).is_file() or (folder / "model.safetensors").is_file():
        return ["model.safetensors"]
    index = read_object(folder / _INDEX)
    try:
        return [_INDEX, *sorted(set(index["weight_map"].values()))]
    except (LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / _INDEX}: not an index of weights: {quoted(error)}") from error


def _blob_name(path: Path) -> str | None:
    target = path.resolve()
    linked = path.is_symlink() and target.parent.name == "blobs"
    return target.name if linked and _BLOB.fullmatch(target.name) else None


def _stamp(path: Path) -> str:
    found = path.stat()
    return f"{path.resolve()} {found.st_size} {found.st_mtime_ns}"


def _memory() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "lmsl" / "digests.json"


def _remembered() -> dict[str, str]:
    """What is remembered; nothing where that cannot be read, as it saves time alone."""
    try:
        return {key: str(value) for key, value in read_object(_memory()).items()}
    except (InputError, OSError, RuntimeError):
        return {}


def _remember(digests: Mapping[str, str]) -> None:
    large = {
        stamp: digest
        for stamp, digest in digests.items()
        if int(stamp.rsplit(" ", 2)[1]) >= REMEMBERED
    }
    if large:
        with suppress(OSError, RuntimeError):
            _memory().parent.mkdir(parents=True, exist_ok=True)
            write_text(_memory(), json.dumps({**_remembered(), **large}, indent=1) + "\n")
