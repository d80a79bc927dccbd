"""Being asked to stop: a training ends after the update it is in, with a checkpoint.

Ctrl-C and SIGTERM (a cluster that wants its machine back) are the same to it. The second one ends
it where it stands.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from lmsl.errors import Terminated

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether somebody asked, and how."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._asked: int | None = None

    def take(self, number: int, frame: FrameType | None) -> None:
        """A signal has come."""
        if self._asked is not None:
            raise self._exception()
        self._asked = number
        self._say("asked to stop: a checkpoint is written after this update or evaluation")

    @property
    def asked(self) -> bool:
        return self._asked is not None

    def obey(self) -> None:
        """End, where somebody asked."""
        if self.asked:
            raise self._exception()

    def _exception(self) -> KeyboardInterrupt:
        return Terminated() if self._asked == signal.SIGTERM else KeyboardInterrupt()


@contextmanager
def stopping(say: Callable[[str], None]) -> Iterator[Stop]:
    """Inside, signals are noted instead of obeyed; outside of the main thread there are none."""
    stop = Stop(say)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.take) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
