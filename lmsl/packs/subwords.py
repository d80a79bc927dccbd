"""Which word owns which sub-word, decided from character spans alone, for many sentences at once.

The three rules are those of :mod:`lmsl.packs.alignment`. Everything is an array operation over all
the characters of a batch of sentences: a loop over sub-words in Python costs more than tokenising.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray


def owners(
    sentences: Sequence[Sequence[str]], sizes: NDArray[np.int64], spans: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Give every sub-word a word and say which sub-words straddle two words or go backwards.

    Args:
        sentences: lists of words, none empty; their texts are the words joined by one space.
        sizes: [sentences] sub-words of each sentence.
        spans: [sub-words, 2] character ranges in the sub-word's own sentence.

    Returns:
        ([sub-words] index of the owner among all words, [sub-words] whether it cannot be owned)
    """
    lengths = [[len(word) for word in words] for words in sentences]
    words_per = np.array([len(words) for words in sentences])
    first_word = np.cumsum(words_per) - words_per
    # A word's stretch of text is its own characters and, but for the first word, the separator.
    stretch = np.array(list(chain.from_iterable(lengths)), dtype=np.int64) + 1
    stretch[first_word] -= 1
    text_sizes = np.add.reduceat(stretch, first_word)
    owner_of_char = np.repeat(np.arange(len(stretch)), stretch)

    sentence = np.repeat(np.arange(len(sentences)), sizes)
    if (spans < 0).any() or (spans > text_sizes[sentence, None]).any():
        raise RuntimeError("the tokenizer gave offsets outside the text it was given")
    base = (np.cumsum(text_sizes) - text_sizes)[sentence]
    start, end = spans[:, 0] + base, spans[:, 1] + base

    separator = np.zeros(len(owner_of_char) + 1, dtype=bool)
    has_separator = np.ones(len(stretch), dtype=bool)
    has_separator[first_word] = False
    separator[(np.cumsum(stretch) - stretch)[has_separator]] = True
    position = np.arange(len(separator))
    next_own = np.minimum.accumulate(np.where(separator, len(separator), position)[::-1])[::-1]
    last_own = np.maximum.accumulate(np.where(separator, -1, position))

    # Texts without characters leave no character to point at; their first word takes all.
    owner_at = np.append(owner_of_char, len(stretch) - 1)
    textless = text_sizes[sentence] == 0
    within = np.minimum(start, base + np.maximum(text_sizes[sentence], 1) - 1)
    blank = np.where(start < end, end - 1, within)
    first_own = next_own[np.minimum(start, len(separator) - 1)]
    written = (start < end) & (first_own < end)
    owner = owner_at[np.where(written, first_own, np.minimum(blank, len(owner_at) - 1))]
    owner = np.where(textless, first_word[sentence], owner)
    straddles = written & (owner_at[last_own[end - 1]] != owner)
    # Words are in the order of the text, so a smaller owner later means reordered sub-words.
    straddles[1:] |= (np.diff(owner) < 0) & (np.diff(sentence) == 0)
    return owner, straddles
