"""``lmsl evaluate``: a trained run scored, on labelled data and as a language model.

The run's description and the files are read first; torch is imported when they are in order.
"""

import json
from typing import TYPE_CHECKING, Any

from lmsl.cli.flags import Evaluate
from lmsl.cli.labeling import loaded
from lmsl.cli.parse import parse
from lmsl.cli.thresholds import asked_threshold, table
from lmsl.console import Console
from lmsl.data.formats.options import shape_flags
from lmsl.data.formats.source import read_text
from lmsl.data.read import read_with
from lmsl.data.tags.metrics import metric_name
from lmsl.data.tags.sentence import Dataset
from lmsl.data.tags.thresholds import Threshold
from lmsl.data.write import check_written, write_columns
from lmsl.errors import InputError
from lmsl.run_directory.find import find_run
from lmsl.run_directory.info import RunInfo, read_info
from lmsl.wording import counted

if TYPE_CHECKING:
    from lmsl.tagger.labeler import Labeler
    from lmsl.tagger.predictor import Predictor, Tagged

_CONTINUED = 20
"""Tokens of each continuation."""


def evaluate_command(arguments: list[str]) -> int:
    options: Evaluate = parse(Evaluate, arguments, "evaluate")
    folder = find_run(options.run)
    info = read_info(folder)
    # What the run knows of its files is the default that the flags are read against.
    default = Evaluate(run=options.run, source=options.source, **vars(info.files))
    options = parse(Evaluate, arguments, "evaluate", default)
    _check_asked(options, info)
    console = options.console()
    threshold = asked_threshold(options.threshold, info, console.say)
    text = None if options.perplexity is None else read_text(options.perplexity)
    dataset = None if options.source is None else _read(options.source, options, info, console)
    labeler = loaded(folder, options, console, causal_lm=text is not None)
    found: dict[str, Any] = {}
    if dataset is not None:
        found |= _scored(labeler, dataset, options, threshold, console)
    if text is not None:
        found["perplexity"] = _perplexity(_labeler(labeler), text, options, console)
    print(json.dumps(found, indent=2, ensure_ascii=False))
    return 0


def _check_asked(options: Evaluate, info: RunInfo) -> None:
    """Refuse flags that say too little or do not go together."""
    if options.source is None:
        if options.perplexity is None:
            raise InputError(
                "evaluate: expected a file with tags, --perplexity TEXT, or both; got neither"
            )
        for flag, given in (
            ("--threshold", bool(options.threshold)),
            ("--operating-points", options.operating_points),
            ("--predictions", options.predictions is not None),
            ("--right-context", options.right_context),
        ):
            if given:
                raise InputError(f"{flag}: expected a file with tags beside it, got none")
    for flag, given in (
        ("--operating-points", options.operating_points),
        ("--perplexity", options.perplexity is not None),
        ("--right-context", options.right_context),
    ):
        if given and info.task == "generate":
            raise InputError(
                f"{flag}: expected a run that labels words, got one that writes spans"
            )
    if options.operating_points and info.labels.plain:
        raise InputError("--operating-points: expected a run that finds spans, got plain tags")
    if options.continuations is not None:
        if options.perplexity is None:
            raise InputError(
                f"--continuations {options.continuations}: expected --perplexity TEXT beside it"
            )
        if options.continuations < 0:
            raise InputError(f"--continuations: expected 0 or more, got {options.continuations}")
    if options.perplexity is not None and info.exit_layer is not None:
        raise InputError(
            f"--perplexity {options.perplexity}: the run has the first "
            f"{counted(info.exit_layer, 'layer')} of its base alone (--exit-layer), and the "
            "language-model head reads the last; expected a run of all layers"
        )
    if options.perplexity is not None and info.lora is None:
        raise InputError(
            f"--perplexity {options.perplexity}: all weights of the run were trained (--tune "
            "full), without the language-model head; expected a run with an adapter"
        )


def _read(source: str, options: Evaluate, info: RunInfo, console: Console) -> Dataset:
    """The labelled data, as the run's files are read."""
    if kept := [flag for flag in shape_flags(info.files) if flag in shape_flags(options)]:
        console.say(f"reading with {' '.join(kept)} as in training")
    with console.working(f"reading {source}"):
        dataset = read_with(source, info.read_options(options))
    for note in info.check_scorable(dataset, strict=options.strict_tags):
        console.say(note)
    if options.predictions is not None:
        check_written(options.predictions)
    return dataset


def _scored(
    labeler: "Predictor",
    dataset: Dataset,
    options: Evaluate,
    threshold: Threshold | None,
    console: Console,
) -> dict[str, Any]:
    """The metrics, with what else was asked of the labelled data."""
    with console.track("evaluating", "pack", None) as track:
        tagged = labeler.tag(dataset.sentences, track=track, threshold=threshold)
    metrics = labeler.metrics(dataset, tagged)
    for note in dataset.notes:
        console.say(note)
    if options.predictions is not None:
        gold = [sentence.tags or () for sentence in dataset]
        predicted = [decoded.tags for decoded in tagged.decoded]
        write_columns(options.predictions, dataset.sentences, gold, predicted)
    if options.operating_points:
        points = _labeler(labeler).operating_points(dataset, tagged)
        metrics["operating_points"] = points
        for line in table(points):
            console.say(line)
    if options.right_context:
        metrics["right_context"] = _right_context(
            _labeler(labeler), dataset, tagged, metrics, threshold, console
        )
    return metrics


def _labeler(run: "Predictor") -> "Labeler":
    """A run that is known to label words, since others were refused what this is asked for."""
    from lmsl.tagger.labeler import Labeler

    assert isinstance(run, Labeler)
    return run


def _right_context(
    labeler: "Labeler",
    dataset: Dataset,
    tagged: "Tagged",
    metrics: dict[str, Any],
    threshold: Threshold | None,
    console: Console,
) -> dict[str, Any]:
    """What becomes of tags and metrics without the right context; says the gist of it."""
    from lmsl.tagger.right_context import changes, without_right_context

    with console.track("evaluating without the right context", "pack", None) as track:
        without = without_right_context(labeler, dataset.sentences, tagged, track, threshold)
    found = changes(dataset, tagged, without).to_json()
    found["metrics"] = labeler.metrics(dataset, without)
    name = metric_name(dataset.plain)
    console.say(
        f"without the right context {found['changed']:,} of {found['words']:,} tags change "
        f"({found['share']:.1%}); {'accuracy' if dataset.plain else 'F1'} "
        f"{100 * metrics[name]:.2f} becomes {100 * found['metrics'][name]:.2f}"
    )
    return found


def _perplexity(
    labeler: "Labeler", text: str, options: Evaluate, console: Console
) -> dict[str, Any]:
    """The base as a language model in three states; says the gist of it."""
    from lmsl.tagger.perplexity import perplexity

    wanted = _CONTINUED if options.continuations is None else options.continuations
    with console.working(f"predicting {options.perplexity}"):
        measured = perplexity(labeler, text, continued=wanted)
    found = measured.to_json()
    string = labeler.info.unmask
    console.say(
        f"{options.perplexity}: {measured.tokens:,} tokens in windows of {measured.window}, "
        f"{measured.stride} apart; sampled: {measured.sample} of them"
    )
    titles = {
        "base": "base alone",
        "own": f"adapter under {string}, sampled tokens from what precedes them alone",
        "causal": "adapter with the mask put back",
    }
    for name, title in titles.items():
        state = found["states"][name]
        whole = f"{_rates(state)}; sampled " if "perplexity" in state else ""
        console.say(f"  {title}: {whole}{_rates(state['sampled'])}")
    if labeler.info.repeat:
        console.say("  the text is read once, where the run reads a sentence several times")
    return found


def _rates(found: dict[str, Any]) -> str:
    return f"perplexity {found['perplexity']:.2f}, {found['bits_per_byte']:.3f} bits per byte"
