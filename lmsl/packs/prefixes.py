"""Examples cut short: what a model reads where nothing is to stand to the right of a word.

Sub-words are cut, not text: what is left is the beginning of the sequence as it was. Of repeated
copies all are cut alike, or an earlier one would still tell what follows.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from lmsl.packs.examples import Example


def cut_behind(example: Example, copies: int, first: int, last: int) -> Example:
    """The example up to the end of its read word ``last - 1``; it reads words [first, last).

    Args:
        copies: how often a sentence stands in its example.
        first, last: of the read words, counted from the first of them; at least one.
    """
    size = len(example.ids) // copies
    shift = (copies - 1) * size
    stop = int(example.ends[last - 1]) - shift
    moved = (copies - 1) * stop - shift
    ids = example.ids[:stop]
    return replace(
        example,
        # One copy stays a view: of a long sentence there are many.
        ids=ids if copies == 1 else np.tile(ids, copies),
        first_word=example.first_word + first,
        starts=example.starts[first:last] + moved,
        ends=example.ends[first:last] + moved,
    )


def each_word_last(examples: Iterable[Example], copies: int) -> Iterator[Example]:
    """For every read word an example of its own, which ends with that word and reads it alone."""
    for example in examples:
        for word in range(len(example.starts)):
            yield cut_behind(example, copies, word, word + 1)
