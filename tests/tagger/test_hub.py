"""The hub that cannot be reached: said at once, and what is on this machine still loads."""

import shutil
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub
import pytest

import lmsl
from lmsl.hub import unreachable
from lmsl.tagger.source import from_hub
from tests.small_runs import fresh_process

pytestmark = pytest.mark.drift


def closed_port() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


class Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@pytest.fixture
def server() -> Iterator[str]:
    """A hub that answers, if only that it has no such file."""
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str, *, offline: bool = False) -> None:
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in (
        ("ENDPOINT", endpoint),
        ("HUGGINGFACE_CO_URL_TEMPLATE", template),
        ("HF_HUB_OFFLINE", offline),
    ):
        monkeypatch.setattr(huggingface_hub.constants, name, value)


def test_nobody_listens_and_offline_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, closed_port())
    for dataset in (False, True):
        reason = unreachable("org/name", "config.json", dataset=dataset)
        assert reason is not None and "refused" in reason and "\n" not in reason
    use(monkeypatch, closed_port(), offline=True)
    assert unreachable("org/name", "config.json") is None


def test_an_answer_of_any_kind_is_left_to_the_libraries(
    monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    use(monkeypatch, server)
    assert unreachable("org/name", "config.json", revision="main") is None
    assert unreachable("no name/of a/repository", "config.json") is None


def test_which_names_are_of_the_hub() -> None:
    names = ("tiny", "./x", "/x/y", "~/x", "org/name")
    assert [from_hub(name) for name in names] == [False] * 4 + [True]


LOADING = """
import os, sys, time
cache, endpoint = sys.argv[1:]
os.environ.pop("HF_HUB_OFFLINE", None)
os.environ.update(HF_HUB_CACHE=cache, HF_ENDPOINT=endpoint, HF_HUB_DISABLE_TELEMETRY="1")
from lmsl import InputError
from lmsl.tagger.base import load_base, load_tokenizer

def sleep(seconds):
    raise AssertionError("waits to ask again")

time.sleep = sleep
base = load_base("org/cached")
print(base.depth, base.revision, len(base.tokenizer) == len(load_tokenizer("org/cached")))
for load in (load_base, load_tokenizer):
    try:
        load("org/absent")
    except InputError as error:
        print(error)
"""


def test_without_a_network_the_cache_serves_and_the_rest_is_refused_at_once(
    tmp_path: Path,
) -> None:
    """It took 23 seconds of attempts, and a name misspelt is refused the same way."""
    repository, commit = tmp_path / "models--org--cached", "0" * 39 + "1"
    shutil.copytree(Path(lmsl.__file__).parent / "tiny", repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    lines = fresh_process(LOADING, str(tmp_path), closed_port()).splitlines()
    assert lines[0] == f"8 {commit} True"
    assert len(lines) == 3
    for line in lines[1:]:
        assert line.startswith("--model org/absent: no such folder, nor in the cache")
        assert "cannot be reached" in line and "refused" in line
