"""Every system of the paper, an encoder, and what a user would pick instead, in one table.

    python -m benchmarks.study --models FOLDER            # train what is not done yet; days
    python -m benchmarks.study --list                     # what is planned, done and left
    python -m benchmarks.study --models FOLDER --cost     # speed and memory; an idle machine
    python -m benchmarks.study --table                    # the table and the picture so far

FOLDER holds SmolLM2-135M (``smollm2-135m``) and MiniLM-L6 (``minilm-l6``). All systems of lmsl
make the same number of updates on the same part of train. The learning rate of each is the best of
three on dev of snips with one seed; it is kept for the other data sets. A cell (data set, system,
rate, seed) is a process of its own; its line is added to the record when it is done and seen to be
sane: every gold entity of the files was scored, the updates were made, and the layers that were
measured to see to the right are those of the string. What is in the record is not done again, so
the study may be stopped (Ctrl-C or SIGTERM, which leave a checkpoint) and started anew.

Trainings may share the machine with others: their seconds mean nothing; cost is measured apart.
"""

import signal
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.shared.flags import command
from benchmarks.study.cells import Cell, done
from benchmarks.study.listing import listing, plan
from benchmarks.study.material import Material, material
from benchmarks.study.records import (
    append,
    duration,
    left,
    line_of,
    read_records,
    say,
    seconds_left,
)
from benchmarks.study.settings import Settings
from benchmarks.study.systems import system_of
from benchmarks.study.training import Failed, Work, trained
from lmsl.errors import Terminated
from lmsl.run_directory.lock import locked


def run(settings: Settings) -> int:
    """Do what the flags ask for; 1 where something failed."""
    settings.check()
    if settings.list:
        print(*listing(settings, read_records(settings.record, settings.same)), sep="\n")
        return 0
    if settings.table:
        from benchmarks.study.table import write_table

        return write_table(settings)
    try:
        if settings.cost:
            from benchmarks.study.cost import measure_cost

            return measure_cost(settings)
        return _train(settings)
    except KeyboardInterrupt as reason:
        say("stopped; cells that are done are kept")
        return 143 if isinstance(reason, Terminated) else 130


def _train(settings: Settings) -> int:
    work = Work(
        models=settings.folder(),
        scratch=settings.scratch.resolve(),
        updates=settings.updates,
        batch_size=settings.batch_size,
        threads=settings.threads,
    )
    with locked(work.scratch, print):
        found = {
            name: material(name, settings.data, work.scratch, settings.sentences)
            for name in settings.datasets
        }
        return _train_all(settings, work, found)


def _stop(number: int, frame: object) -> None:
    raise Terminated


def _train_all(settings: Settings, work: Work, found: Mapping[str, Material]) -> int:
    """One cell after another, until none is left that can be trained; the exit status."""
    records = read_records(settings.record, settings.same)
    again = {cell for cell, one in records.items() if settings.retry and not done(one)}
    words = {name: own.words for name, own in found.items()}
    print(*listing(settings, records), sep="\n")
    while True:
        waiting = left(plan(settings, records), records, retry=frozenset(again))
        turn = next((cell for cell in waiting if cell.ready), None)
        spent = seconds_left(waiting, records, words)
        about = "" if spent is None else f", about {duration(spent)} by what such cells took"
        say(f"{len(waiting)} cells left{about}")
        if turn is None:
            break
        say(turn.line())
        anew = turn in again
        again.discard(turn)
        records[turn] = _one(turn, settings, work, found[turn.data], anew)
        append(settings.record, records[turn])
        say(_outcome(records[turn]))
    return int(any(not done(one) for one in records.values()))


def _one(
    cell: Cell, settings: Settings, work: Work, found: Material, anew: bool
) -> dict[str, Any]:
    """The record of a cell after its training, good or failed."""
    system = system_of(cell.system)
    # Taken before the training: the commit is that of the code that trains.
    record = line_of(
        cell,
        {
            **settings.same,
            "model": system.model,
            "unmask": system.unmask,
            "flags": list(system.flags),
            "warmup": system.warmup,
            "peer": system.peer,
            "trained_on": found.whole_sentences if system.whole else found.sentences,
            "threads": settings.threads,
        },
        {},
    )
    try:
        figures = trained(cell, system, found, work, anew=anew)
    except Failed as error:
        return {**record, "status": "failed", "reason": str(error)}
    return {**record, "status": "done", **figures}


def _outcome(record: Mapping[str, Any]) -> str:
    if not done(record):
        return f"failed: {record['reason']}"
    scores = ", ".join(f"{split} F1 {100 * record[split]['f1']:.2f}" for split in ("dev", "test"))
    return f"{scores}, {record['seconds']:.0f} s"


main = command(Settings, run, "benchmarks.study")

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main())
