"""``lmsl train`` and ``lmsl sweep``.

What can be wrong without a model is found before torch and transformers are imported, which takes
longer than to read the data.
"""

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lmsl.cli.closing import closing_lines
from lmsl.cli.flags import Sweep, Train
from lmsl.cli.parse import parse
from lmsl.config.config import Config, starting_point
from lmsl.config.recipes import recipe
from lmsl.console import Console
from lmsl.data.documents import read_object
from lmsl.errors import InputError
from lmsl.search.asked import check_alone, check_stack_size, oneshot_asked
from lmsl.training.data import check_known_folders, read_splits

if TYPE_CHECKING:
    from lmsl.training.runs import Run

Flags = TypeVar("Flags", bound=Train)


def train_command(arguments: list[str]) -> int:
    flags, config = _training_flags(Train, "train", arguments)
    check_known_folders(config)
    console = flags.console()
    with console.working("reading the data"):
        splits = read_splits(config)
    from lmsl.run import train_runs

    return _told(train_runs(config, console, splits=splits), config, flags, console)


def sweep_command(arguments: list[str]) -> int:
    flags, config = _training_flags(Sweep, "sweep", arguments)
    check_stack_size(flags.stack)
    oneshot = oneshot_asked(flags.mode, flags.stack, flags.top, flags.short_grid)
    check_alone(config, flags.stack, prune=flags.prune, oneshot=oneshot)
    check_known_folders(config)
    console = flags.console()
    with console.working("reading the data"):
        splits = read_splits(config)
    from lmsl.run import train_runs

    runs = train_runs(
        config, console, splits=splits, stack=flags.stack, prune=flags.prune, oneshot=oneshot
    )
    return _told(runs, config, flags, console)


def _told(
    runs: Iterator[tuple["Run", object]], config: Config, flags: Train, console: Console
) -> int:
    """Let the runs be trained; what is asked for of each, and what is said at the end."""
    folders = []
    # Each Labeler is dropped at once: the next run needs the memory.
    for run in map(itemgetter(0), runs):
        folders.append(run.folder)
        if flags.json:
            known = {"run": str(run.folder), "unmask": run.string, "seed": run.seed}
            metrics = read_object(run.folder / "metrics.json")
            print(json.dumps({**known, **metrics}, ensure_ascii=False), flush=True)
    for line in closing_lines(folders, comparable=config.task == "label"):
        console.say(line)
    return 0


def _training_flags(kind: type[Flags], name: str, arguments: list[str]) -> tuple[Flags, Config]:
    """The flags of a training command, and what they say of its runs."""
    # Recipe and file decide the defaults that the flags are read against.
    early = argparse.ArgumentParser(
        prog=f"lmsl {name}", add_help=False, allow_abbrev=False, exit_on_error=False
    )
    early.add_argument("--recipe")
    early.add_argument("--config", type=Path)
    try:
        known, _ = early.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise InputError(f"{name}: {error.argument_name}: expected a value, got none") from error
    start = starting_point(known.recipe, known.config)
    flags: Flags = parse(kind, arguments, name, kind(**start, config=known.config))
    try:
        return flags, Config(**{each.name: getattr(flags, each.name) for each in fields(Config)})
    except InputError as error:
        origin = _origin(str(error), flags, start, known.recipe)
        raise InputError(f"{error}{origin}") from error


def _origin(refusal: str, flags: Train, start: Mapping[str, Any], named: str | None) -> str:
    """Where a refused setting came from, if it was not given as a flag; the end of a message.

    Args:
        refusal: begins with the flag.
        start: the settings before the command line.
        named: the recipe that the command line names.
    """
    flag = re.match(r"--([a-z0-9-]+)", refusal)
    name = flag[1].replace("-", "_") if flag else ""
    if name not in start or start[name] != getattr(flags, name) or (name == "recipe" and named):
        return ""
    if name != "recipe" and name in (own := recipe(start["recipe"])) and own[name] == start[name]:
        return f" (--recipe {start['recipe']} says so)"
    return f" (--config {flags.config} says so)" if flags.config else ""
