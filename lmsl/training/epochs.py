"""Training a stack from where it is to some update: epochs, dev scores, checkpoints.

At the end of an epoch every run is evaluated, takes note of its weights if they are to be
selected, and is saved. A run that is out of patience leaves the stack there; the others go on
without it.
"""

import time
from collections.abc import Sequence
from contextlib import nullcontext

import torch

from lmsl.console import Bar, Console
from lmsl.data.tags.counts import Entities, sentence_counts
from lmsl.data.tags.metrics import metric_name
from lmsl.generation.locate import in_short
from lmsl.run_directory.folder import writing
from lmsl.training.evaluate import Evaluated, dev_scores
from lmsl.training.inputs import Prepared
from lmsl.training.interrupt import Stop, stopping
from lmsl.training.loop import Task, Update, training_updates
from lmsl.training.peak import Peak
from lmsl.training.schedule import total_updates
from lmsl.training.stack import Place, Stack
from lmsl.wording import counted


def fit(
    stack: Stack,
    task: Task,
    data: Prepared,
    place: Place,
    console: Console,
    *,
    until: int,
    compared: bool = False,
    peak: Peak | None = None,
) -> None:
    """Train until ``until`` updates are made, an end of an epoch, or no run has patience left.

    Args:
        until: see ``schedule.epoch_ends``.
        compared: keep what each run found in each sentence of dev, for comparing runs.
        peak: told apart by it is what training takes and what evaluation does.

    Raises:
        TrainingError: a loss or a score is not finite, or the disk is full.
    """
    last = total_updates(len(task), stack.config)
    with stopping(console.say) as stop, console.bar("training", last, stack.updates) as bar:
        while stack.runs and stack.updates < until:
            before, update = _epoch(stack, task, place, console, bar, stop)
            with (
                nullcontext() if peak is None else peak.aside(),
                console.track("evaluating on dev", "pack", None) as track,
            ):
                found = dev_scores(stack, data, place, console.say, track, update.step)
            seconds = (time.monotonic() - before) / len(stack.runs)
            _take_note(stack, update, found, seconds, data, compared)
            _say(stack, update, found, data, bar, console)
            with writing(stack.runs[0].folder):
                stack.save()
            _dismiss(stack, update.step == last, console)
            # What is left of a run that is over, its report, is written on resumption.
            stop.obey()


def _epoch(
    stack: Stack, task: Task, place: Place, console: Console, bar: Bar, stop: Stop
) -> tuple[float, Update]:
    """Train to the end of the epoch: since when time was not counted yet, and the last update."""
    updates = training_updates(
        stack.tagger,
        task,
        stack.config,
        clock=stack.clock,
        parameters=stack.parameters,
        optimizers=stack.optimizers,
        peak_lr=stack.lr,
        device=place.device,
        autocast=place.autocast,
        compute=stack.compute(place, console.say),
        done=stack.updates,
    )
    since = saved = time.monotonic()
    for update in updates:
        bar.advance(update.step, update.loss, update.tokens)
        for run, log in enumerate(stack.logs):
            log.update(update.alone(run))
        if update.ends_epoch:
            break
        now = time.monotonic()
        if stop.asked or now - saved >= 60 * stack.config.save_minutes:
            _save_within(stack, update, now - since)
            since = saved = now
            stop.obey()
    return since, update


def _save_within(stack: Stack, update: Update, seconds: float) -> None:
    """A checkpoint inside an epoch; time is shared equally."""
    for run in stack.runs:
        run.progress.updates = update.step
        run.progress.seconds += seconds / len(stack.runs)
    with writing(stack.runs[0].folder):
        stack.save()


def _take_note(
    stack: Stack,
    update: Update,
    found: Sequence[Evaluated],
    seconds: float,
    data: Prepared,
    compared: bool,
) -> None:
    """Progress and log of every run; time is shared equally."""
    plain = data.splits.labels.plain
    keep_last = stack.config.select == "last" or data.splits.dev_tells_nothing
    for run, log, views, one in zip(
        stack.runs, stack.logs, stack.parameters.views, found, strict=True
    ):
        log.dev(update, one.metrics)
        score = float(one.metrics[metric_name(plain)])
        spent = run.progress.seconds + seconds
        run.progress.note(update, score, spent, views, keep_last=keep_last)
        if compared:
            tags = [decoded.tags for decoded in one.decoded]
            counts = sentence_counts(data.splits.dev.sentences, tags, Entities(plain=plain))
            run.progress.counts = torch.from_numpy(counts)


def _say(
    stack: Stack,
    update: Update,
    found: Sequence[Evaluated],
    data: Prepared,
    bar: Bar,
    console: Console,
) -> None:
    name = metric_name(data.splits.labels.plain)
    scores = [float(one.metrics[name]) for one in found]
    best = max(scores)
    bar.dev(name, best)
    loss = sum(update.loss) / len(update.loss)
    line = f"  epoch {update.epoch}: loss {loss:.4f}, dev {name} {100 * best:.2f}"
    if len(scores) > 1:
        leader = stack.runs[scores.index(best)]
        line += f" ({leader.name}), lowest {100 * min(scores):.2f}"
    elif "generation" in found[0].metrics:
        line += in_short(found[0].metrics["generation"])
    console.say(line)


def _dismiss(stack: Stack, finished: bool, console: Console) -> None:
    """Mark the runs that are over; those without patience leave the stack."""
    patience = stack.config.patience
    staying = []
    for number, run in enumerate(stack.runs):
        tired = patience is not None and run.progress.bad_epochs >= patience
        run.over = finished or tired
        if tired:
            name = f"{run.name}: " if len(stack.runs) > 1 else ""
            epochs = counted(run.progress.bad_epochs, "epoch")
            console.say(f"  {name}stopped: no better dev score in {epochs}")
        if not tired:
            staying.append(number)
    if len(staying) < len(stack.runs):
        stack.keep(staying)
