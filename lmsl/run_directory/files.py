"""Writing files whole or not at all.

A file is written beside its place and moved there in one step, so an interrupted or failed write
never leaves half a file under the real name.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically; on failure the old file, if any, is untouched."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_whole(path, text.encode("utf-8"))


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """The same for JSON, indented."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
