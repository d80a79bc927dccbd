"""The small-scale study of the 2024 paper: is unmasking worth anything to a small decoder?

    python -m benchmarks.small_scale --minutes 10   # works so long and says what is left; repeat
    python -m benchmarks.small_scale --table        # the table and the picture so far

One architecture of four layers is pre-trained from nothing twice, to find masked words and to
predict the next one, on the same batches. Models are kept on the way. Each is fine-tuned, all
weights, as an encoder, as a decoder with its mask, without it, and without it in the upper half.
A fine-tuning is a process of its own; its line is added to the record when it is done and seen to
be sane, see ``benchmarks.study``. What is in the record is not done again.
"""

import signal
import sys

from benchmarks.shared.flags import command
from benchmarks.shared.labelled import prepare
from benchmarks.small_scale.clock import Clock, TimeIsUp
from benchmarks.small_scale.plan import fine_tunings
from benchmarks.small_scale.settings import Settings
from benchmarks.small_scale.stages import check_origin, fine_tune, pretrain
from benchmarks.study.cells import done
from benchmarks.study.records import left, read_records, say
from lmsl.errors import Terminated
from lmsl.run_directory.lock import locked


def run(settings: Settings) -> int:
    """Do what the flags ask for; 1 where nothing is left but what failed."""
    settings.check()
    if settings.table:
        from benchmarks.small_scale.table import write_table

        return write_table(settings)
    signal.signal(signal.SIGTERM, _stop)
    prepare(settings.threads)
    clock = Clock(settings.minutes)
    with locked(settings.scratch.resolve(), print):
        try:
            return _all(settings, clock)
        except TimeIsUp:
            say("the time is over; the same command goes on from here")
            return 0
        except KeyboardInterrupt as reason:
            say("stopped; the same command goes on from here")
            return 143 if isinstance(reason, Terminated) else 130


def _stop(number: int, frame: object) -> None:
    raise Terminated


def _all(settings: Settings, clock: Clock) -> int:
    """Pre-train, then fine-tune one cell after another."""
    plan = fine_tunings(settings)
    records = read_records(settings.record, settings.same)
    failed = {cell for cell in plan if cell in records and not done(records[cell])}
    again = frozenset(failed if settings.retry else ())
    waiting = left(plan, records, retry=again)
    say(f"{len(waiting)} of {len(plan)} fine-tunings left, {len(failed)} failed")
    if waiting:
        check_origin(settings)
        pretrain(settings, clock)
        failed = failed - again | fine_tune(settings, clock, plan, waiting, again)
    return int(bool(failed))


main = command(Settings, run, "benchmarks.small_scale")

if __name__ == "__main__":
    sys.exit(main())
