"""One process at a time in an output folder.

The lock belongs to the process as long as it lives (``flock``), so a killed one never leaves a
lock that has to be removed by hand: its file stays behind, says who it was, and is taken over.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lmsl.errors import InputError
from lmsl.run_directory.folder import check_place, writing

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

LOCK = ".lmsl.lock"


@contextmanager
def locked(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds ``folder``, made if need be, against other processes; an empty one is taken back.

    Raises:
        InputError: another process holds it, or it cannot be made.
    """
    check_place(folder)
    if fcntl is None:
        say(f"{folder}: not locked, this system has no flock; start no second process on it")
        yield
        return
    path = folder / LOCK
    made = not folder.exists()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = _taken(path)
    before = _owner(file)
    if before:
        say(f"{folder}: the process that trained here ({_words(before)}) is gone")
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
    try:
        yield
    finally:
        # Removed while it is held: who opened it before finds out that it is no longer the file.
        with suppress(OSError):
            path.unlink()
        os.close(file)
        if made:
            # Fails, as it should, where there is anything in it.
            with suppress(OSError):
                folder.rmdir()


def _taken(path: Path) -> int:
    """The open and locked file; refused where somebody else has it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = _words(_owner(file))
            os.close(file)
            raise InputError(
                f"--output {path.parent}: another process ({owner}) is training there; wait for "
                "it, or choose another folder"
            ) from error
        # Between opening and locking the owner may have removed it and another made a new one.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        os.close(file)


def _owner(file: int) -> dict[str, Any]:
    """Who wrote the file; empty where nobody did, or not to the end."""
    try:
        found = json.loads(os.pread(file, 4096, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _words(owner: dict[str, Any]) -> str:
    return f"pid {owner.get('pid', 'unknown')} on {owner.get('host', 'an unknown host')}"
