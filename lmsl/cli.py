"""The command line: ``lmsl train | sweep | predict | evaluate | report | data | probe``.

Flags come from the dataclasses here and from :class:`lmsl.Config`. Results go to standard output,
everything else to standard error. Exit status 2 is bad input, 1 a training that could not go on.
"""

import argparse
import json
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from lmsl.config import Config, starting_point
from lmsl.console import Console
from lmsl.errors import InputError, TrainingError
from lmsl.sentence import (
    Columns,
    Format,
    ReadOptions,
    WordMode,
    read_options,
    shape_flags,
)

USAGE = """usage: lmsl COMMAND [FLAGS]

  train      fine-tune a decoder as a sequence labeler (the same as python train.py)
  sweep      the same for many unmask strings or seeds, several at once over one base
  predict    label a file or standard input with a trained run
  evaluate   score a trained run on labelled data
  report     compare the runs of a sweep, in words and as one HTML file
  data       check, describe or convert data files
  probe      measure which layers of a model or run see to the right

lmsl COMMAND --help shows the flags of a command."""


@dataclass(frozen=True, kw_only=True)
class Train(Config):
    """Fine-tune a decoder as a sequence labeler; several unmask strings or seeds make several
    runs. Values not given come from --config, then from --recipe."""

    config: Path | None = None
    """YAML file of settings by the names of the flags; the config.yaml of a run repeats it."""

    def __post_init__(self) -> None:
        """Checked later, as a Config: tyro makes a page of any error raised here."""


Flags = TypeVar("Flags", bound=Train)


@dataclass(frozen=True, kw_only=True)
class Sweep(Train):
    """Fine-tune many runs, several at once over one base: all unmask strings and seeds given.
    Each is the run that lmsl train makes of it. Values not given come from --config, then from
    --recipe."""

    stack: int | Literal["auto"] = "auto"
    """How many runs are trained at once; `auto`: as many as fit into memory."""
    prune: bool = False
    """After each epoch drop the strings whose dev score is in the lower half and below that of
    the leader beyond chance."""
    mode: Literal["full", "oneshot"] = "full"
    """`oneshot`: train the strings that one run with a random string a sentence puts first."""
    top: int | None = None
    """How many strings `oneshot` trains for real, 3 by default; 0 only predicts."""
    short_grid: bool = False
    """In `oneshot`, also rank all strings by runs of a tenth of the updates, for comparison."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A trained run and how it is loaded."""

    run: tyro.conf.Positional[str]
    """Run directory or hub id."""
    device: str = "auto"
    """`cpu`, `cuda`, ..."""
    attention: Literal["auto", "triton", "sdpa", "eager"] = "auto"
    """Who computes attention."""
    quantize: Literal["nf4", "none"] | None = None
    """Format of the frozen weights; by default as trained."""


@dataclass(frozen=True, kw_only=True)
class Predict(Loaded):
    """Label a file, or standard input, with a trained run; write to standard output."""

    source: tyro.conf.Positional[str] = "-"
    """File to label; - is standard input."""
    format: Format = "auto"
    """Format of the input; `auto`: JSON lines, columns by the file's suffix or where every line
    ends in an IOB tag, else running text."""
    output: Literal["auto", "json", "columns"] = "auto"
    """Format of the answer; `auto`: columns for columns, JSON lines for the rest."""
    token_column: int | None = None
    """Column of the words, from 1; by default as in training."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(Columns, Loaded):
    """Score a trained run on labelled data; write the metrics as JSON to standard output. Format,
    columns, scheme and ignored tag not given are those the run was trained with."""

    source: tyro.conf.Positional[str]
    """File or folder with tags."""
    predictions: Path | None = None
    """Also write word, gold tag and predicted tag to this file."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Compare the runs of a sweep: print which string is best and whether that is more than noise,
    and write one HTML file that shows it."""

    sweep: tyro.conf.Positional[Path]
    """Folder of several runs."""
    output: Path | None = None
    """The file to write; by default report.html in the folder."""
    png: Path | None = None
    """Also write the figures as PNG files to this folder; needs the extra plots."""


@dataclass(frozen=True, kw_only=True)
class Data(Columns):
    """Check files before training on them, or convert them."""

    action: tyro.conf.Positional[Literal["check", "describe", "convert"]]
    """check: counts, scheme, repairs, lengths, duplicates between files; exit status 1 where
    something was repaired or lost, is in two files or unknown to train. describe: the same, always
    0. convert: rewrite."""
    files: tyro.conf.Positional[tuple[str, ...]]
    """Files or folders, one a split; a folder of splits counts as its splits."""
    to: Literal["columns", "json"] = "json"
    """Format that convert writes."""
    output: Path | None = None
    """File that convert writes."""
    tokenizer: str | None = None
    """Also report lengths in sub-words of this model's tokenizer: hub id, folder or tiny."""
    words: WordMode = "unicode"
    """How raw text is split into words."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Measure, layer by layer, whether attention sees to the right."""

    model: tyro.conf.Positional[str]
    """Run directory, hub id or folder of a model, or tiny."""
    unmask: str | None = None
    """Unmask the model first; a run brings its own string."""
    device: str = "auto"
    """`cpu`, `cuda`, ..."""


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
    from lmsl.oneshot import oneshot_asked
    from lmsl.run import train_runs

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


def _predict(arguments: list[str]) -> int:
    options: Predict = _parse(Predict, arguments, "predict")
    from lmsl.labeler import Labeler
    from lmsl.stream import predict_stream

    console = Console()
    labeler = Labeler.load(options.run, options.device, options.attention, options.quantize)
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
    from lmsl.labeler import Labeler
    from lmsl.write import write_columns

    console = Console()
    labeler = Labeler.load(options.run, options.device, options.attention, options.quantize)
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
    from lmsl.report import write_report

    for line in write_report(options.sweep, options.output, options.png, Console().say):
        print(line)
    return 0


def _data(arguments: list[str]) -> int:
    from lmsl.data_command import check_files, convert_file

    options: Data = _parse(Data, arguments, "data")
    reading = read_options(options, options.words)
    if options.action == "convert":
        convert_file(options.files, options.output, options.to, reading, Console().say)
        return 0
    report, clean = check_files(options.files, reading, options.tokenizer)
    print(report)
    return 0 if clean or options.action == "describe" else 1


def _probe(arguments: list[str]) -> int:
    from lmsl.probe_command import probe_lines

    options: Probe = _parse(Probe, arguments, "probe")
    for line in probe_lines(options.model, options.unmask, options.device):
        print(line)
    return 0
