"""Sentences with tags, and everything that reads them; the names other modules import.

`read` loads one split, `load_splits` the splits of a run. The parts live in modules of their own:
`sentence` (types), `words`, `labels`, `vocabulary`, the readers, `resolve` and `splits`.
"""

from lmsl.read import read, read_with
from lmsl.sentence import Dataset, ReadOptions, Sentence, Span
from lmsl.splits import Splits, hold_out, load_splits

__all__ = [
    "Dataset",
    "ReadOptions",
    "Sentence",
    "Span",
    "Splits",
    "hold_out",
    "load_splits",
    "read",
    "read_with",
]
