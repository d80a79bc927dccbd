"""Two processes on one folder refuse each other; a dead one stands in nobody's way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmsl.errors import InputError
from lmsl.run_directory.lock import LOCK, locked
from tests.small_runs import environment

HOLD = """
import sys, time
from pathlib import Path
from lmsl.run_directory.lock import locked
with locked(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_owner_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with locked(folder, print):
        mine = rf"another process \(pid {os.getpid()} on"
        with pytest.raises(InputError, match=mine) as caught, locked(folder, print):
            pass
        assert "\n" not in str(caught.value)
        # Who was refused must not have taken the lock away.
        with pytest.raises(InputError), locked(folder, print):
            pass
    assert not folder.exists(), "a folder that nothing came into is taken back"


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    said: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"pid {process.pid} on"), locked(tmp_path, print):
            pass
        process.kill()
    assert (tmp_path / LOCK).exists(), "it had no time to clean up"
    with locked(tmp_path, said.append):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert len(said) == 1 and f"pid {process.pid} on" in said[0] and "is gone" in said[0]
    assert tmp_path.exists() and not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_lock_file_of_any_content_can_be_taken_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK).write_bytes(content)
    with locked(tmp_path, print):
        assert json.loads((tmp_path / LOCK).read_bytes())["pid"] == os.getpid()


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="is a file"), locked(tmp_path / "out", print):
        pass
