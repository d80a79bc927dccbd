"""Flags of the benchmark of training."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.shared.comparison import Comparison
from benchmarks.shared.flags import at_least
from benchmarks.shared.labelled import CONLL2000
from benchmarks.shared.shapes import text_config
from benchmarks.shared.step_cost import TRACED
from lmsl.mask.bits import layer_bits


@dataclass(frozen=True, kw_only=True)
class Settings(Comparison):
    """What is measured, and for how long."""

    data: str = str(CONLL2000 / "train.txt")
    """A labelled file, `synthetic`, or `lengths:NAME` for random sentences as long as those of
    conll2003 or conll2000."""
    sentences: int | None = None
    """Use only the first so many sentences."""
    unmask: str = "0011"
    """Unmask string of ours."""
    batch_size: int = 16
    """Sentences of one update."""
    micro_batch: int | None = None
    """Sentences of one forward of the peers, where an update does not fit into memory padded."""
    rounds: int = 15
    """How often all contenders take their turn."""
    updates: int = 8
    """Updates of a turn."""
    warmup: int = 4
    """Updates of each contender before the first round."""
    unsloth: str | None = None
    """Python of an environment that has the package unsloth."""
    trace: Path | None = None
    """Folder for the profiler's trace of every contender."""

    @property
    def drawn(self) -> int:
        """Updates of a contender until the last round ends."""
        return self.warmup + self.rounds * self.updates

    @property
    def needed(self) -> int:
        """And one when it is built, and the looks at what a step costs."""
        return 1 + self.drawn + 3 + 1 + TRACED

    def check(self) -> None:
        """Raise ``InputError`` for numbers that make no sense."""
        at_least(self, sentences=1, batch_size=1, micro_batch=1)
        at_least(self, rounds=1, updates=1, warmup=1, threads=1)
        layer_bits(self.unmask, text_config(self.model).num_hidden_layers)
