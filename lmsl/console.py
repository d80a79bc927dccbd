"""What a run tells people while it works: lines, and one progress bar on a terminal."""

import time
from collections.abc import Iterator, Sequence
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


class Bar:
    """Loss, real tokens a second, time left and the last dev score, behind a bar of updates."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
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
        text = f"loss {self._loss:.4f}  {speed:,.0f} tokens/s{self._dev}"
        self._progress.update(self._task, completed=step, text=text)

    def dev(self, name: str, value: float) -> None:
        self._dev = f"  dev {name} {100 * value:.2f}"


class Console:
    """Lines to standard error; standard output is left to results."""

    def __init__(self, quiet: bool = False) -> None:
        # Without emoji=False the place `file:100: ...` would show a symbol for `:100:`.
        self._rich = RichConsole(
            stderr=True, quiet=quiet, highlight=False, soft_wrap=True, emoji=False
        )

    def say(self, line: str) -> None:
        self._rich.print(line, markup=False)

    @contextmanager
    def bar(self, name: str, total: int, done: int = 0) -> Iterator[Bar]:
        """A progress bar over updates; on anything but a terminal it stays silent."""
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=self._rich,
            transient=True,
            disable=not self._rich.is_terminal,
        )
        with progress:
            yield Bar(progress, progress.add_task(name, total=total, completed=done, text=""))
