"""What a command tells people while it works: lines, and how far it is.

On a terminal that is a bar; elsewhere, in a log or a pipe, a plain line every so often. What takes
less than two seconds says nothing.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

FIRST_AFTER, EVERY = 2.0, 30.0
"""Seconds until something is said of work that goes on, and between two lines of it."""


class Track:
    """How far some work is.

    Args:
        say: takes a plain line; None on a terminal, where ``progress`` draws.
        unit: what is counted.
        total: how many there will be; None where nobody knows.
        done: how many there were before.
    """

    def __init__(
        self,
        name: str,
        unit: str,
        total: int | None,
        done: int = 0,
        *,
        say: Callable[[str], None] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._name, self._unit, self.total, self._done = name, unit, total, done
        self._say, self._progress = say, progress
        self._began = time.monotonic()
        self._next, self._first = self._began + FIRST_AFTER, done
        self._task: TaskID | None = None

    def add(self, count: int = 1) -> None:
        """So many more are done."""
        self.to(self._done + count)

    def to(self, done: int, text: str = "") -> None:
        """So many are done now.

        Args:
            text: what else is to be said.
        """
        self._done, now = done, time.monotonic()
        if self._progress is not None:
            if self._task is None and now >= self._next:
                self._task = self._progress.add_task(self._name, total=self.total, text="")
            if self._task is not None:
                self._progress.update(self._task, completed=done, text=text)
        elif self._say is not None and now >= self._next:
            self._next = now + EVERY
            self._say(self._line(now - self._began, text))

    def _line(self, seconds: float, text: str) -> str:
        speed = (self._done - self._first) / seconds
        of, counts = "", self._done
        if self.total is not None:
            of, counts = f" of {self.total:,}", self.total
        parts = [f"{self._name}: {self._done:,}{of} {self._unit}{'s' * (counts != 1)}"]
        parts.append(text or f"{speed:,.1f} a second")
        if self.total is not None and speed > 0:
            parts.append(f"{_duration((self.total - self._done) / speed)} left")
        return ", ".join(parts)


class Bar:
    """A training: loss, real tokens a second, time left and the last dev score."""

    def __init__(self, track: Track) -> None:
        self._track = track
        self._began = time.monotonic()
        self._tokens = 0
        self._loss: float | None = None
        self._dev = ""

    def advance(self, step: int, losses: Sequence[float], tokens: int) -> None:
        """One more update: how many there were, its loss in each run, its real tokens."""
        loss = sum(losses) / len(losses)
        self._loss = loss if self._loss is None else 0.9 * self._loss + 0.1 * loss
        self._tokens += tokens
        speed = self._tokens / max(1e-9, time.monotonic() - self._began)
        self._track.to(step, f"loss {self._loss:.4f}, {speed:,.0f} tokens/s{self._dev}")

    def dev(self, name: str, value: float) -> None:
        self._dev = f", dev {name} {100 * value:.2f}"


class Console:
    """Lines to standard error; standard output is left to results.

    Args:
        verbose: also say what only matters where something is wrong.
    """

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        # Without emoji=False the place `file:100: ...` would show a symbol for `:100:`.
        self._rich = RichConsole(
            stderr=True, quiet=quiet, highlight=False, soft_wrap=True, emoji=False
        )
        self.verbose = verbose

    def say(self, line: str) -> None:
        self._rich.print(line, markup=False)

    @contextmanager
    def track(self, name: str, unit: str, total: int | None, done: int = 0) -> Iterator[Track]:
        """Work whose parts are counted."""
        if not self._rich.is_terminal:
            yield Track(name, unit, total, done, say=lambda line: self.say(f"  {line}"))
            return
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=self._rich,
            transient=True,
        )
        with progress:
            yield Track(name, unit, total, done, progress=progress)

    @contextmanager
    def bar(self, name: str, total: int, done: int = 0) -> Iterator[Bar]:
        """A training of so many updates."""
        with self.track(name, "update", total, done) as track:
            yield Bar(track)

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Work whose parts nobody counts: that it goes on is said every so often."""
        over, began = threading.Event(), time.monotonic()

        def tell() -> None:
            wait = FIRST_AFTER
            while not over.wait(wait):
                self.say(f"  {what}: {_duration(time.monotonic() - began)} so far")
                wait = EVERY

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            yield
        finally:
            over.set()
            teller.join()


def _duration(seconds: float) -> str:
    """``40 s``, ``3 min``, ``2.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
