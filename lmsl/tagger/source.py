"""Where a base model lies: here, in a folder, in a GGUF file, on the hub or in its cache.

Whatever is missing is said in one line, since what the libraries say of it rarely names the
argument.
"""

import importlib.resources
import importlib.util
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmsl.errors import InputError
from lmsl.hub import cached_folder, unreachable
from lmsl.wording import install, one_line

TINY = "tiny"
GGUF = ".gguf"
_MAGIC = b"GGUF"
"""The first bytes of every GGUF file, whatever its name."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What transformers is to load."""

    path: str
    """Folder or hub id."""
    commit: str | None = None
    """Where that is a folder of the hub's cache."""
    gguf: str | None = None
    """The file in the folder, where the model is a GGUF file."""

    @property
    def file(self) -> dict[str, Any]:
        """The argument that names the GGUF file to transformers."""
        return {} if self.gguf is None else {"gguf_file": self.gguf}

    def lies_in(self, commit: str | None) -> Path | None:
        """The folder, or the GGUF file, of a model that was just loaded; None where unknown."""
        folder = Path(self.path)
        if self.gguf is not None:
            return folder / self.gguf
        return folder if folder.is_dir() else cached_folder(self.path, commit)


def find_source(name: str, revision: str | None, file: str) -> Source:
    """Where a model is: the package's own folder, a checked folder or GGUF file, a hub id or,
    where the hub cannot be reached, what its cache holds.

    Args:
        file: what a folder must hold.

    Raises:
        InputError: there is no such model, or what reading it needs is missing.
    """
    if name == TINY:
        return Source(path=str(tiny_folder()))
    if _names_gguf(name):
        return _gguf_file(name)
    if not from_hub(name):
        folder = Path(name).expanduser()
        check_folder(name, folder, file)
        return Source(path=str(folder))
    offline = unreachable(name, file, revision=revision)
    if offline is None:
        return Source(path=name)
    cached = cached_folder(name, revision)
    if cached is None:
        raise InputError(
            f"--model {name}: no such folder, nor in the cache of the Hugging Face hub, which "
            f"cannot be reached ({offline})"
        )
    return Source(path=str(cached), commit=cached.name)


def tiny_folder() -> Path:
    """Where ``tiny`` lies, for programs that do not know its name."""
    return Path(str(importlib.resources.files("lmsl"))) / TINY


def from_hub(name: str) -> bool:
    """Whether a model is neither ``tiny`` nor a folder or file here."""
    here = name == TINY or name.startswith((".", "/", "~")) or Path(name).exists()
    return not (here or name.lower().endswith(GGUF))


def check_folder(name: str, folder: Path, file: str) -> None:
    """Raise InputError where a model's folder does not hold a file."""
    if not (folder / file).is_file():
        found = "none there" if folder.is_dir() else "no such folder"
        if folder.is_file():
            found = "a file; name the folder that it lies in"
        raise InputError(f"--model {name}: expected a folder with {file}, found {found}")


def gguf_precision(file: Path) -> str:
    """How a GGUF file holds its weights, by the share of the numbers: ``Q4_1 (85 %), F32``."""
    from gguf import GGUFReader

    counts: Counter[str] = Counter()
    for tensor in GGUFReader(file).tensors:
        counts[tensor.tensor_type.name] += int(tensor.n_elements)
    total = max(1, counts.total())
    kinds = [f"{kind} ({100 * count / total:.0f} %)" for kind, count in counts.most_common()]
    return ", ".join(kinds)


def gguf_fault(source: Source) -> str | None:
    """What keeps a GGUF file from being read to its end; None where nothing does.

    Whoever reads one that broke off meets its end anywhere, and the libraries say what they were
    at by then, not what is wrong.
    """
    from gguf import GGUFReader

    assert source.gguf is not None
    file = Path(source.path, source.gguf)
    try:
        GGUFReader(file)
    except Exception as error:
        if "version" in str(error):
            return one_line(error)
        size = file.stat().st_size
        return f"the GGUF file is incomplete or damaged ({size:,} bytes); get it again"
    return None


def _names_gguf(name: str) -> bool:
    """Whether a name is meant to be that of a GGUF file: by what it holds, or how it ends."""
    place = Path(name).expanduser()
    if place.is_dir():
        return False
    return name.lower().endswith(GGUF) or _begins_as_gguf(place)


def _begins_as_gguf(place: Path) -> bool:
    if not place.is_file():
        return False
    with place.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _gguf_file(name: str) -> Source:
    file = Path(name).expanduser()
    if not file.is_file():
        raise InputError(f"--model {name}: expected a GGUF file, found no such file")
    if not _begins_as_gguf(file):
        raise InputError(
            f"--model {name}: expected a GGUF file, found one that does not begin as such; get it "
            "again, or name the folder of a model in another format"
        )
    if importlib.util.find_spec("gguf") is None:
        raise InputError(
            f"--model {name}: reading GGUF files needs the package gguf; {install('gguf')}"
        )
    return Source(path=str(file.parent), gguf=file.name)
