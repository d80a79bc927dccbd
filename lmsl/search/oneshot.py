"""``lmsl sweep --mode oneshot``: which strings are worth training, from a single run.

One set of weights is trained with a random candidate string for each sentence and update, as
networks are in one-shot architecture search (Bender et al. 2018; Guo et al. 2020, arXiv
1904.00420). It then costs one pass over dev to score a candidate, and the strings that score best
are trained for real. A score of the shared weights is not that of a string trained alone: only
their order is of use, and how far it can be trusted is measured by ``benchmarks.search.oneshot``.

While it trains, dev is scored with one drawn string for each sentence, at the price of an ordinary
run; its weights are selected by that.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmsl.config.config import Config
from lmsl.console import Console
from lmsl.data.tags.counts import Entities, sentence_counts
from lmsl.data.tags.metrics import metric_name
from lmsl.errors import InputError
from lmsl.mask.bits import Bits
from lmsl.run_directory.digests import Digests
from lmsl.run_directory.folder import making, writing
from lmsl.run_directory.oneshot import FOLDER, below_line, read_result
from lmsl.search.asked import OneShot
from lmsl.search.oneshot_files import SHORT, begin, check_folder, write_result
from lmsl.search.racing import surely_below_best
from lmsl.search.short_grid import forget, short_grid
from lmsl.statistics.foretold import TOP
from lmsl.training.epochs import fit
from lmsl.training.evaluate import evaluate_runs
from lmsl.training.runs import Run, find_progress
from lmsl.training.schedule import total_updates
from lmsl.training.session import Session
from lmsl.training.stack import alone


def oneshot_run(
    config: Config, strings: Mapping[str, Bits], output: Path, digests: Digests
) -> Run:
    """The run of which each sentence draws one of ``strings``; its seed is the first one given.

    Args:
        strings: with the bits of each.
    """
    own = config.of_strings(tuple(strings), config.seed[:1])
    bits = [bits for (bits,) in strings.values()]
    return Run(
        config=own,
        folder=output / FOLDER,
        bits=bits,
        digests=digests,
        candidates=tuple(strings),
    )


def check_oneshot(planned: Sequence[Run], config: Config, output: Path, asked: OneShot) -> None:
    """Refuse, before anything is computed, what cannot be predicted or written.

    Args:
        planned: the runs of all candidates.
    """
    top = asked.top
    strings = _strings(planned)
    if len(strings) < 2:
        raise InputError(
            "--unmask: expected two or more strings for --mode oneshot, such as grid, got "
            f"{len(strings)}"
        )
    if top is not None and not 0 <= top <= len(strings):
        raise InputError(f"--top: expected 0 to {len(strings)}, the number of strings, got {top}")
    run = oneshot_run(config, strings, output, planned[0].digests)
    check_folder(run, overwrite=config.overwrite, resume=config.resume)


def best_by_oneshot(
    session: Session,
    planned: Sequence[Run],
    output: Path,
    asked: OneShot,
) -> list[Run]:
    """The planned runs of the strings that a one-shot puts first, in the order of ``planned``."""
    strings = _strings(planned)
    run = oneshot_run(session.config, strings, output, planned[0].digests)
    document = read_result(run.folder) if session.config.resume else None
    if document is None:
        document = train_oneshot(session, run)
    else:
        session.console.say(f"{run.name} -> {run.folder}\n  predicted already")
    if asked.short_grid and "short_grid" not in document:
        document = with_short_grid(session, run, document)
    best = document["ranking"][: TOP if asked.top is None else asked.top]
    _say(document, best, session.console)
    return [one for one in planned if one.string in best]


def train_oneshot(session: Session, run: Run) -> dict[str, Any]:
    """Train a one-shot run, score its candidates on dev, write ``oneshot.json``; what is in it."""
    config = session.config
    if config.overwrite and not config.resume:
        with writing(run.folder):
            begin(run.folder)
    _train(session, run)
    scored = _score(session, run)
    # The next stack needs the memory.
    session.stack, run.progress.kept_weights = None, {}
    document = _document(session, run, scored)
    with writing(run.folder):
        write_result(run, document)
    return document


def with_short_grid(session: Session, run: Run, document: dict[str, Any]) -> dict[str, Any]:
    """Train a short grid and add to the document what every string had there."""
    folder = run.folder / SHORT
    brief = short_grid(session, run, folder)
    rows = [{**row, "short_grid": brief.scores[row["unmask"]]} for row in document["candidates"]]
    whole = len(rows) * total_updates(len(session.task), run.config)
    grid = len(rows) * document["train_seconds"]
    more = {
        "updates": brief.updates,
        "seconds": round(brief.seconds, 1),
        "share_of_grid": _shares(brief.updates / whole, brief.seconds, grid),
    }
    document = document | {"candidates": rows, "short_grid": more}
    with writing(run.folder):
        write_result(run, document)
        forget(folder)
    return document


def _train(session: Session, run: Run) -> None:
    sentences = len(session.task)
    if session.config.resume:
        find_progress([run], sentences, session.console.say)
    if run.over:
        return
    session.announce([run])
    stack = session.stack_of([run])
    last = total_updates(sentences, run.config)
    with making([run.folder], overwrite=False):
        fit(stack, session.task, session.data, session.place, session.console, until=last)


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """The candidates under the selected weights."""

    dev: dict[str, float]
    """Score of each, in 0-1."""
    below: list[str]
    """Those that are surely below the best."""
    seconds: float


def _score(session: Session, run: Run) -> _Scored:
    began = time.monotonic()
    data, place = session.data, session.place
    labels, sentences = data.splits.labels, data.splits.dev.sentences
    found = evaluate_runs(
        alone(run, session.base, len(labels), place).tagger,
        data.splits,
        data.dev,
        run.config,
        place,
        updates=run.progress.updates,
        bits=run.bits,
    )
    by_string = dict(zip(run.candidates, found, strict=True))
    entities = Entities(plain=labels.plain)
    counts = {
        string: [sentence_counts(sentences, [one.tags for one in own.decoded], entities)]
        for string, own in by_string.items()
    }
    name = metric_name(labels.plain)
    return _Scored(
        dev={string: float(own.metrics[name]) for string, own in by_string.items()},
        below=surely_below_best(counts, seed=run.seed),
        seconds=time.monotonic() - began,
    )


def _document(session: Session, run: Run, scored: _Scored) -> dict[str, Any]:
    """What ``oneshot.json`` says; scores in 0-1."""
    spent, updates = run.progress.seconds + scored.seconds, run.progress.updates
    whole = len(scored.dev) * total_updates(len(session.task), run.config)
    return {
        "metric": metric_name(session.data.splits.labels.plain),
        "seed": run.seed,
        "ranking": sorted(scored.dev, key=scored.dev.__getitem__, reverse=True),
        "candidates": [
            {"unmask": string, "dev": score, "below_best": string in scored.below}
            for string, score in scored.dev.items()
        ],
        "updates": updates,
        "selected_epoch": run.progress.kept_epoch,
        "train_seconds": round(run.progress.seconds, 1),
        "score_seconds": round(scored.seconds, 1),
        "seconds": round(spent, 1),
        "share_of_grid": _shares(updates / whole, spent, len(scored.dev) * run.progress.seconds),
    }


def _shares(updates: float, seconds: float, grid: float) -> dict[str, float]:
    """Of the grid's cost; a run of it takes about as long as the one-shot's own training."""
    return {"updates": updates, "seconds_estimated": seconds / max(grid, 1e-9)}


def _say(document: dict[str, Any], best: Sequence[str], console: Console) -> None:
    metric = {"f1": "F1"}.get(document["metric"], document["metric"])
    scores = {row["unmask"]: 100 * row["dev"] for row in document["candidates"]}
    console.say(f"one-shot dev {metric}, best first; chosen: {' '.join(best) or 'none'}")
    console.say("  " + ", ".join(f"{s} {scores[s]:.2f}" for s in document["ranking"]))
    if line := below_line(document):
        console.say(f"  {line}")
    share = document["share_of_grid"]
    console.say(
        f"  it took {100 * share['updates']:.1f} % of the updates of all {len(scores)} strings "
        f"and about {100 * share['seconds_estimated']:.0f} % of their time"
    )


def _strings(planned: Sequence[Run]) -> dict[str, Bits]:
    return {run.string: run.bits for run in planned}
