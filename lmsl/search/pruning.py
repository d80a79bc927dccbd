"""Dropping the runs of strings that cannot win any more, and saying so in their folders."""

from collections.abc import Sequence
from dataclasses import asdict

from lmsl.console import Console
from lmsl.run_directory.files import write_json
from lmsl.run_directory.folder import PRUNED, writing
from lmsl.search.racing import losers
from lmsl.training.checkpoint import remove_checkpoint
from lmsl.training.runs import Run


def drop_losers(runs: Sequence[Run], console: Console) -> list[Run]:
    """The runs that stay, after an evaluation of all of them at the same update.

    The folder of a dropped run keeps its log and tells in ``pruned.json`` when it was dropped and
    by how much; ``--resume`` leaves it alone.
    """
    strings = list(dict.fromkeys(run.string for run in runs))
    counts = {
        string: [
            run.progress.counts.numpy()
            for run in runs
            if run.string == string and run.progress.counts is not None
        ]
        for string in strings
    }
    # After an interruption some may be an epoch ahead, or were saved by a process that did not
    # compare; and patience may have ended one seed of a string.
    seeds = {len(own) for own in counts.values()}
    if len(seeds) > 1 or 0 in seeds or len({run.progress.updates for run in runs}) > 1:
        return list(runs)
    updates = runs[0].progress.updates
    dropped = losers(counts, seed=updates)
    for run in runs:
        if run.string in dropped:
            why = {
                "unmask": run.string,
                "seed": run.seed,
                "updates": run.progress.updates,
                "seconds": round(run.progress.seconds, 1),
                "best_dev": run.progress.best_score,
                **asdict(dropped[run.string]),
            }
            with writing(run.folder):
                write_json(run.folder / PRUNED, why)
                remove_checkpoint(run.folder)
    for string, why_not in dropped.items():
        low, high = (100 * bound for bound in why_not.interval)
        console.say(
            f"pruned after update {updates}: {string}, dev {100 * why_not.score:.2f}; "
            f"{why_not.leader} is {low:.2f} to {high:.2f} points better"
        )
    return [run for run in runs if run.string not in dropped]
