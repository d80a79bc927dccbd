"""Examples cut short: what a model reads where nothing is to stand to the right of a word.

Sub-words are cut, not text: what is left is the beginning of the sequence as it was. Of repeated
copies all are cut alike, or an earlier one would still tell what follows.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from lmsl.packs.examples import Example


def cut_behind(
    example: Example, copies: int, first: int, last: int, closing: Sequence[int] = ()
) -> Example:
    """The example up to the end of its read word ``last - 1``; it reads words [first, last).

    Args:
        copies: how often a sentence stands in its example.
        first, last: of the read words, counted from the first of them; at least one.
        closing: what ends a text, as ``Aligner.eos``.
    """
    shift = (copies - 1) * (len(example.ids) // copies)
    ids = example.ids[: int(example.ends[last - 1]) - shift]
    if closing:
        ids = np.concatenate([ids, np.asarray(closing, dtype=ids.dtype)])
    moved = (copies - 1) * len(ids) - shift
    return replace(
        example,
        # One copy stays a view where it can: of a long sentence there are many.
        ids=ids if copies == 1 else np.tile(ids, copies),
        first_word=example.first_word + first,
        starts=example.starts[first:last] + moved,
        ends=example.ends[first:last] + moved,
    )


def each_word_last(
    examples: Iterable[Example], copies: int, closing: Sequence[int] = ()
) -> Iterator[Example]:
    """For every read word an example of its own, whose text ends with that word and of which it
    alone is read."""
    for example in examples:
        for word in range(len(example.starts)):
            yield cut_behind(example, copies, word, word + 1, closing)
