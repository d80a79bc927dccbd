"""The flags of every command, one dataclass each; :class:`lmsl.Config` holds those of a training.

Their docstrings are the help texts.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from lmsl.config.choices import Attention, CudaGraphs, Quantize, Resident
from lmsl.config.config import Config
from lmsl.console import Console
from lmsl.data.formats.options import Columns, Format, WordMode
from lmsl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Telling:
    """How much a command says on standard error."""

    quiet: bool = False
    """Say nothing but what is wrong."""
    verbose: bool = False
    """Also say what only matters where something is wrong."""

    def console(self) -> Console:
        """Where the command says it.

        Raises:
            InputError: both flags at once.
        """
        if self.quiet and self.verbose:
            raise InputError("--quiet: expected it without --verbose, got both")
        return Console(quiet=self.quiet, verbose=self.verbose)


@dataclass(frozen=True, kw_only=True)
class Train(Config, Telling):
    """Fine-tune a decoder as a sequence labeler; several unmask strings or seeds make several
    runs. Values not given come from --config, then from --recipe."""

    config: Path | None = None
    """YAML file of settings by the names of the flags; the config.yaml of a run repeats it."""
    json: bool = False
    """Write the metrics of every run to standard output, a JSON line each, as it ends."""

    def __post_init__(self) -> None:
        """Checked later, as a Config: tyro makes a page of any error raised here."""


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
class Loaded(Telling):
    """A trained run and how it is loaded."""

    run: tyro.conf.Positional[str]
    """Run directory or hub id."""
    device: str = "auto"
    """`cpu`, `cuda`, ..."""
    attention: Attention = "auto"
    """Who computes attention."""
    quantize: Quantize | None = None
    """Format of the frozen weights; by default as trained."""
    resident: Resident = "auto"
    """Keep the dequantised weights in memory; the numbers are the same."""
    cuda_graphs: CudaGraphs = "off"
    """Capture the forward of packs whose sizes come again in CUDA graphs and replay it; how much
    that gains was not measured yet."""
    allow_changed_base: bool = False
    """Load the run over a base model that is not the one it was trained on."""
    threshold: tuple[str, ...] = ()
    """Instead of the entities of the best tags take all that are at least as probable, by falling
    probability without overlap: a number from 0.001 to 1, TYPE=number for types with their own, or
    both, such as `0.5 PER=0.1`."""


@dataclass(frozen=True, kw_only=True)
class Predict(Loaded):
    """Label a file, or standard input, with a trained run; write to standard output."""

    source: tyro.conf.Positional[str] = "-"
    """File to label; - is standard input."""
    format: Format = "auto"
    """Format of the input; `auto`: JSON lines, columns by the file's suffix or where all of the
    first lines have as many cells and a tag, else running text."""
    output: Literal["auto", "json", "columns"] = "auto"
    """Format of the answer; `auto`: columns for columns, JSON lines for the rest."""
    token_column: int | None = None
    """Column of the words, from 1; by default as in training."""
    separator: str | None = None
    """What stands between columns, such as `,` or `tab`; by default tabs or spaces."""
    html: Path | None = None
    """Also write a page to look at: sentences with what was found in them, some hundreds at
    most."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(Columns, Loaded):
    """Score a trained run on labelled data; write the metrics as JSON to standard output. Format,
    columns, scheme and ignored tag not given are those the run was trained with."""

    source: tyro.conf.Positional[str | None] = None
    """File or folder with tags; may be left out beside --perplexity."""
    predictions: Path | None = None
    """Also write word, gold tag and predicted tag to this file."""
    operating_points: bool = False
    """Also say which precision goes with which recall, for every type, and the thresholds that
    give them; chosen on dev they are to be reported on test."""
    right_context: bool = False
    """Also ask for each word with all that stands to the right of it cut off: how many tags
    change, by type, and the metrics then. That is a forward for each word."""
    perplexity: Path | None = None
    """Also measure on this text file whether the base is still a language model: alone, with the
    adapter under the run's string, and with the adapter and the mask put back."""
    continuations: int | None = None
    """Tokens that --perplexity lets each of them write behind a few pieces of the text, 20 by
    default."""


@dataclass(frozen=True, kw_only=True)
class Report(Telling):
    """Look at what a run does wrong, or compare the runs of a sweep: print what it comes to, for a
    sweep which string is best and whether that is more than noise, and write one HTML file that
    shows it."""

    folder: tyro.conf.Positional[Path]
    """Run directory, or folder of several runs."""
    output: Path | None = None
    """The file to write; by default report.html in the folder."""
    png: Path | None = None
    """Also write the figures as PNG files to this folder; needs the extra plots."""


@dataclass(frozen=True, kw_only=True)
class Data(Columns, Telling):
    """Check files before training on them, or convert them."""

    action: tyro.conf.Positional[Literal["check", "describe", "convert"]]
    """check: counts, scheme, repairs, lengths, duplicates between files; exit status 1 where
    something was repaired, doubtful or lost, is in two files or unknown to train. describe: the
    same, always 0. convert: rewrite."""
    files: tyro.conf.Positional[tuple[str, ...]]
    """Files or folders, one a split; a folder of splits counts as its splits."""
    to: Literal["columns", "json"] | None = None
    """Format that convert writes, json by default."""
    output: Path | None = None
    """File that convert writes."""
    tokenizer: str | None = None
    """Also report lengths in sub-words of this model's tokenizer: hub id, folder or tiny."""
    words: WordMode = "unicode"
    """How raw text is split into words."""
    right_dependency: bool = False
    """Also report how many dependency edges of tagged words lead to the right, by the column HEAD
    of CoNLL-U files."""
    json: bool = False
    """check and describe: counts as JSON instead of lines."""
    parser: str | None = None
    """For that, parse the sentences instead: `spacy:MODEL` or `stanza:LANGUAGE`, installed before
    (extra parsers)."""


@dataclass(frozen=True, kw_only=True)
class Probe(Telling):
    """Measure, layer by layer, whether attention sees to the right; and of a run, given data, how
    far what stands to the right of a word moves what each layer gives out there."""

    model: tyro.conf.Positional[str]
    """Run directory, hub id or folder of a model, or tiny."""
    unmask: str | None = None
    """Unmask the model first; a run brings its own string."""
    data: str | None = None
    """File or folder, read as those of the training were: measure the influence of the right
    context on its sentences; for runs only."""
    json: bool = False
    """Answer in JSON."""
    save: bool = False
    """Also write it to influence.json in the run, where lmsl report finds it."""
    allow_changed_base: bool = False
    """Measure a run over a base model that is not the one it was trained on."""
    device: str = "auto"
    """`cpu`, `cuda`, ..."""
