"""``lmsl predict``: a trained run at work.

The run's description and the file are read first; torch is imported when both are in order.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lmsl.cli.flags import Loaded, Predict
from lmsl.cli.parse import parse
from lmsl.cli.predict import check_source, predict_stream
from lmsl.cli.thresholds import asked_threshold
from lmsl.console import Console
from lmsl.data.formats.options import ReadOptions
from lmsl.data.formats.source import shown
from lmsl.data.tags.decode import Decoded
from lmsl.data.tags.sentence import Sentence
from lmsl.data.write import check_written
from lmsl.errors import InputError
from lmsl.run_directory.find import find_run
from lmsl.run_directory.info import RunInfo, read_info

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
    with page_of(options, info, console.say) as watch:
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
                watch=watch,
            )
    return 0


@contextmanager
def page_of(
    options: Predict, info: RunInfo, say: Callable[[str], None]
) -> Iterator[Callable[[Sequence[Sentence], Sequence[Decoded]], None] | None]:
    """Who watches the answers for the page of --html; it is written however far they come.

    Raises:
        InputError: the page cannot be written.
    """
    if options.html is None:
        yield None
        return
    from lmsl.report.answers import AnswerSample, write_answers_page
    from lmsl.report.html import PAGE

    try:
        check_written(options.html, over=PAGE)
    except InputError as error:
        raise InputError(f"--html {error}") from error
    sample, whole = AnswerSample(plain=info.labels.plain), False
    try:
        yield sample.add
        whole = True
    finally:
        if whole or sample.sentences:
            source = shown(options.source)
            say(write_answers_page(options.html, sample, info, source=source, whole=whole))


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
