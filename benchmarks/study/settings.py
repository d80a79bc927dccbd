"""Flags of the study."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared.flags import at_least
from benchmarks.shared.machine import REPOSITORY, SHARED
from benchmarks.shared.record import RESULTS
from benchmarks.study.material import DATASETS
from benchmarks.study.systems import DECODER, ENCODER, chosen
from lmsl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is trained, how long, and what is shown."""

    models: Path | None = None
    """Folder that holds the models smollm2-135m and minilm-l6, each as a Hugging Face folder."""
    data: Path = SHARED / "data"
    """Folder that holds snips, mams_atsa and wnut17."""
    scratch: Path = Path(tempfile.gettempdir()) / "lmsl-study"
    """Folder for what trainings leave, adapters and predictions; outside the repository."""
    record: Path = RESULTS / "study_cpu.jsonl"
    """Where a line is added for every cell."""
    systems: tuple[str, ...] = ()
    """Only these, by their names in the list."""
    datasets: tuple[str, ...] = DATASETS
    """Only these."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Of every system."""
    leader_seeds: tuple[int, ...] = (4, 5)
    """Further ones of the reference and of the three systems that are best on dev."""
    updates: int = 150
    """Updates of every training."""
    batch_size: int = 16
    """Sentences of an update."""
    sentences: int = 2400
    """Of train, drawn once, for every system that is not said to see all of it."""
    threads: int = 2
    """Threads of every training."""
    list: bool = False
    """Show what is planned, done and left, and train nothing."""
    table: bool = False
    """Write the table and the picture of what is done, and train nothing."""
    cost: bool = False
    """Measure speed and memory of every system; the machine should have nothing else to do."""
    cost_updates: int = 10
    """Updates that are timed there."""
    cost_rounds: int = 3
    """How often every system takes its turn there."""
    retry: bool = False
    """Try cells again that failed."""

    @property
    def same(self) -> dict[str, Any]:
        """What is alike in all trainings that stand in one table."""
        return {
            "updates": self.updates,
            "batch_size": self.batch_size,
            "sentences": self.sentences,
        }

    def check(self) -> None:
        """Raise ``InputError`` for values that make no sense."""
        at_least(self, updates=1, batch_size=1, sentences=2, threads=1)
        at_least(self, cost_updates=1, cost_rounds=1)
        chosen(self.systems)
        odd = [name for name in self.datasets if name not in DATASETS]
        if odd or not self.datasets:
            expected, got = ", ".join(DATASETS), ", ".join(odd) or "none"
            raise InputError(f"--datasets: expected some of {expected}, got {got}")
        if not self.seeds or min(self.seeds + self.leader_seeds) < 0:
            raise InputError("--seeds: expected one or more from 0")
        if self.scratch.resolve().is_relative_to(REPOSITORY):
            raise InputError(
                f"--scratch {self.scratch}: expected a folder outside the repository, where "
                "trainings may leave what they like"
            )

    def folder(self) -> Path:
        """The folder of the models.

        Raises:
            InputError: it was not named, or lacks one of them.
        """
        if self.models is None:
            raise InputError(f"--models: expected a folder that holds {DECODER} and {ENCODER}")
        for name in (DECODER, ENCODER):
            if not (self.models / name / "config.json").is_file():
                raise InputError(f"--models {self.models}: expected {name} in it, found none")
        return self.models
