"""``lmsl train`` and ``lmsl sweep``.

What can be wrong without a model is found before torch and transformers are imported, which takes
longer than to read the data.
"""

import argparse
from collections import deque
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from lmsl.cli.flags import Sweep, Train
from lmsl.cli.parse import parse
from lmsl.config.config import NO_STRING, Config, starting_point
from lmsl.console import Console
from lmsl.errors import InputError
from lmsl.search.asked import check_alone, check_stack_size, oneshot_asked
from lmsl.training.data import check_known_folders, read_splits

Flags = TypeVar("Flags", bound=Train)


def train_command(arguments: list[str]) -> int:
    flags, config = _training_flags(Train, "train", arguments)
    check_known_folders(config)
    console = Console(verbose=flags.verbose)
    with console.working("reading the data"):
        splits = read_splits(config)
    from lmsl.run import train_runs

    # Each Labeler is dropped at once: the next run needs the memory.
    deque(train_runs(config, console, splits=splits), maxlen=0)
    return 0


def sweep_command(arguments: list[str]) -> int:
    flags, config = _training_flags(Sweep, "sweep", arguments)
    check_stack_size(flags.stack)
    oneshot = oneshot_asked(flags.mode, flags.stack, flags.top, flags.short_grid)
    check_alone(config, flags.stack, prune=flags.prune, oneshot=oneshot)
    check_known_folders(config)
    console = Console(verbose=flags.verbose)
    with console.working("reading the data"):
        splits = read_splits(config)
    from lmsl.run import train_runs

    runs = train_runs(
        config, console, splits=splits, stack=flags.stack, prune=flags.prune, oneshot=oneshot
    )
    deque(runs, maxlen=0)
    return 0


def _training_flags(kind: type[Flags], name: str, arguments: list[str]) -> tuple[Flags, Config]:
    """The flags of a training command, and what they say of its runs."""
    # Recipe and file decide the defaults that the flags are read against.
    early = argparse.ArgumentParser(prog=f"lmsl {name}", add_help=False, allow_abbrev=False)
    early.add_argument("--recipe")
    early.add_argument("--config", type=Path)
    known, _ = early.parse_known_args(arguments)
    start = starting_point(known.recipe, known.config)
    flags: Flags = parse(kind, arguments, name, kind(**start, config=known.config))
    config = Config(**{field.name: getattr(flags, field.name) for field in fields(Config)})
    # Of other models it has to be seen whether they are encoders.
    if not config.unmask and config.model == Config.model:
        raise InputError(NO_STRING)
    return flags, config
