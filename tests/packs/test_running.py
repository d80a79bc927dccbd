"""Windows over running text: every token predicted once, and after enough others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsl.packs.running import RunningText, spread, text_windows


@given(
    tokens=st.integers(0, 200),
    size=st.integers(2, 40),
    data=st.data(),
    predicted=st.integers(0, 1),
)
def test_every_token_is_predicted_once_after_enough_others(
    tokens: int, size: int, data: st.DataObject, predicted: int
) -> None:
    stride = data.draw(st.integers(1, size - 1))
    windows = text_windows(tokens, size=size, stride=stride, predicted=predicted)
    found = [t for each in windows for t in range(each.predicted, each.last)]
    assert found == list(range(predicted, tokens))
    for number, each in enumerate(windows):
        assert 0 <= each.first <= each.predicted < each.last and each.last - each.first <= size
        if number:
            assert each.predicted - each.first >= min(size - stride, each.predicted)
            assert each.last - windows[number - 1].last <= stride


@pytest.mark.parametrize("bos", [[], [7], [7, 8]])
def test_a_window_is_read_one_token_before_those_that_it_predicts(bos: list[int]) -> None:
    ids = np.arange(100, 130, dtype=np.int32)
    predicted = 0 if bos else 1
    windows = text_windows(30, size=12, stride=5, predicted=predicted)
    running = RunningText(ids=ids, bos=bos, windows=windows)
    for window in windows:
        whole = running.whole(window)
        assert whole.ids[: len(bos)].tolist() == bos
        for place, token in zip(whole.starts, range(window.predicted, window.last), strict=True):
            assert whole.ids[: place + 1].tolist() == [*bos, *ids[window.first : token]]
            prefix = running.prefix(window.first, token)
            assert prefix.ids.tolist() == whole.ids[: place + 1].tolist()
            assert prefix.starts.tolist() == [len(prefix.ids) - 1]
    assert len(windows) == 5 and ids[windows[-1].last - 1] == 129


def test_numbers_are_spread_over_all_there_are() -> None:
    assert spread(0, 5) == [] and spread(3, 5) == [0, 1, 2] and spread(10, 1) == [5]
    assert spread(100, 4) == [12, 37, 62, 87]
