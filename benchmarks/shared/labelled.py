"""What the benchmarks on labelled sentences share: data, a place, and a quiet transformers."""

from dataclasses import replace
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from benchmarks.shared.machine import SHARED
from lmsl.data import synthetic
from lmsl.data.read import read
from lmsl.data.tags.sentence import Dataset
from lmsl.errors import InputError
from lmsl.training.stack import Place

CPU_PLACE = Place(device=torch.device("cpu"), dtype=torch.float32)
SYNTHETIC = "synthetic"
CONLL2000 = SHARED / "data" / "conll2000"


def labelled(source: str, split: str, sentences: int | None) -> Dataset:
    """A labelled file, or generated sentences of ``split``.

    Args:
        source: the file, or ``synthetic``.
        sentences: only the first so many; None takes all, or what a generated split has.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    if source == SYNTHETIC:
        size = sentences or synthetic.SIZES[split]
        return synthetic.generate(split, synthetic.DEFAULT_DIAL, size)
    if not Path(source).exists():
        raise InputError(
            f"--data: expected a labelled file, found none at {source}; name another, or "
            f"use --data {SYNTHETIC}"
        )
    data = read(source)
    return replace(data, sentences=data.sentences[:sentences])


def record_name(data: Dataset) -> str:
    """Data by folder and file: where they lie on this machine is nobody's business."""
    return "/".join(Path(data.source).parts[-2:])


def prepare(threads: int | None) -> None:
    """Silence transformers' remarks and bars; set the threads of torch, if they are given."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if threads is not None:
        torch.set_num_threads(threads)
