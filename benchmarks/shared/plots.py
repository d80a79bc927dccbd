"""Pictures of the attention benchmark's tables, of what stacks of runs save, and of training.

    python -m benchmarks.shared.plots benchmarks/results/attention_nvidia_h200.json

Bars of all contenders that were timed, one panel a cell. matplotlib is not needed for anything
else, so it is imported here alone: the extra ``plots``.
"""

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.attention.peers import OURS_BEGIN
from benchmarks.shared.flags import status_of
from benchmarks.shared.loss_curves import smoothed
from benchmarks.shared.record import write_json
from lmsl.errors import InputError
from lmsl.wording import install

_COLUMNS = 4
_PICKS: dict[str, tuple[str, Callable[[dict[str, Any]], float]]] = {
    "kernels": ("us, forward and backward", lambda one: 1e6 * one["times"]["both"]["seconds"]),
    "streams": ("ms of wall time a step, lengths not seen before", lambda one: one["first_ms"]),
    "mixes": ("cost of 0011 against mean of 0000 and 1111", lambda one: one["against_mean"]),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Draw a record; 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shared.plots")
    parser.add_argument("record", type=Path, help="JSON by benchmarks.attention; PNGs go beside")
    path = parser.parse_args(argv).record

    def run() -> None:
        require_matplotlib()
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            record = None
        if not isinstance(record, dict) or record.get("benchmark") != "attention":
            raise InputError(f"{path}: expected a record of benchmarks.attention")
        draw(record, path)

    return status_of(run)


def has_matplotlib() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def require_matplotlib() -> None:
    """Raise ``InputError`` where it is missing: before a measurement, not after it."""
    if not has_matplotlib():
        raise InputError(
            f"plots: expected matplotlib, found none; {install('plots')}, or draw the record "
            "elsewhere with python -m benchmarks.shared.plots RECORD.json"
        )


def finish(
    record: dict[str, Any], path: Path, draw: Callable[[dict[str, Any], Path], None]
) -> None:
    """Write a record and, where matplotlib is there, a PNG beside it; say so."""
    write_json(path, record)
    print(f"written: {path}")
    if has_matplotlib():
        draw(record, path)


def draw(record: dict[str, Any], beside: Path) -> None:
    """A PNG for every table of the attention benchmark that has figures."""
    for table, (label, pick) in _PICKS.items():
        panels = {
            figures["cell"]["name"]: values
            for figures in record.get(table, [])
            if (values := _values(figures, pick))
        }
        columns = min(_COLUMNS, len(panels))
        if not panels:
            continue
        rows = -(-len(panels) // columns)
        path = beside.with_name(f"{beside.stem}_{table}.png")
        size = (5 * columns, 0.8 + 2.6 * rows)
        with _figure(path, record["machine"], size, label) as figure:
            for place, (name, values) in enumerate(panels.items(), start=1):
                axes = figure.add_subplot(rows, columns, place)
                axes.set_title(name, fontsize=8)
                axes.tick_params(labelsize=7)
                _bars(axes, values, [f"{value:.3g}" for value in values.values()], OURS_BEGIN)


def draw_scaling(record: dict[str, Any], beside: Path) -> None:
    """Ratio of stacked to serial time over the number of runs, by ``benchmarks.search.stacks``."""
    sizes = [one["runs"] for one in record["sizes"]]
    with _figure(beside.with_suffix(".png"), record["machine"], (6, 4)) as figure:
        axes = figure.add_subplot()
        for key, label in (("ratio", "wall time"), ("processor_ratio", "processor time")):
            axes.plot(sizes, [one[key] for one in record["sizes"]], marker="o", label=label)
        axes.axhline(1.0, color="gray", linewidth=0.8)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_ylim(bottom=0)
        axes.set(xlabel="runs in a stack", ylabel="stacked / one after another")
        axes.legend()


def draw_speeds(record: dict[str, Any], beside: Path) -> None:
    """Speed of all contenders, by benchmarks.train_step or benchmarks.predict."""
    contenders, unit = record["contenders"], record.get("unit", "tokens")
    size = (7, 1.2 + 0.35 * len(contenders))
    with _figure(beside.with_suffix(".png"), record["machine"], size) as figure:
        axes = figure.add_subplot()
        speeds = {name: one[f"{unit}_per_second"] for name, one in contenders.items()}
        _bars(axes, speeds, [f"{one['ratio']:.2f}" for one in contenders.values()], "ours")
        named = {"tokens": "real tokens"}.get(unit, unit)
        axes.set_xlabel(f"{named} per second; beside the bars the ratio to the baseline")


def draw_curves(
    curves: dict[str, dict[str, list[float]]], machine: dict[str, Any], beside: Path
) -> None:
    """Losses of one run each, by who learnt and by seed, of benchmarks.gpu_check's part k."""
    path = beside.with_name(f"{beside.stem}_curves.png")
    with _figure(path, machine, (7, 4)) as figure:
        axes = figure.add_subplot()
        for colour, (who, seeds) in zip(("tab:blue", "tab:gray"), curves.items(), strict=False):
            for style, (seed, losses) in zip(("-", "--"), seeds.items(), strict=False):
                axes.plot(losses, color=colour, alpha=0.25, linewidth=0.6)
                smooth = smoothed(losses)
                steps = range(len(losses) - len(smooth), len(losses))
                axes.plot(steps, smooth, style, color=colour, label=f"{who}, seed {seed}")
        axes.set_yscale("log")
        axes.set(xlabel="updates; thick lines are means over those before", ylabel="loss")
        axes.legend()


def draw_costs(
    points: dict[str, tuple[float, float, float]], machine: dict[str, Any], path: Path, data: str
) -> None:
    """F1 of the systems of benchmarks.study over seconds of training, and of prediction.

    Args:
        points: by system F1 in percent, seconds of its training, and those for 1,000 words.
        data: what it was measured on.
    """
    labels = ("training, s", "prediction, s for 1,000 words")
    with _figure(path, machine, (11, 5), f"F1 on test of {data}") as figure:
        for place, label in enumerate(labels, start=1):
            axes = figure.add_subplot(1, 2, place)
            axes.set_xscale("log")
            axes.set(xlabel=label, ylabel="F1")
            axes.margins(x=0.2)
            for name, values in points.items():
                axes.plot(values[place], values[0], "o", color="tab:blue", markersize=4)
                axes.annotate(
                    name,
                    (values[place], values[0]),
                    xytext=(4, 3),
                    textcoords="offset points",
                    fontsize=7,
                )


def draw_growth(
    panels: Mapping[str, Mapping[str, Sequence[tuple[int, float, float]]]],
    machine: dict[str, Any],
    path: Path,
) -> None:
    """F1 over tokens of pre-training, by benchmarks.small_scale; bars are standard deviations.

    Args:
        panels: by data set and mode, points of tokens, mean and deviation in percent.
    """
    with _figure(path, machine, (max(7.0, 1 + 3.6 * len(panels)), 4), "F1 on test") as figure:
        for place, (data, modes) in enumerate(panels.items(), start=1):
            axes = figure.add_subplot(1, len(panels), place)
            first = min((x for points in modes.values() for x, _, _ in points if x), default=1)
            # Logarithmic from the first trained model on, with room for the untrained one.
            axes.set_xscale("symlog", linthresh=first, linscale=0.5)
            axes.set(title=data, xlabel="tokens of pre-training")
            for name, points in modes.items():
                if points:
                    tokens, means, deviations = zip(*points, strict=True)
                    axes.errorbar(tokens, means, deviations, marker="o", capsize=2, label=name)
            if place == 1:
                axes.set_ylabel("F1")
                axes.legend(fontsize=7)


@contextmanager
def _figure(
    path: Path, found: dict[str, Any], size: tuple[float, float], label: str = ""
) -> Iterator[Any]:
    """A figure that is saved when it is done."""
    # Figures of their own, without pyplot: no display is asked for and nothing stays open.
    from matplotlib.figure import Figure

    name = found["gpu"]["name"] if "gpu" in found else found["processor"]
    versions = found["versions"]
    title = f"{name}, torch {versions['torch']}, triton {versions['triton']}, {found['date']}"
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(f"{label}\n{title}".strip(), fontsize=9)
    yield figure
    figure.savefig(path, dpi=110)
    print(f"drawn: {path}")


def _bars(axes: Any, values: dict[str, float], labels: Sequence[str], ours: str) -> None:
    colours = ["tab:blue" if name.startswith(ours) else "tab:gray" for name in values]
    bars = axes.barh(list(values), list(values.values()), color=colours)
    axes.bar_label(bars, labels, fontsize=7, padding=2)
    axes.margins(x=0.2)
    axes.invert_yaxis()


def _values(figures: dict[str, Any], pick: Callable[[dict[str, Any]], float]) -> dict[str, float]:
    return {
        name: pick(one) for name, one in figures["contenders"].items() if one["status"] == "timed"
    }


if __name__ == "__main__":
    sys.exit(main())
