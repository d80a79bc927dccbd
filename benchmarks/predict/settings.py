"""Flags of the benchmark of prediction."""

from dataclasses import dataclass

from benchmarks.shared.comparison import Comparison
from benchmarks.shared.flags import at_least
from benchmarks.shared.labelled import CONLL2000
from lmsl.errors import InputError

_SIZES = {"cpu": (1, 2, 4, 8, 16, 32, 64), "cuda": (8, 16, 32, 64, 128, 256, 512)}


@dataclass(frozen=True, kw_only=True)
class Settings(Comparison):
    """What is measured, and for how long."""

    data: str = str(CONLL2000 / "test.txt")
    """A labelled file, `synthetic`, or `lengths:NAME` for random words in sentences as long as
    those of conll2003 or conll2000."""
    sentences: int = 512
    """Predict the first so many sentences in each round; 0 takes all."""
    batch_sizes: tuple[int, ...] = ()
    """Among which the peers' best is looked for; by default 1 to 64, and 8 to 512 on a GPU."""
    budgets: tuple[int, ...] = (512, 2048, 8192, 32768)
    """Tokens of a pack, for the table of ours by budget; on a CPU at most 2048 are used."""
    updates: int = 40
    """Of the short training."""
    rounds: int = 9
    """How often all contenders take their turn."""
    sweep_rounds: int = 2
    """The same while batch sizes and budgets are looked at."""

    @property
    def swept(self) -> tuple[int, ...]:
        return self.batch_sizes or _SIZES[self.device]

    def check(self) -> None:
        """Raise ``InputError`` for numbers that make no sense."""
        at_least(self, sentences=0, updates=1, rounds=1, sweep_rounds=1, threads=1)
        for flag, sizes in (("--batch-sizes", self.batch_sizes), ("--budgets", self.budgets)):
            if any(size < 1 for size in sizes):
                raise InputError(f"{flag}: expected sizes from 1, got {sizes}")
