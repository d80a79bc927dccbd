"""One-shot against true: how well a single run foretold the strings that were trained after it.

Where only the strings that the one-shot put first were trained, the truth about the others is
unknown: what is shown then holds among those strings, and the page says so.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lmsl.data.tags.metrics import metric_name
from lmsl.errors import InputError
from lmsl.report.figures import PlaneChart
from lmsl.report.lines import dots
from lmsl.run_directory.oneshot import FOLDER, RESULT, below_line, read_result
from lmsl.statistics.analysis import RANKS_SEED, Analysis
from lmsl.statistics.foretold import TOP, judge, predicted_scores, split_half
from lmsl.statistics.read import Floats
from lmsl.statistics.words import correlation_text, percent

_FEWEST = 3
"""Of fewer strings a rank correlation is 1 or -1 whatever they are."""
_NONE = "\u2013"


@dataclass(frozen=True, kw_only=True)
class OneShotSection:
    """What the page says of a one-shot."""

    chart: PlaneChart
    rows: tuple[tuple[str, ...], ...]
    """For each predictor: its name, correlation, two regrets, share of the cost."""
    notes: tuple[str, ...]


def oneshot_section(analysis: Analysis) -> tuple[OneShotSection | None, str]:
    """The one-shot of a sweep against its trained strings; else why there is none, empty where
    the folder holds no one-shot.

    Raises:
        InputError: its file cannot be read, or has other scores than the sweep.
    """
    folder = analysis.sweep.folder / FOLDER
    document = read_result(folder)
    if document is None:
        return None, ""
    metric = metric_name(analysis.sweep.plain)
    if document.get("metric") != metric:
        raise InputError(
            f"{folder / RESULT}: expected scores in {metric}, as its runs have, got "
            f"{document.get('metric')!r:.30}; report one task at a time"
        )
    places = [i for i, name in enumerate(analysis.sweep.names) if name in document["ranking"]]
    if len(places) < 2:
        return None, "One-shot against true: fewer than two of its strings were trained."
    try:
        rows = _rows(analysis, document, places)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder / RESULT}: expected the result of a one-shot: {error!r:.150}"
        ) from error
    chart = _chart(analysis, document, places)
    return OneShotSection(chart=chart, rows=rows, notes=_notes(analysis, document, places)), ""


def _truth(analysis: Analysis, places: list[int]) -> Floats:
    truth: Floats = analysis.results[analysis.reported].means[places]
    return truth


def _rows(
    analysis: Analysis, document: dict[str, Any], places: list[int]
) -> tuple[tuple[str, ...], ...]:
    """A line for each predictor; costs are shares of training every candidate once."""
    truth = _truth(analysis, places)
    predicted = predicted_scores(document, [analysis.sweep.names[place] for place in places])
    own = float(document["share_of_grid"]["updates"])
    costs = dict.fromkeys(predicted, own)
    if "short grid" in predicted:
        costs["short grid"] = float(document["short_grid"]["share_of_grid"]["updates"])
    if analysis.reported != "dev":
        name = "own dev score"
        predicted[name] = analysis.results["dev"].means[places]
        costs[name] = len(places) / len(document["ranking"]) * len(analysis.sweep.seeds)
    rows = []
    for name, values in predicted.items():
        # The draws by which dev and test are compared elsewhere on the page.
        found = judge(values, truth, np.random.default_rng(RANKS_SEED))
        ranked, beyond_top = len(places) >= _FEWEST, len(places) > TOP
        rows.append(
            (
                name,
                correlation_text(found.spearman) if ranked else _NONE,
                percent(found.regret),
                percent(found.regret_of_top) if beyond_top else _NONE,
                f"{100 * costs[name]:.1f} %",
            )
        )
    return tuple(rows)


def _notes(analysis: Analysis, document: dict[str, Any], places: list[int]) -> tuple[str, ...]:
    truth, candidates = _truth(analysis, places), len(document["ranking"])
    notes = []
    if line := below_line(document):
        notes.append(f"In the one-shot {line}.")
    if len(places) < candidates:
        notes.append(
            f"Of {candidates} strings {len(places)} were trained. The figures hold among these: "
            "whether one of the others is better is unknown."
        )
    notes.append(
        f"A string picked blindly among those trained loses {percent(truth.max() - truth.mean())} "
        "points."
    )
    agreement = split_half(analysis.results[analysis.reported].scores[places])
    if agreement is not None and len(places) >= _FEWEST:
        notes.append(
            f"Halves of the seeds rank the strings alike by {agreement.half:.2f} (Spearman), so "
            f"that a perfect predictor would reach {agreement.ceiling:.2f}."
        )
    return tuple(notes)


def _chart(analysis: Analysis, document: dict[str, Any], places: list[int]) -> PlaneChart:
    sweep, reported = analysis.sweep, analysis.reported
    foreseen = {row["unmask"]: float(row["dev"]) for row in document["candidates"]}
    trained = [sweep.names[place] for place in places]
    across, up = [foreseen[name] for name in trained], _truth(analysis, places).tolist()
    first = next(name for name in document["ranking"] if name in trained)
    return PlaneChart(
        key="oneshot",
        title="One-shot against true",
        note="One dot a trained string. On a rising line the one-shot would rank the strings as "
        "training them does; how high its own scores are does not matter.",
        x_axis=f"dev {sweep.metric} in the one-shot, %",
        y_axis=f"{reported} {sweep.metric} when trained, %",
        lines=dots(analysis, places, across, up, also=first),
        kind="dots",
    )
