"""One process at a time in an output folder.

The lock (``filelock``: flock, or what a system has instead) belongs to the process as long as it
lives, so a killed one never leaves a lock that has to be removed by hand: its file stays behind,
says who it was, and is taken over.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lmsl.data.documents import read_object
from lmsl.errors import InputError
from lmsl.run_directory.folder import check_place, writing

LOCK = ".lmsl.lock"


@contextmanager
def locked(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds ``folder``, made if need be, against other processes; an empty one is taken back.

    Raises:
        InputError: another process holds it, or it cannot be made.
    """
    check_place(folder)
    path, made = folder / LOCK, not folder.exists()
    # Runs are yielded while it is held, and who takes them may do so in any thread.
    lock = FileLock(path, timeout=0, thread_local=False)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise InputError(
                f"--output {folder}: another process ({_owner(path) or 'unknown'}) is training "
                "there; wait for it, or choose another folder"
            ) from error
        if before := _owner(path):
            say(f"{folder}: the process that trained here ({before}) is gone")
        path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    try:
        yield
    finally:
        # Removed while it is held: who opened it before finds out that it is no longer the file.
        with suppress(OSError):
            path.unlink()
        lock.release()
        if made:
            # Fails, as it should, where there is anything in it.
            with suppress(OSError):
                folder.rmdir()


def _owner(path: Path) -> str:
    """Who wrote the file, for people; empty where nobody did, or not to the end."""
    try:
        found = read_object(path)
        return f"pid {found['pid']} on {found['host']}"
    except (InputError, OSError, LookupError):
        return ""
