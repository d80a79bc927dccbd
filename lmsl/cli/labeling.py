"""``lmsl predict``: a trained run at work.

The run's description and the file are read first; torch is imported when both are in order.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from lmsl.cli.flags import Loaded, Predict
from lmsl.cli.parse import parse
from lmsl.cli.predict import check_source, predict_stream
from lmsl.cli.thresholds import asked_threshold
from lmsl.console import Console
from lmsl.data.formats.options import ReadOptions
from lmsl.run_directory.find import find_run
from lmsl.run_directory.info import read_info

if TYPE_CHECKING:
    from lmsl.generation.generator import Generator
    from lmsl.tagger.labeler import Labeler


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
    console = options.console()
    threshold = asked_threshold(options.threshold, info, console.say)
    check_source(options.source, reading, info.labels.names)
    labeler = loaded(folder, options, console)
    with console.track("predicting", "sentence", None) as track:
        predict_stream(
            labeler,
            options.source,
            reading,
            output=options.output,
            threshold=threshold,
            say=console.say,
            track=track,
        )
    return 0


def loaded(
    folder: Path, options: Loaded, console: Console, *, causal_lm: bool = False
) -> "Labeler | Generator":
    """The run that a command was given."""
    from lmsl.generation.generator import load_run

    return load_run(
        folder,
        device=options.device,
        attention=options.attention,
        quantize=options.quantize,
        resident=options.resident,
        cuda_graphs=options.cuda_graphs,
        allow_changed_base=options.allow_changed_base,
        causal_lm=causal_lm,
        say=console.say,
    )
