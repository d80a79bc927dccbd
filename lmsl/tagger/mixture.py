"""Which unmask string each sentence of a one-shot run is seen under.

The run has one set of weights and a list of candidate strings; in every update each sentence
draws one of them. Like a dropout mask, a draw is a pure function of (run seed, update, sentence),
taken from numpy's Philox4x64-10 at the counter of that place: however an update is cut into
micro-batches and wherever training was interrupted, a sentence sees the same string. All windows
of a sentence share its draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmsl.layers.dropout import site_number
from lmsl.mask.bits import Bits
from lmsl.packs.examples import Example

_STREAM = site_number("one-shot strings")
_WORD = 1 << 64


@dataclass(frozen=True, eq=False, kw_only=True)
class Mixture:
    """The candidates of a run."""

    bits: Bits
    """For each candidate one bit a layer."""
    seed: int

    def drawn(self, sentence: int, step: int | None) -> int:
        """The number of the candidate that a sentence is seen under.

        Args:
            sentence: its number in the data set.
            step: of the update, from 0; None is evaluation, which draws once and for all.
        """
        counter = (sentence, 0 if step is None else step + 1, 0, 0)
        philox = np.random.Philox(
            key=np.array((self.seed % _WORD, _STREAM), dtype=np.uint64),
            counter=np.array(counter, dtype=np.uint64),
        )
        return int(philox.random_raw()) % len(self.bits)

    def of(self, examples: Sequence[Example], step: int | None) -> Bits:
        """For each example one bit a layer."""
        return [self.bits[self.drawn(example.sentence, step)] for example in examples]
