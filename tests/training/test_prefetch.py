"""Input made ahead: the same items, in the same order, with errors where they belong."""

from collections.abc import Iterator

import pytest

from lmsl.training.prefetch import Ahead


def numbers(made: list[int], stop: int, error_at: int | None = None) -> Iterator[int]:
    for number in range(stop):
        if number == error_at:
            raise KeyError(number)
        made.append(number)
        yield number


@pytest.mark.parametrize("eager", ["never", "always", "twice", "sometimes"])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_order_is_that_of_the_items(eager: str, count: int) -> None:
    ahead, found = Ahead(numbers([], count)), []
    for number in ahead:
        found.append(number)
        calls = {"never": 0, "always": 1, "twice": 2, "sometimes": number % 2}[eager]
        for _ in range(calls):
            ahead.prepare()
    assert found == list(range(count))
    assert list(ahead) == [] and next(ahead, None) is None


def test_one_item_is_made_ahead_and_no_more() -> None:
    made: list[int] = []
    ahead = Ahead(numbers(made, 9))
    assert made == []
    assert next(ahead) == 0 and made == [0]
    ahead.prepare()
    ahead.prepare()
    assert made == [0, 1]
    assert next(ahead) == 1 and made == [0, 1]


@pytest.mark.parametrize("prepared", [False, True])
def test_an_error_comes_where_its_item_would(prepared: bool) -> None:
    ahead = Ahead(numbers([], 9, error_at=2))
    assert next(ahead) == 0
    if prepared:
        ahead.prepare()
    assert next(ahead) == 1
    if prepared:
        ahead.prepare()
    with pytest.raises(KeyError, match="2"):
        next(ahead)
    assert list(ahead) == []


def test_leaving_early_leaves_nothing_behind() -> None:
    """What is made ahead is dropped, and the source is closed with its last owner."""
    closed = []

    def source() -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            closed.append(True)

    ahead = Ahead(source())
    next(ahead)
    ahead.prepare()
    del ahead
    assert closed == [True]
