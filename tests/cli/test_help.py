"""The help of every command: each flag in one group, with a text, and the first page short."""

import re
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pytest
import tyro

from lmsl.cli.flags import Data, Evaluate, Predict, Probe, Report, Sweep, Train
from lmsl.cli.help import Help, field_texts, help_text
from lmsl.cli.topics import HELP
from lmsl.config.config import Config

COMMANDS = {
    "train": Train,
    "sweep": Sweep,
    "predict": Predict,
    "evaluate": Evaluate,
    "report": Report,
    "data": Data,
    "probe": Probe,
}
WIDTHS = (60, 80, 99)


@dataclass(frozen=True, kw_only=True)
class Base:
    """Of a class that is built on."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """What is
    looked at."""
    a_number: int | None = None
    """A number."""


@dataclass(frozen=True, kw_only=True)
class Small(Base):
    """Show it; all of it, in as many lines as that takes."""

    place: Path | Literal["here"] = "here"
    """Where to."""
    factors: tuple[float, ...] = (0.5, 2.0)
    """Some."""
    switch: bool = False
    """Do it."""


ABOUT = Help(
    examples={
        "lmsl show x": "this",
        "lmsl show x --factors 1 2 3 4 5 6 7 8 --place there": "that, all of it",
    },
    groups={"some": ("place", "factors"), "others": ("a_number", "switch")},
    first=("switch",),
)


def test_a_page_of_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert (
        help_text(Small, "show", ABOUT, None, everything=True)
        == """\
usage: lmsl show RUNS ... [FLAGS]

Show it; all of it, in as many lines as that takes.

examples:
  lmsl show x                                          this
  lmsl show x --factors 1 2 3 4 5 6 7 8 --place there
      that, all of it

what it is given:
  RUNS                    What is looked at.

some:
  --place PATH|here       Where to. (default: here)
  --factors NUMBER ...    Some. (default: 0.5 2.0)

others:
  --a-number INT          A number.
  --switch                Do it."""
    )


def test_the_first_page_has_the_flags_most_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    shown = help_text(Small, "show", ABOUT, Small(runs=(), switch=True), everything=False)
    assert "--place" not in shown.partition("flags most")[2] and "(default: yes)" in shown
    assert "flags most asked for; lmsl show --help-all shows all 5:" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_in_one_group_and_has_a_text(name: str) -> None:
    kind, texts = COMMANDS[name], field_texts(COMMANDS[name])
    flags = {field.name for field in fields(kind)}
    assert texts.keys() == flags and all(texts.values())
    positional = {flag for flag in flags if f"\n  {flag.upper()} " in page(name)}
    listed = Counter(flag for group in HELP[name].groups.values() for flag in group)
    assert listed == Counter(flags - positional)
    assert {*HELP[name].first} <= flags


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", COMMANDS)
def test_no_line_is_too_long(name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = page(name).splitlines()
    commands = {f"  {line}" for line in HELP[name].examples}
    assert max(len(line) for line in lines if line not in commands) <= width


def test_the_first_page_of_a_training_fits_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "99")
    for name in ("train", "sweep"):
        shown = help_text(COMMANDS[name], name, HELP[name], None, everything=False)
        assert len(shown.splitlines()) < 48


def test_the_examples_have_no_flag_that_is_not_there() -> None:
    for name, about in HELP.items():
        known = {f"--{field.name.replace('_', '-')}" for field in fields(COMMANDS[name])}
        for line in about.examples:
            assert {*re.findall(r"--[a-z-]+", line)} <= known, line


def test_all_settings_are_flags_of_training() -> None:
    """Nothing that a run can be told is missing from the long page."""
    for field in fields(Config):
        assert f"  --{field.name.replace('_', '-')}" in page("train")


def page(name: str) -> str:
    return help_text(COMMANDS[name], name, HELP[name], None, everything=True)
