"""Flags that the attention benchmark and ``benchmarks.gpu_check`` read alike."""

import torch

from lmsl.errors import InputError


def choose_device(name: str) -> torch.device:
    """The device by its name; an absent one is bad input."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device: expected cpu or cuda, got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"--device: expected cpu or cuda, got {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("--device: expected a CUDA device, found none; use --device cpu --quick")
    return device


def parse_share(flag: str, text: str) -> tuple[int, int]:
    """``"2/12"`` as the third of twelve shares."""
    number, _, total = text.partition("/")
    if not (number.isdigit() and total.isdigit() and int(number) < int(total)):
        raise InputError(f"{flag}: expected K/N with K from 0 to N - 1, got {text!r}")
    return int(number), int(total)


def slug(name: str, quick: bool = False) -> str:
    """A device's name as part of a file's."""
    words = "".join(c if c.isalnum() else " " for c in name.lower()).split()
    return "_".join([*words, *(["quick"] if quick else [])])
