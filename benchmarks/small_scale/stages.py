"""The two stages, as far as time allows: pre-training in this process, fine-tunings in others."""

import time
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.small_scale.clock import Clock, TimeIsUp
from benchmarks.small_scale.material import parts
from benchmarks.small_scale.plan import checkpoint_cell, checkpoints, folder_name, total_updates
from benchmarks.small_scale.pretraining import (
    OBJECTIVES,
    Course,
    Learner,
    Objective,
    beginner,
    held_out_loss,
    learn,
    load_learner,
    save_learner,
    save_model,
)
from benchmarks.small_scale.settings import Settings
from benchmarks.small_scale.text import corpus
from benchmarks.study.cells import Cell
from benchmarks.study.records import append, duration, line_of, read_records, say, seconds_left
from benchmarks.study.systems import System
from benchmarks.study.training import Failed, Work, trained
from lmsl.data.documents import read_object
from lmsl.errors import InputError
from lmsl.run_directory.digests import file_digest
from lmsl.run_directory.files import write_json
from lmsl.training.interrupt import stopping

CHECKPOINTS = "checkpoints"
_SAVE_SECONDS, _SAY_SECONDS = 300, 60
_RATES = ("f1", "precision", "recall", "gold", "predicted", "correct")


def check_origin(settings: Settings) -> None:
    """Note in the scratch folder what its files are made from, or compare.

    Raises:
        InputError: they are made from something else, or there is no text.
    """
    if not settings.text.is_file():
        raise InputError(f"--text {settings.text}: expected a tar archive, found none")
    settings.scratch.mkdir(parents=True, exist_ok=True)
    path = settings.scratch / "made_from.json"
    now = {**settings.same, "text": file_digest(settings.text)}
    if not path.exists():
        write_json(path, now)
        return
    before = read_object(path)
    if odd := [name for name in now if before.get(name) != now[name]]:
        name = odd[0]
        raise InputError(
            f"--scratch {settings.scratch}: made with {name} {before.get(name)}, got "
            f"{now[name]}; name another folder"
        )


def pretrain(settings: Settings, clock: Clock) -> None:
    """Pre-train both models, or what is left of it.

    Raises:
        TimeIsUp: it is not done yet; where it is, is saved.
    """
    scratch = settings.scratch.resolve()
    wanted = {
        objective: [
            scratch / CHECKPOINTS / folder_name(objective, updates, settings)
            for updates in checkpoints(settings)
        ]
        for objective in OBJECTIVES
    }
    if all(folder.exists() for folders in wanted.values() for folder in folders):
        return
    course = Course(
        corpus=corpus(settings.text, scratch, settings.tokenizer, settings.blocks),
        width=settings.width,
        head=settings.head,
        blocks=settings.blocks,
        updates=total_updates(settings),
        lr=settings.pretraining_lr,
    )
    for objective, folders in wanted.items():
        if not all(folder.exists() for folder in folders):
            _pretrain(objective, course, settings, clock)


def _pretrain(objective: Objective, course: Course, settings: Settings, clock: Clock) -> None:
    scratch, kept = settings.scratch.resolve(), checkpoints(settings)
    path = scratch / "pretraining" / f"{objective}.pt"
    learner = beginner(objective, course)
    load_learner(learner, path)
    if learner.updates == 0:
        _keep(learner, course, settings)
    pace = _Pace(learner)
    with stopping(say) as stop:
        while learner.updates < course.updates:
            pace.say(learner, course)
            # Asked once: what ends it here must have been saved.
            over, asked = clock.over, stop.asked
            if over or asked or pace.saves():
                save_learner(learner, path)
            if asked:
                stop.obey()
            if over:
                raise TimeIsUp
            learn(learner, course)
            if learner.updates in kept:
                _keep(learner, course, settings)
        save_learner(learner, path)


class _Pace:
    """When to save and what to say."""

    def __init__(self, learner: Learner) -> None:
        self._began = self._said = self._saved = time.monotonic()
        self._first = learner.updates

    def saves(self) -> bool:
        if due := time.monotonic() > self._saved + _SAVE_SECONDS:
            self._saved = time.monotonic()
        return due

    def say(self, learner: Learner, course: Course) -> None:
        made, now = learner.updates - self._first, time.monotonic()
        if made and (now > self._said + _SAY_SECONDS or learner.updates == course.updates):
            self._said = now
            speed = made / (now - self._began)
            rest = duration((course.updates - learner.updates) / speed)
            say(
                f"{learner.objective} words: update {learner.updates} of {course.updates}, loss "
                f"{fmean(learner.losses[-50:]):.3f}, {speed * course.tokens:,.0f} tokens/s, "
                f"{rest} left"
            )


def _keep(learner: Learner, course: Course, settings: Settings) -> None:
    """Save the model as it is, and add its losses to the record."""
    name = folder_name(learner.objective, learner.updates, settings)
    tokenizer = course.corpus.tokenizer
    save_model(learner, tokenizer, settings.scratch.resolve() / CHECKPOINTS / name)
    last = learner.losses[-50:]
    figures = {
        "status": "done",
        "updates": learner.updates,
        "tokens": learner.updates * course.tokens,
        "loss": round(fmean(last), 4) if last else None,
        "held_out_loss": round(held_out_loss(learner, course), 4),
    }
    made_of = {
        "parameters": sum(p.numel() for p in learner.model.parameters()),
        "vocabulary": len(tokenizer),
        "text_tokens": course.corpus.blocks.size,
        "text": read_object(settings.scratch / "made_from.json")["text"],
    }
    cell = checkpoint_cell(learner.objective, learner.updates, settings)
    append(settings.record, _record(cell, settings, made_of, figures))
    say(f"{cell.system}: held-out loss {figures['held_out_loss']}")


def fine_tune(
    settings: Settings,
    clock: Clock,
    plan: Mapping[Cell, System],
    waiting: Sequence[Cell],
    again: Collection[Cell],
) -> set[Cell]:
    """Fine-tune the cells that are left; those that failed.

    Args:
        again: cells whose files of an earlier try are thrown away.

    Raises:
        TimeIsUp: some are left; the one at work goes on from a checkpoint.
    """
    scratch = settings.scratch.resolve()
    sizes = (settings.sentences, settings.dev_sentences, settings.test_sentences)
    found = {name: parts(name, settings.data, scratch, sizes) for name in settings.datasets}
    work = Work(
        models=scratch / CHECKPOINTS,
        scratch=scratch,
        updates=settings.updates,
        batch_size=settings.batch_size,
        threads=settings.threads,
    )
    failed = set()
    for place, cell in enumerate(waiting):
        rest = seconds_left(
            waiting[place:],
            read_records(settings.record, settings.same),
            {name: own.words for name, own in found.items()},
        )
        about = "" if rest is None else f", about {duration(rest)} by what such cells took"
        say(f"{len(waiting) - place} left{about}; {cell.line()}")
        if clock.over:
            raise TimeIsUp
        figures: dict[str, Any]
        try:
            with clock.alarm():
                figures = trained(cell, plan[cell], found[cell.data], work, anew=cell in again)
        except Failed as error:
            failed.add(cell)
            figures = {"status": "failed", "reason": str(error)}
            said = f"failed: {error}"
        else:
            figures, said = _brief(figures), f"test F1 {100 * figures['test']['f1']:.2f}"
        made_of = {"unmask": plan[cell].unmask, "flags": list(plan[cell].flags)}
        append(settings.record, _record(cell, settings, made_of, figures))
        say(said)
    return failed


def _record(
    cell: Cell, settings: Settings, made_of: Mapping[str, Any], figures: Mapping[str, Any]
) -> dict[str, Any]:
    """A line of the record."""
    return line_of(cell, {**settings.same, **made_of, "threads": settings.threads}, figures)


def _brief(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Without the counts of single sentences and types, which no table here shows."""
    scores = {split: {name: figures[split][name] for name in _RATES} for split in ("dev", "test")}
    kept = ("made", "measured", "seconds", "resumed")
    return {"status": "done", **scores, **{name: figures[name] for name in kept}}
