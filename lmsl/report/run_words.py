"""What one run does wrong in a few plain sentences, for the console and the page."""

from lmsl.report.calibration import CalibrationSection
from lmsl.report.errors import ERRORS, Kind
from lmsl.report.run_tables import FEW, GROUP_NAMES, unseen_counts_of
from lmsl.report.tally import Tally
from lmsl.statistics.one_run import OneRun
from lmsl.statistics.words import percent
from lmsl.visible import visible
from lmsl.wording import counted

_WEAKEST = 3


def run_verdict(
    one: OneRun, tally: Tally | None, calibration: CalibrationSection | None
) -> list[str]:
    """Scores, errors, weakest types, confusions, unseen entities, calibration."""
    lines = [_scores(one)]
    if tally is not None:
        lines += _words(tally) if one.plain else _errors(tally)
    lines += _weakest(one)
    if tally is not None:
        lines += _confused(tally)
    lines += _unseen(one)
    if calibration is not None:
        lines.append(calibration.lines[0])
    lines += _lost(one)
    return lines


def _scores(one: OneRun) -> str:
    metrics, info = one.metrics, one.run.info
    name = "generate" if info.task == "generate" else info.unmask
    what = f"{name}, seed {info.seed}, on {one.split}"
    if one.plain:
        return (
            f"{what}: accuracy {percent(metrics['accuracy'])} of {metrics['gold']:,} words, "
            f"macro-F1 {percent(metrics['macro_f1'])}."
        )
    return (
        f"{what}: F1 {percent(metrics['f1'])}, precision {percent(metrics['precision'])}, recall "
        f"{percent(metrics['recall'])}, {metrics['gold']:,} gold and {metrics['predicted']:,} "
        "predicted entities."
    )


def _errors(tally: Tally) -> list[str]:
    kinds, gold = tally.by_kind, tally.gold.total()
    if not gold and not tally.predicted:
        return ["There are no entities, in gold or predicted."]
    order: list[Kind] = sorted(ERRORS, key=lambda kind: -kinds[kind])
    wrong = [
        f"{kinds[kind]:,} {ERRORS[kind]}" for kind in order if kinds[kind] and kind != "spurious"
    ]
    line = f"Of {gold:,} gold entities {kinds['right']:,} are right"
    line += f"; {', '.join(wrong)}. " if wrong else ". "
    found = tally.predicted.total()
    return [f"{line}Of {found:,} predicted ones {kinds['spurious']:,} are spurious."]


def _words(tally: Tally) -> list[str]:
    wrong = tally.by_kind["type"]
    return [f"Of {tally.gold.total():,} words {wrong:,} have another tag than gold."]


def _weakest(one: OneRun) -> list[str]:
    found = one.metrics["per_type"]
    enough = [kind for kind in found if found[kind]["gold"] >= FEW]
    if len(enough) < 2:
        return []
    enough.sort(key=lambda kind: (found[kind]["f1"], -found[kind]["gold"], kind))
    listed = ", ".join(
        f"{visible(kind)} (F1 {percent(found[kind]['f1'])}, {found[kind]['gold']:,} gold)"
        for kind in enough[:_WEAKEST]
    )
    many = counted(len(enough), "tag" if one.plain else "type")
    return [f"Weakest of {many} with {FEW} or more in gold: {listed}."]


def _confused(tally: Tally) -> list[str]:
    if not tally.confused:
        return []
    listed = ", ".join(
        f"{visible(str(gold))} taken for {visible(str(given))} ({count:,})"
        for (gold, given), count in tally.confused[:_WEAKEST]
    )
    return [f"Most often confused: {listed}."]


def _unseen(one: OneRun) -> list[str]:
    counts = unseen_counts_of(one)
    if counts is None:
        return []
    what = "words" if one.plain else "entities"
    told = [
        f"{percent(found['correct'] / found['gold'])} of {found['gold']:,} {GROUP_NAMES[group]}"
        for group, found in counts.items()
        if found["gold"]
    ]
    return [f"Recall of {what} in percent: {'; '.join(told)}."] if told else []


def _lost(one: OneRun) -> list[str]:
    lost = one.metrics.get("lost_to_truncation")
    lines = []
    if isinstance(lost, int) and lost and not one.plain:
        lines.append(f"{counted(lost, 'gold entity')} lost to truncation, counted as missed.")
    if number := one.beyond.total():
        lines.append(
            f"{counted(number, 'gold entity')} that no tag shows (overlapping others, or inside "
            "a word) counted as missed, and in no sentence here."
        )
    return lines
