"""What the flags of ``lmsl sweep`` ask for, checked without a model."""

from dataclasses import dataclass
from typing import Literal

from lmsl.config.config import Config
from lmsl.errors import InputError

StackSize = int | Literal["auto"]


@dataclass(frozen=True, kw_only=True)
class OneShot:
    """What is asked of a one-shot."""

    top: int | None = None
    """Strings to train for real; None is ``TOP``, or all where there are fewer."""
    short_grid: bool = False
    """Also train a short grid, for comparison."""


def oneshot_asked(
    mode: Literal["full", "oneshot"], stack: StackSize, top: int | None, short_grid: bool
) -> OneShot | None:
    """What the flags of ``lmsl sweep`` ask for; InputError where they contradict each other."""
    if mode == "oneshot" and stack != "auto":
        raise InputError(f"--stack: expected it left out with --mode oneshot, got {stack}")
    if mode == "full" and (short_grid or top is not None):
        name = "--short-grid" if short_grid else "--top"
        raise InputError(f"{name}: expected it with --mode oneshot only")
    return OneShot(top=top, short_grid=short_grid) if mode == "oneshot" else None


def check_stack_size(stack: StackSize) -> None:
    """Refuse a number of runs that cannot be trained at once."""
    if stack != "auto" and stack < 1:
        raise InputError(f"--stack: expected auto or at least 1, got {stack}")


def check_alone(config: Config, stack: StackSize, *, prune: bool, oneshot: OneShot | None) -> None:
    """Refuse to train several runs at once that can only be trained one after another.

    Of a model that has to be padded that is known when it is loaded, see
    ``lmsl.tagger.assemble.why_alone``.
    """
    if config.tune == "full" and stack not in ("auto", 1):
        raise InputError(
            f"--stack {stack}: expected 1, all weights (--tune full) can train one run at a time"
        )
    if config.task == "generate" and (stack != 1 or prune or oneshot is not None):
        raise InputError(
            "--task generate: its runs are trained one after another; use lmsl train, which takes "
            "several seeds"
        )
