"""JSON, YAML and files as such: whatever they are, one line of ours and never a wait."""

import os
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lmsl.config.config import read_config
from lmsl.data.documents import parse_json, read_json_file, read_yaml
from lmsl.data.formats.source import stream_lines
from lmsl.data.read import read
from lmsl.errors import InputError

DEEP = 100_000


def refused(call: Callable[[Any], Any], argument: Any, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        call(argument)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * DEEP, "nested too deeply"),
        ('{"a":' * DEEP, "nested too deeply"),
        ('{"a": ' + "7" * 4000 + "}", "4000 digits"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' is there twice"),
        ('{"a": "\\ud83d"}', "half of a character"),
        ('{"a": ', "Expecting value"),
    ],
)
def test_json_that_is_refused(tmp_path: Path, text: str, words: str) -> None:
    refused(lambda text: parse_json(text, "place"), text, "place", words)
    for name, file in (("data.jsonl", text), ("data.json", f"[{text}]"), ("data", text)):
        (tmp_path / name).write_text(file)
        refused(read, tmp_path / name, name)
    refused(read_json_file, tmp_path / "data", "data", words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: " + "[" * DEEP, "nested too deeply"),
        ("- " * DEEP, "nested too deeply"),
        ("batch_size: " + "7" * 4000, "4000 digits"),
        ("batch_size: 0x" + "7" * 4000, "digits"),
        ("epochs: 1\nepochs: 2", "key 'epochs' is there twice"),
        ("a: [", "expected YAML"),
    ],
)
def test_yaml_that_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    for call in (read_yaml, read_config):
        refused(call, tmp_path / "config.yaml", "config.yaml", words)


def test_what_is_no_file_is_refused_without_a_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, words in ((tmp_path / "fifo", "a pipe"), (Path("/dev/zero"), "a device")):
        for call in (read, read_yaml, read_json_file, read_config):
            refused(call, path, str(path), f"expected a file, found {words}")
    refused(read, "a\0b", "'a\\x00b'", "no such file")


@pytest.mark.parametrize("labelled", [True, False])
def test_standard_input_without_end_is_refused(
    monkeypatch: pytest.MonkeyPatch, labelled: bool
) -> None:
    class Zeros:
        def read1(self, size: int) -> bytes:
            return bytes(size)

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Zeros()))
    refused(lambda source: read(source, labelled=labelled), "-", "standard input:1", "NUL")


@pytest.mark.parametrize(
    ("error", "words"), [(MemoryError, "memory"), (RecursionError, "nested too deeply")]
)
def test_what_no_machine_can_read_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception], words: str
) -> None:
    (tmp_path / "data.conll").write_text("a O\n")

    def fails(*_: Any) -> None:
        raise error

    for name in ("lmsl.data.resolve.detect_scheme", "lmsl.data.read.read_columns"):
        with monkeypatch.context() as patched:
            patched.setattr(name, fails)
            refused(read, tmp_path / "data.conll", "data.conll", words)


def test_lines_come_as_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Characters and line ends may be cut by the chunks a pipe gives."""
    text = "\ufeffAda\r\n\u00e9t\u00e9\n\nlast"
    data = text.encode()
    for size in (1, 2, 3, len(data)):
        pipe = BytesIO(data)
        part = SimpleNamespace(read1=lambda _, pipe=pipe, size=size: pipe.read(size))
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=part))
        assert list(stream_lines("-")) == ["Ada", "\u00e9t\u00e9", "", "last"]
    monkeypatch.setattr("lmsl.data.formats.source._LONGEST_LINE", 5)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=BytesIO(b"a\n" + b"x" * 9)))
    refused(lambda source: list(stream_lines(source)), "-", "standard input:2", "without end")
