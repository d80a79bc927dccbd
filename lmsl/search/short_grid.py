"""A short-horizon grid: every string trained for a tenth of the updates, ranked by dev.

The cheap way that needs no idea: its runs are ordinary ones in stacks, with a schedule of their
own that ends after those updates. It costs a tenth of the grid, and what it misses is what decides
between strings only later. Here it is what the one-shot is compared with.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from lmsl.run_directory.folder import making
from lmsl.training.checkpoint import remove_checkpoint
from lmsl.training.epochs import fit
from lmsl.training.runs import Run, find_progress, in_stacks
from lmsl.training.schedule import total_updates
from lmsl.training.session import Session

SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class ShortGrid:
    """What came of it."""

    scores: dict[str, float]
    """Best dev score of each string."""
    updates: int
    """Of all its runs together."""
    seconds: float
    """Of training and dev scores, of all its runs together."""


def short_grid(session: Session, oneshot: Run, folder: Path) -> ShortGrid:
    """Train every string briefly, in stacks; an interrupted grid goes on with ``--resume``.

    Args:
        oneshot: the run whose candidates and seed these are.
        folder: of the logs and, until all runs are over, of the checkpoints.
    """
    steps = max(1, round(SHARE * total_updates(len(session.task), session.config)))
    config = replace(session.config, max_steps=steps)
    # There is room for one stack at a time.
    session.stack = None
    short = replace(session, config=config, stack=None)
    runs = [
        Run(
            config=config.of_strings((string,), (oneshot.seed,)),
            folder=folder / string,
            bits=(bits,),
            digests=oneshot.digests,
            number=number,
        )
        for number, (string, bits) in enumerate(zip(oneshot.candidates, oneshot.bits, strict=True))
    ]
    session.console.say(f"short grid: {len(runs)} strings, {steps} updates each")
    if config.resume:
        find_progress(runs, len(session.task), session.console.say)
    waiting = [run for run in runs if not run.over]
    for group in in_stacks(waiting, short.stack_size(waiting)) if waiting else []:
        short.announce(group)
        stack = short.stack_of(group)
        with making([run.folder for run in group], overwrite=False):
            fit(stack, session.task, session.data, session.place, session.console, until=steps)
    short.stack = None
    return ShortGrid(
        scores={run.string: run.progress.best_score for run in runs},
        updates=sum(run.progress.updates for run in runs),
        seconds=sum(run.progress.seconds for run in runs),
    )


def forget(folder: Path) -> None:
    """Remove the checkpoints of a grid whose scores are written."""
    for run in folder.glob("*"):
        remove_checkpoint(run)
