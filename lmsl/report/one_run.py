"""The page of one run: what it gets right, and what it does wrong."""

from pathlib import Path

from lmsl.report.calibration import calibration_of
from lmsl.report.confusion import confusion_of
from lmsl.report.figures import Chart
from lmsl.report.html import data_name, rendered
from lmsl.report.run_charts import run_charts
from lmsl.report.run_tables import (
    answer_table,
    confused_table,
    kind_table,
    kinds_by_type,
    meanings,
    score_table,
    semeval_table,
    type_table,
    unseen_table,
)
from lmsl.report.run_words import run_verdict
from lmsl.report.sentences import MOST_WORDS, ShownSentences, differing_sentences
from lmsl.report.tally import tally_of
from lmsl.statistics.one_run import OneRun, read_one


def run_page(folder: Path) -> tuple[str, list[str], list[Chart]]:
    """The HTML of a report on a run, the verdict, and the figures.

    Raises:
        InputError: the folder is no run, or its files are damaged or contradict each other.
    """
    one = read_one(folder)
    tally = tally_of(one)
    calibration, uncalibrated = calibration_of(one)
    figures, missing = run_charts(one)
    if one.run.info.digests is None:
        missing.append("A check of the files: the run is older than digests of them.")
    verdict = run_verdict(one, tally, calibration)
    spans = None if one.plain else tally
    html = rendered(
        "run.html",
        title=folder.resolve().name,
        model=one.run.info.base,
        data=data_name(folder),
        info=one.run.info,
        split=one.split,
        plain=one.plain,
        verdict=verdict,
        scores=score_table(one),
        types=type_table(one),
        kinds=kind_table(spans) if spans else None,
        meanings=meanings(),
        by_type=kinds_by_type(spans) if spans else None,
        semeval=semeval_table(spans) if spans else None,
        confusion=confusion_of(tally, plain=one.plain) if tally else None,
        confused=confused_table(tally) if tally else None,
        unseen=unseen_table(one),
        answers=answer_table(one),
        calibration=calibration,
        uncalibrated=uncalibrated,
        figures=figures,
        missing=missing,
        examples=_examples(one),
        most_words=MOST_WORDS,
    )
    return html, verdict, [*figures, *([calibration.chart] if calibration else [])]


def _examples(one: OneRun) -> ShownSentences | None:
    if one.predictions is None:
        return None
    info = one.run.info
    name = "generate" if info.task == "generate" else info.unmask
    return differing_sentences(
        (name,), [one.predictions], seed=info.seed, split=one.split, plain=one.plain
    )
