"""Are probabilities what they say? The reliability diagram of a split, from ``metrics.json``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmsl.report.figures import Bin, BinChart
from lmsl.statistics.metrics_file import refuse_other
from lmsl.statistics.one_run import OneRun

TITLE = "Reliability"


@dataclass(frozen=True, kw_only=True)
class CalibrationSection:
    """What the page says of it."""

    chart: BinChart
    lines: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """For each bin that is not empty: its bounds, how many, mean probability, share right."""


def calibration_of(one: OneRun) -> tuple[CalibrationSection | None, str]:
    """The section of a run, or why there is none.

    Raises:
        InputError: metrics.json holds something else there.
    """
    found = one.metrics.get("calibration")
    if found is None:
        return None, _why_not(one)
    path = one.run.folder / "metrics.json"
    refuse_other(path, f"{one.split}: calibration", _is_calibration(found), {})
    filled = tuple(
        Bin(**{name: each[name] for name in _BIN}) for each in found["bins"] if each["count"]
    )
    if not filled or found["ece"] is None:
        return None, f"Calibration: no entity that can be judged was predicted on {one.split}."
    chart = BinChart(
        key="reliability",
        title=TITLE,
        note="Bars: the share of predicted entities that are right, by probability; dots: their "
        "mean probability. On the dashed line both would be equal. Above each bar, how many.",
        x_axis="probability",
        y_axis="share right",
        bins=filled,
    )
    rows = tuple(
        (
            f"{each.low:.2f} to {each.high:.2f}",
            f"{each.count:,}",
            f"{each.confidence:.3f}",
            f"{each.correct:.3f}",
        )
        for each in filled
    )
    lines = _words(found, filled, fitted_here=one.split == "dev")
    return CalibrationSection(chart=chart, lines=lines, rows=rows), ""


def _words(found: dict[str, Any], bins: Sequence[Bin], *, fitted_here: bool) -> tuple[str, ...]:
    total = sum(each.count for each in bins)
    said = sum(each.count * each.confidence for each in bins) / total
    right = sum(each.count * each.correct for each in bins) / total
    lines = [
        f"Expected calibration error {100 * found['ece']:.1f} points: so far are probability and "
        f"share right apart, on average over {total:,} predicted entities. The mean "
        f"probability is {said:.3f}, and {right:.3f} are right."
    ]
    temperature, before = found["temperature"], found[_BEFORE]
    if temperature == 1.0:
        lines.append("The run was not calibrated: its temperature is 1.")
    elif temperature is not None and before is not None:
        lines.append(
            f"The logarithms of probabilities are divided by a temperature of {temperature:.2f}, "
            f"fitted on {'these very entities' if fitted_here else 'dev'}; without it the error "
            f"is {100 * before:.1f} points."
        )
    return tuple(lines)


def _why_not(one: OneRun) -> str:
    if one.run.info.task == "generate":
        return "Calibration: a model that writes spans gives them no probability."
    if one.plain:
        return "Calibration: it is measured of entities, and this run predicts plain tags."
    return (
        f"Calibration: metrics.json holds none for {one.split}; runs of versions that measure it "
        "do. lmsl train --config RUN/config.yaml --output DIR repeats the run."
    )


_BEFORE = "ece_uncalibrated"
_BIN = ("low", "high", "count", "confidence", "correct")


def _is_calibration(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and {"temperature", "ece", "ece_uncalibrated", "bins"} <= found.keys()
        and all(found[name] is None or _is_share(found[name]) for name in ("ece", _BEFORE))
        and (found["temperature"] is None or _is_number(found["temperature"]))
        and isinstance(found["bins"], list)
        and all(map(_is_bin, found["bins"]))
    )


def _is_bin(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and isinstance(found.get("count"), int)
        and found["count"] >= 0
        and all(_is_share(found.get(name)) for name in ("low", "high"))
        and found["low"] < found["high"]
        # Of an empty bin there is nothing to say.
        and (not found["count"] or all(_is_share(found.get(name)) for name in _BIN[3:]))
    )


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
