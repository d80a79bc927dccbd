"""Input made ready while the device computes.

The loop waits for the device once an update, when it reads the losses. Before that, with all work
of the update launched, the host has nothing to do: that is when the next input is made. A thread
would win no more and would take the interpreter from the launches; here there is no queue, no
order to keep and nothing to stop.
"""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """An iterator whose next item can be made before it is asked for.

    Args:
        items: asked for one item at a time; what it raises is raised where that item is asked for.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._ready: list[T] = []
        self._error: Exception | None = None

    def prepare(self) -> None:
        """Make the next item now; nothing is done where it is there already."""
        if self._ready or self._error is not None:
            return
        try:
            self._ready.append(next(self._items))
        except Exception as error:
            # The end is one of them.
            self._error = error

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        self.prepare()
        if self._error is not None:
            error = self._error
            if not isinstance(error, StopIteration):
                self._error = StopIteration()
            raise error
        return self._ready.pop()
