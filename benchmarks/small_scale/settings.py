"""Flags of the small-scale study."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared.flags import at_least
from benchmarks.shared.machine import REPOSITORY, SHARED
from benchmarks.shared.record import RESULTS
from benchmarks.small_scale.material import DATASETS, SHORT
from lmsl.errors import InputError

_SHARED = SHARED / "data"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is pre-trained and fine-tuned, how long, and what is shown."""

    text: Path = _SHARED / "pretrain_novels" / "novels.tar.xz"
    """Archive (tar, compressed or not) of UTF-8 .txt files to pre-train on."""
    data: Path = _SHARED
    """Folder that holds the data sets."""
    scratch: Path = Path(tempfile.gettempdir()) / "lmsl-small-scale"
    """Folder for tokenizer, checkpoints and trainings; outside the repository."""
    record: Path = RESULTS / "small_scale_cpu.jsonl"
    """Where a line is added for every checkpoint and every fine-tuning."""
    tokenizer: Path | None = None
    """Folder of a tokenizer; by default a byte-level BPE of 8,192 sub-words is learned."""
    width: int = 192
    """Of the model: 768 as in the paper, with heads of 64; heads of 32 below 512."""
    tokens: int = 10_000_000
    """That each of the two is pre-trained on."""
    checkpoints: int = 6
    """Models that are fine-tuned: the initial one, the last, and others on the way, each after
    three times the tokens of the one before."""
    blocks: int = 32
    """Blocks of 128 tokens in an update of pre-training."""
    pretraining_lr: float = 1e-3
    """Peak learning rate of pre-training."""
    datasets: tuple[str, ...] = SHORT
    """Some of snips, conll2000, mams_atsa and wnut17; the last needs more updates."""
    seeds: int = 5
    """Of every fine-tuning, from 1."""
    updates: int = 150
    """Updates of every fine-tuning."""
    batch_size: int = 16
    """Sentences of such an update."""
    lr: float = 1e-3
    """Peak learning rate of every fine-tuning."""
    sentences: int = 2400
    """Of train, drawn once."""
    dev_sentences: int = 200
    """Of dev, at most, drawn once; nothing is chosen by them."""
    test_sentences: int = 1000
    """Of test, at most, drawn once."""
    minutes: float | None = None
    """Work for about so long, save, and say what is left; by default to the end."""
    threads: int = 2
    """Threads of every training."""
    table: bool = False
    """Write the table and the picture of what is done, and train nothing."""
    retry: bool = False
    """Try fine-tunings again that failed."""

    @property
    def same(self) -> dict[str, Any]:
        """What is alike in all lines that stand in one table, but for the rate of fine-tuning,
        which is part of a cell."""
        names = [
            *("width", "tokens", "checkpoints", "blocks", "pretraining_lr", "updates"),
            *("batch_size", "sentences", "dev_sentences", "test_sentences"),
        ]
        own = {name: getattr(self, name) for name in names}
        return {**own, "tokenizer": None if self.tokenizer is None else self.tokenizer.name}

    def check(self) -> None:
        """Raise ``InputError`` for values that make no sense."""
        at_least(self, width=32, tokens=1, checkpoints=2, blocks=1, seeds=1, updates=1)
        at_least(self, batch_size=1, sentences=2, dev_sentences=1, test_sentences=1, threads=1)
        if self.width % self.head:
            raise InputError(
                f"--width: expected a multiple of {self.head}, which a head has, got {self.width}"
            )
        for flag, value in (("pretraining-lr", self.pretraining_lr), ("lr", self.lr)):
            if not 0 < value < 1:
                raise InputError(f"--{flag}: expected more than 0 and less than 1, got {value}")
        if self.minutes is not None and not self.minutes > 0:
            raise InputError(f"--minutes: expected more than 0, got {self.minutes}")
        odd = [name for name in self.datasets if name not in DATASETS]
        if odd or not self.datasets:
            expected, got = ", ".join(DATASETS), ", ".join(odd) or "none"
            raise InputError(f"--datasets: expected some of {expected}, got {got}")
        if self.scratch.resolve().is_relative_to(REPOSITORY):
            raise InputError(
                f"--scratch {self.scratch}: expected a folder outside the repository, where "
                "trainings may leave what they like"
            )

    @property
    def head(self) -> int:
        """Width of an attention head."""
        return 64 if self.width >= 512 else 32
