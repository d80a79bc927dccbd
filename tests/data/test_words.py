"""Word splitting: examples users will meet, and properties over any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsl.data.formats.words import split_words
from lmsl.errors import InputError


def pieces(text: str, mode: str = "unicode") -> list[str]:
    return [text[start:end] for start, end in split_words(text, mode)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \t\n\u3000\u200b\ufeff", []),
        ("Ada met Babbage.", ["Ada", "met", "Babbage", "."]),
        ("don't", ["don", "'", "t"]),
        ("3.5%--no", ["3", ".", "5", "%", "-", "-", "no"]),
        ("snake_case x2", ["snake_case", "x2"]),
        ("cafe\u0301 nai\u0308ve", ["cafe\u0301", "nai\u0308ve"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("co\u00adoperate", ["co\u00adoperate"]),
        ("a\u200bb", ["a", "b"]),
        ("東京タワーへ", ["東", "京", "タワー", "へ"]),
        ("👩‍👩‍👧‍👦👍🏽ok", ["👩‍👩‍👧‍👦", "👍🏽", "ok"]),
        ("🇩🇰🇸🇪", ["🇩🇰", "🇸🇪"]),
        ("❤️‍🔥 1️⃣", ["❤️‍🔥", "1️⃣"]),
        ("🏴󠁧󠁢󠁳󠁣󠁴󠁿!", ["🏴󠁧󠁢󠁳󠁣󠁴󠁿", "!"]),
        ("\u0301x", ["\u0301", "x"]),
        ("\0\x07", ["\0", "\x07"]),
    ],
)
def test_unicode_words(text: str, words: list[str]) -> None:
    assert pieces(text) == words


def test_other_modes() -> None:
    assert pieces("Ada  met\u3000Babbage.", "whitespace") == ["Ada", "met", "Babbage."]
    assert pieces("สวัสดี a👍🏽", "char") == ["ส", "วั", "ส", "ดี", "a", "👍🏽"]
    with pytest.raises(InputError, match="--words"):
        pieces("x", "words")


@given(st.text(max_size=60), st.sampled_from(["unicode", "whitespace", "char"]))
def test_words_are_ordered_and_cover_all_that_is_visible(text: str, mode: str) -> None:
    offsets = split_words(text, mode)  # type: ignore[arg-type]
    position, gaps = 0, []
    for start, end in offsets:
        assert position <= start < end
        gaps.append(text[position:start])
        position = end
    gaps.append(text[position:])
    assert not "".join(gaps).strip().strip("\u200b\ufeff \n\t\r").strip("\u200b\ufeff")


def test_ten_thousand_words() -> None:
    text = "naïve 👍🏽 co-operation, " * 10_000
    assert len(split_words(text)) == 60_000
