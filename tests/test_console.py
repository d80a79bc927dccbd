"""What is said of work that goes on, by a clock that the test turns."""

import io
import time
from collections.abc import Iterator

import pytest
from rich.console import Console as RichConsole

from lmsl import console
from lmsl.console import EVERY, FIRST_AFTER, Bar, Console, Track


class Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    found = Clock()
    monkeypatch.setattr(console.time, "monotonic", lambda: found.now)
    yield found


def test_off_a_terminal_a_line_comes_every_so_often(clock: Clock) -> None:
    said: list[str] = []
    track = Track("tagging", "pack", 3000, 1000, say=said.append)
    track.add(5)
    assert not said, "what is over at once says nothing"
    clock.now += 10
    track.add(5)
    clock.now += EVERY - 1
    track.to(1500)
    clock.now += 2
    track.to(1820, "dev 12.00")
    assert said == [
        "tagging: 1,010 of 3,000 packs, 1.0 a second, 33 min left",
        "tagging: 1,820 of 3,000 packs, dev 12.00, 59 s left",
    ]
    unknown = Track("reading", "line", None, say=said.append)
    clock.now += 4
    unknown.to(8)
    assert said[-1] == "reading: 8 lines, 2.0 a second"


def test_a_training_says_loss_speed_and_the_last_score(clock: Clock) -> None:
    said: list[str] = []
    bar = Bar(Track("training", "update", 5, say=said.append))
    bar.dev("f1", 0.5)
    clock.now += FIRST_AFTER
    bar.advance(1, [2.0, 4.0], 50)
    assert said == ["training: 1 of 5 updates, loss 3.0000, 25 tokens/s, dev f1 50.00, 8 s left"]


def test_on_a_terminal_a_bar_appears_after_a_while(clock: Clock) -> None:
    shown = Console()
    shown._rich = RichConsole(file=io.StringIO(), force_terminal=True, width=99)
    with shown.track("tagging", "pack", 9) as track:
        track.add()
        assert track._task is None
        clock.now += FIRST_AFTER
        track.add()
        assert track._task is not None


def test_uncounted_work_says_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "FIRST_AFTER", 0.01)
    with Console().working("reading x"):
        while not (told := capsys.readouterr().err):
            time.sleep(0.01)
    assert told == "  reading x: 0 s so far\n"
    with pytest.raises(KeyError), Console().working("reading x"):
        raise KeyError("x")
