"""What the commands of the benchmarks do alike: flags, their checks, and the exit status."""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from lmsl.errors import InputError, TrainingError

S = TypeVar("S")
Main = Callable[..., int]


def status_of(run: Callable[[], int | None]) -> int:
    """The exit status of a command; what a user is to know is one line.

    2 is bad input, 1 a training that failed.
    """
    try:
        return run() or 0
    except (InputError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1


def command(settings: type[S], run: Callable[[S], int | None], module: str) -> Main:
    """``main`` of a benchmark whose flags are the fields of a dataclass."""

    def main(argv: Sequence[str] | None = None) -> int:
        # Not everywhere: machines without a network tend to lack it.
        import tyro

        return status_of(lambda: run(tyro.cli(settings, args=argv, prog=f"python -m {module}")))

    return main


def at_least(settings: object, **least: int) -> None:
    """Check numbers of settings by name, those that are given.

    Not in ``__post_init__``, where tyro would put a frame of its own around the message.

    Raises:
        InputError: one of them is smaller.
    """
    for name, smallest in least.items():
        value = getattr(settings, name)
        if value is not None and value < smallest:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag}: expected at least {smallest}, got {value}")


def choose_device(name: str) -> torch.device:
    """The device by its name; an absent one is bad input."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or not (index or "0").isdigit():
        raise InputError(f"--device: expected cpu or cuda, got {name!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("--device: expected a CUDA device, found none; use --device cpu --quick")
    return torch.device(name)
