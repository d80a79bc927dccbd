"""Unmask strings: groups, aliases, order and the errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsl.errors import InputError
from lmsl.mask.bits import expand_strings, group_sizes, layer_bits, uneven_line


def _text(bits):
    return "".join("01"[bit] for bit in bits)


def _expanded(*asked):
    return tuple(expand_strings(*asked))


@pytest.mark.parametrize(
    ("string", "layers", "expected"),
    [
        ("0011", 32, "0" * 16 + "1" * 16),
        ("1000", 32, "1" * 8 + "0" * 24),
        ("0110", 26, "0" * 7 + "1" * 13 + "0" * 6),
        ("1010", 26, "1" * 7 + "0" * 7 + "1" * 6 + "0" * 6),
        ("01", 3, "001"),
        ("1", 5, "11111"),
        ("01101", 5, "01101"),
        ("causal", 5, "00000"),
        ("full", 5, "11111"),
        ("middle", 32, "0" * 10 + "1" * 12 + "0" * 10),
        ("middle", 4, "0110"),
        ("middle", 1, "1"),
    ],
)
def test_examples(string, layers, expected):
    assert _text(layer_bits(string, layers)) == expected


@pytest.mark.parametrize(
    ("string", "words"),
    [
        ("0021", "'0021'"),
        ("", "empty"),
        ("000000", "at most 5.*got 6"),
        ("Full", "causal, full, middle"),
        ("grid", "only 0 and 1"),
        ("01 1", "only 0 and 1"),
        ("٠١", "only 0 and 1"),
        ("０１", "only 0 and 1"),
        (9, "got 9 .*quote it"),
        (True, "quote it"),
        (None, "quote it"),
        (b"01", "quote it"),
        (["0", "1"], "quote it"),
    ],
)
def test_errors_are_one_line_and_say_what_to_do(string, words):
    with pytest.raises(InputError, match=words) as error:
        layer_bits(string, 5)
    assert "\n" not in str(error.value)


def test_a_given_number_of_groups_is_checked():
    assert layer_bits("0011", 8, groups=4) == layer_bits("00001111", 8, groups=4)
    assert layer_bits("middle", 8, groups=4) == layer_bits("middle", 8)
    with pytest.raises(InputError, match=r"expected 4 bits.*or 8.*got 3"):
        layer_bits("001", 8, groups=4)


@given(layers=st.integers(1, 90), data=st.data())
def test_groups_are_contiguous_and_as_equal_as_possible(layers, data):
    groups = data.draw(st.integers(1, layers))
    sizes = group_sizes(layers, groups)
    assert sum(sizes) == layers and len(sizes) == groups
    assert max(sizes) - min(sizes) <= 1 and list(sizes) == sorted(sizes, reverse=True)
    string = data.draw(st.text("01", min_size=groups, max_size=groups))
    bits = layer_bits(string, layers)
    assert _text(bits) == "".join(bit * size for bit, size in zip(string, sizes, strict=True))
    assert layer_bits(_text(bits), layers) == bits


def test_impossible_groups():
    for groups in (0, 6, -1):
        with pytest.raises(InputError, match="1 to 5"):
            group_sizes(5, groups)


def test_expanding():
    assert expand_strings(["middle", "01"], 3) == {
        "middle": (False, True, False),
        "01": (False, False, True),
    }
    grid = _expanded("grid", 8)
    assert len(grid) == 16 and list(grid) == sorted(grid) and grid[3] == "0011"
    assert _expanded(["0011", "grid"], 8) == ("0011", *(s for s in grid if s != "0011"))
    assert _expanded(["grid", "grid", "0000"], 8) == grid
    assert _expanded(["11", "00", "11"], 8, 2) == ("11", "00")
    assert _expanded(["grid"], 8, 2) == ("00", "01", "10", "11")
    assert _expanded(["full", "1111"], 8) == ("full", "1111")


@pytest.mark.parametrize(
    ("strings", "words"),
    [([], "none"), (["0021"], "0021"), (["grid"], "1 to 3"), ([11], "quote it"), ("", "empty")],
)
def test_expanding_refuses(strings, words):
    with pytest.raises(InputError, match=words):
        _expanded(strings, 3)


def test_random_strings_are_distinct_seeded_and_extend_each_other():
    drawn = _expanded("random:32", 32, 8)
    assert len(set(drawn)) == 32 and {len(string) for string in drawn} == {8}
    assert set("".join(drawn)) == {"0", "1"}
    assert _expanded("random:8", 32, 8) == drawn[:8]
    assert _expanded("random:32:0", 32, 8) == drawn != _expanded("random:32:1", 32, 8)
    assert set(_expanded("random:16", 8)) == set(_expanded("grid", 8))
    assert _expanded(["0011", "random:16"], 8)[0] == "0011"


def test_uneven_groups_are_said() -> None:
    assert uneven_line("00111", 8) == "unmask 00111: 5 groups of 2, 2, 2, 1, 1 layers"
    for string in ("0011", "1", "11111111", "full", "middle", "causal"):
        assert uneven_line(string, 8) is None
