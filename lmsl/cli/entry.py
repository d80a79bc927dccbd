"""The command line: ``lmsl train | sweep | predict | evaluate | report | data | probe``.

Flags come from the dataclasses of :mod:`lmsl.cli.flags`. Results go to standard output,
everything else to standard error. Exit status 2 is bad input, 1 a training that could not go on.
"""

import argparse
import json
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from lmsl.cli.flags import Data, Evaluate, Loaded, Predict, Probe, Report, Sweep, Train
from lmsl.config.config import Config, starting_point
from lmsl.console import Console
from lmsl.data.formats.options import ReadOptions, read_options, shape_flags
from lmsl.errors import InputError, TrainingError

if TYPE_CHECKING:
    # Help and commands that only look at data need not wait for torch.
    from lmsl.tagger.labeler import Labeler

USAGE = """usage: lmsl COMMAND [FLAGS]

  train      fine-tune a decoder as a sequence labeler (the same as python train.py)
  sweep      the same for many unmask strings or seeds, several at once over one base
  predict    label a file or standard input with a trained run
  evaluate   score a trained run on labelled data
  report     compare the runs of a sweep, in words and as one HTML file
  data       check, describe or convert data files
  probe      measure which layers of a model or run see to the right

lmsl COMMAND --help shows the flags of a command."""


Flags = TypeVar("Flags", bound=Train)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": _train,
        "sweep": _sweep,
        "predict": _predict,
        "evaluate": _evaluate,
        "report": _report,
        "data": _data,
        "probe": _probe,
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    if arguments[0] not in commands:
        return _fail(f"expected one of {', '.join(commands)}, got {arguments[0]!r}", 2)
    try:
        return commands[arguments[0]](arguments[1:])
    except InputError as error:
        return _fail(str(error), 2)
    except TrainingError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail("interrupted; a training run goes on with --resume", 130)
    except BrokenPipeError:
        # Whoever read our output has closed it; nobody is left to tell.
        sys.stdout = None
        return 141
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}", 2)


def _fail(message: str, status: int) -> int:
    print(f"lmsl: {message}", file=sys.stderr)
    return status


def _parse(kind: Any, arguments: list[str], name: str, default: Any = None) -> Any:
    annotated = Annotated[kind, tyro.conf.configure(tyro.conf.FlagCreatePairsOff)]
    if default is None:
        return tyro.cli(annotated, args=arguments, prog=f"lmsl {name}")
    return tyro.cli(annotated, args=arguments, prog=f"lmsl {name}", default=default)


def _train(arguments: list[str]) -> int:
    _, config = _training_flags(Train, "train", arguments)
    from lmsl.run import train_runs

    # Each Labeler is dropped at once: the next run needs the memory.
    deque(train_runs(config), maxlen=0)
    return 0


def _sweep(arguments: list[str]) -> int:
    flags, config = _training_flags(Sweep, "sweep", arguments)
    from lmsl.run import train_runs
    from lmsl.search.oneshot import oneshot_asked

    oneshot = oneshot_asked(flags.mode, flags.stack, flags.top, flags.short_grid)
    deque(train_runs(config, stack=flags.stack, prune=flags.prune, oneshot=oneshot), maxlen=0)
    return 0


def _training_flags(kind: type[Flags], name: str, arguments: list[str]) -> tuple[Flags, Config]:
    """The flags of a training command, and what they say of its runs."""
    # Recipe and file decide the defaults that the flags are read against.
    early = argparse.ArgumentParser(prog=f"lmsl {name}", add_help=False, allow_abbrev=False)
    early.add_argument("--recipe")
    early.add_argument("--config", type=Path)
    known, _ = early.parse_known_args(arguments)
    start = starting_point(known.recipe, known.config)
    default = kind(**vars(start), config=known.config)
    flags: Flags = _parse(kind, arguments, name, default)
    config = Config(**{field.name: getattr(flags, field.name) for field in fields(Config)})
    if not config.unmask:
        raise InputError(
            "--unmask: expected one or more strings such as 0011 (see --help), got none"
        )
    return flags, config


def _loaded(options: Loaded, console: Console) -> "Labeler":
    from lmsl.tagger.labeler import Labeler

    return Labeler.load(
        options.run,
        device=options.device,
        attention=options.attention,
        quantize=options.quantize,
        resident=options.resident,
        cuda_graphs=options.cuda_graphs,
        say=console.say,
    )


def _predict(arguments: list[str]) -> int:
    options: Predict = _parse(Predict, arguments, "predict")
    from lmsl.cli.predict import predict_stream

    console = Console()
    labeler = _loaded(options, console)
    # The format of the training files says nothing here: people predict on running text.
    known = labeler.info.files
    predict_stream(
        labeler,
        options.source,
        ReadOptions(
            format=options.format,
            tag_column=known.tag_column,
            token_column=options.token_column or known.token_column,
            ignore_tag=known.ignore_tag,
            words=labeler.info.words,
            labelled=False,
        ),
        output=options.output,
        say=console.say,
    )
    return 0


def _evaluate(arguments: list[str]) -> int:
    options: Evaluate = _parse(Evaluate, arguments, "evaluate")
    from lmsl.data.write import write_columns

    console = Console()
    labeler = _loaded(options, console)
    known = labeler.info.files
    # What the run knows of its files is the default that the flags are read against.
    default = Evaluate(run=options.run, source=options.source, **vars(known))
    options = _parse(Evaluate, arguments, "evaluate", default)
    if kept := [flag for flag in shape_flags(known) if flag in shape_flags(options)]:
        console.say(f"reading with {' '.join(kept)} as in training")
    metrics, dataset, decoded = labeler.evaluate_with_tags(
        options.source, labeler.read_options(options)
    )
    for note in dataset.notes:
        console.say(note)
    if options.predictions is not None:
        gold = [sentence.tags or () for sentence in dataset]
        write_columns(options.predictions, dataset.sentences, gold, [d.tags for d in decoded])
    print(json.dumps(metrics, indent=2, ensure_ascii=False))
    return 0


def _report(arguments: list[str]) -> int:
    options: Report = _parse(Report, arguments, "report")
    from lmsl.report.write import write_report

    for line in write_report(options.sweep, options.output, options.png, Console().say):
        print(line)
    return 0


def _data(arguments: list[str]) -> int:
    from lmsl.cli.data import check_files, convert_file

    options: Data = _parse(Data, arguments, "data")
    reading = read_options(options, options.words)
    if options.action == "convert":
        convert_file(options.files, options.output, options.to, reading, Console().say)
        return 0
    report, clean = check_files(options.files, reading, options.tokenizer)
    print(report)
    return 0 if clean or options.action == "describe" else 1


def _probe(arguments: list[str]) -> int:
    from lmsl.cli.probe import probe_lines

    options: Probe = _parse(Probe, arguments, "probe")
    asked = (options.model, options.unmask, options.data, options.save, options.device)
    for line in probe_lines(*asked):
        print(line)
    return 0
