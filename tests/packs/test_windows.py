"""Windows: every word once, where its poorer side sees most, whatever the lengths."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsl.packs.alignment import Encoding
from lmsl.packs.windows import cut_long_words, windows

word_lists = st.lists(st.integers(1, 9), min_size=1, max_size=60)


@settings(max_examples=100)
@given(sizes=word_lists, limit=st.integers(1, 40))
def test_windows_cover_every_word_once_whatever_the_lengths(sizes: list[int], limit: int) -> None:
    sizes = [min(size, limit) for size in sizes]
    ends = np.cumsum(sizes, dtype=np.int32) + 1
    starts = (ends - sizes).astype(np.int32)
    found = windows(starts, ends, limit)
    assert [word for each in found for word in range(each.read_first, each.read_last)] == list(
        range(len(sizes))
    )
    best = []
    for each in found:
        assert each.first <= each.read_first < each.read_last <= each.last
        assert ends[each.last - 1] - starts[each.first] <= limit
    for each in found:
        for word in range(each.read_first, each.read_last):
            poorer = [
                min(starts[word] - starts[other.first], ends[other.last - 1] - ends[word])
                for other in found
                if other.first <= word < other.last
            ]
            own = min(starts[word] - starts[each.first], ends[each.last - 1] - ends[word])
            best.append(own == max(poorer))
    assert all(best)


def test_words_in_the_middle_see_a_quarter_window_on_both_sides() -> None:
    starts = np.arange(5000, dtype=np.int32)
    for limit in (16, 64, 255):
        for each in windows(starts, starts + 1, limit):
            for word in (each.read_first, each.read_last - 1):
                left = word - each.first
                right = each.last - 1 - word
                assert left >= min(word, limit // 4 - 1)
                assert right >= min(4999 - word, limit // 4 - 1)


def test_cutting_leaves_the_other_words_alone() -> None:
    ids = np.arange(20, dtype=np.int32)
    starts, ends = np.array([2, 3, 12, 14], np.int32), np.array([3, 12, 14, 20], np.int32)
    cut, count = cut_long_words(Encoding(ids=ids, starts=starts, ends=ends), 5)
    assert count == 2
    assert cut.ids.tolist() == [0, 1, 2, 3, 11, 12, 13, 14, 19]
    assert (cut.starts.tolist(), cut.ends.tolist()) == ([2, 3, 5, 7], [3, 5, 7, 9])
