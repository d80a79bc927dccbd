"""``lmsl predict`` and ``lmsl evaluate``: a trained run at work.

The run's description and the file are read first; torch is imported when both are in order.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmsl.cli.flags import Evaluate, Loaded, Predict
from lmsl.cli.parse import parse
from lmsl.cli.predict import check_source, predict_stream
from lmsl.console import Console
from lmsl.data.formats.options import ReadOptions, shape_flags
from lmsl.data.read import read_with
from lmsl.data.tags.metrics import metric_name
from lmsl.data.tags.sentence import Dataset
from lmsl.data.write import check_written, write_columns
from lmsl.run_directory.find import find_run
from lmsl.run_directory.info import read_info

if TYPE_CHECKING:
    from lmsl.tagger.labeler import Labeler, Tagged


def predict_command(arguments: list[str]) -> int:
    options: Predict = parse(Predict, arguments, "predict")
    folder = find_run(options.run)
    info = read_info(folder)
    known = info.files
    # The format of the training files says nothing here: people predict on running text.
    reading = ReadOptions(
        format=options.format,
        tag_column=known.tag_column,
        token_column=options.token_column or known.token_column,
        separator=options.separator,
        ignore_tag=known.ignore_tag,
        words=info.words,
        labelled=False,
    )
    check_source(options.source, reading, info.labels.names)
    console = Console()
    labeler = _loaded(folder, options, console)
    with console.track("predicting", "sentence", None) as track:
        predict_stream(
            labeler,
            options.source,
            reading,
            output=options.output,
            say=console.say,
            track=track,
        )
    return 0


def evaluate_command(arguments: list[str]) -> int:
    options: Evaluate = parse(Evaluate, arguments, "evaluate")
    folder = find_run(options.run)
    info = read_info(folder)
    # What the run knows of its files is the default that the flags are read against.
    default = Evaluate(run=options.run, source=options.source, **vars(info.files))
    options = parse(Evaluate, arguments, "evaluate", default)
    console = Console()
    if kept := [flag for flag in shape_flags(info.files) if flag in shape_flags(options)]:
        console.say(f"reading with {' '.join(kept)} as in training")
    with console.working(f"reading {options.source}"):
        dataset = read_with(options.source, info.read_options(options))
    for note in info.check_scorable(dataset, strict=options.strict_tags):
        console.say(note)
    if options.predictions is not None:
        check_written(options.predictions)
    labeler = _loaded(folder, options, console)
    with console.track("evaluating", "pack", None) as track:
        tagged = labeler.tag(dataset.sentences, track=track)
    metrics = labeler.metrics(dataset, tagged)
    for note in dataset.notes:
        console.say(note)
    if options.predictions is not None:
        gold = [sentence.tags or () for sentence in dataset]
        predicted = [decoded.tags for decoded in tagged.decoded]
        write_columns(options.predictions, dataset.sentences, gold, predicted)
    if options.right_context:
        metrics["right_context"] = _right_context(labeler, dataset, tagged, metrics, console)
    print(json.dumps(metrics, indent=2, ensure_ascii=False))
    return 0


def _right_context(
    labeler: "Labeler",
    dataset: Dataset,
    tagged: "Tagged",
    metrics: dict[str, Any],
    console: Console,
) -> dict[str, Any]:
    """What becomes of tags and metrics without the right context; says the gist of it."""
    from lmsl.tagger.right_context import changes, without_right_context

    with console.track("evaluating without the right context", "pack", None) as track:
        without = without_right_context(labeler, dataset.sentences, tagged, track)
    found = changes(dataset, tagged, without).to_json()
    found["metrics"] = labeler.metrics(dataset, without)
    name = metric_name(dataset.plain)
    console.say(
        f"without the right context {found['changed']:,} of {found['words']:,} tags change "
        f"({found['share']:.1%}); {'accuracy' if dataset.plain else 'F1'} "
        f"{100 * metrics[name]:.2f} becomes {100 * found['metrics'][name]:.2f}"
    )
    return found


def _loaded(folder: Path, options: Loaded, console: Console) -> "Labeler":
    from lmsl.tagger.labeler import Labeler

    return Labeler.load(
        folder,
        device=options.device,
        attention=options.attention,
        quantize=options.quantize,
        resident=options.resident,
        cuda_graphs=options.cuda_graphs,
        allow_changed_base=options.allow_changed_base,
        say=console.say,
    )
