"""The command line: ``lmsl train | sweep | predict | evaluate | report | data | probe``.

Flags come from the dataclasses of :mod:`lmsl.cli.flags`. Results go to standard output,
everything else to standard error. Exit status 2 is bad input, 1 a training that could not go on.

Nobody waits for torch to be told of a typing error: a command's modules are imported when it is
called, and what they import before they need a model is light.
"""

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from lmsl.errors import InputError, Terminated, TrainingError

USAGE = """usage: lmsl COMMAND [FLAGS]

  train      fine-tune a decoder as a sequence labeler (the same as python train.py)
  sweep      the same for many unmask strings or seeds, several at once over one base
  predict    label a file or standard input with a trained run
  evaluate   score a trained run on labelled data
  report     what a run does wrong, or which string of a sweep is best, as one HTML file
  data       check, describe or convert data files
  probe      measure which layers of a model or run see to the right

lmsl COMMAND --help shows the flags most asked for, --help-all every one; lmsl --version
the versions that matter."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    before = _obey_sigterm()
    try:
        if arguments[0] == "--version":
            print(_version())
            return 0
        return _command(arguments[0])(arguments[1:])
    except InputError as error:
        return _fail(str(error), 2)
    except TrainingError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt as reason:
        trains = arguments[0] in ("train", "sweep")
        how = "terminated" if isinstance(reason, Terminated) else "interrupted"
        status = 143 if isinstance(reason, Terminated) else 130
        return _fail(how + ("; go on with --resume" if trains else ""), status)
    except BrokenPipeError:
        # Whoever read our output has closed it; nobody is left to tell.
        sys.stdout = None
        return 141
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}", 2)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _obey_sigterm() -> Any:
    """Let SIGTERM end a command like Ctrl-C, cleaning up; what it did before, for putting back."""

    def end(number: int, frame: object) -> None:
        raise Terminated

    if threading.current_thread() is threading.main_thread():
        return signal.signal(signal.SIGTERM, end)
    return None


def _command(name: str) -> Callable[[list[str]], int]:
    """What a command calls."""
    if name in ("train", "sweep"):
        from lmsl.cli import training

        return training.train_command if name == "train" else training.sweep_command
    if name == "predict":
        from lmsl.cli.labeling import predict_command

        return predict_command
    if name == "evaluate":
        from lmsl.cli.evaluate import evaluate_command

        return evaluate_command
    from lmsl.cli import looking

    commands = {
        "report": looking.report_command,
        "data": looking.data_command,
        "probe": looking.probe_command,
    }
    if name in commands:
        return commands[name]
    from lmsl.cli.parse import meant

    known = ("train", "sweep", "predict", "evaluate", *commands)
    raise InputError(f"expected one of {', '.join(known)}, got {name!r}{meant(name, known)}")


def _version() -> str:
    """Name and version, and those of the libraries that numbers depend on, not imported."""
    from lmsl.run_directory.info import versions

    ours, *others = versions(("torch", "transformers", "triton")).items()
    return f"{' '.join(ours)} ({', '.join(map(' '.join, others))})"


def _fail(message: str, status: int) -> int:
    print(f"lmsl: {message}", file=sys.stderr)
    return status
