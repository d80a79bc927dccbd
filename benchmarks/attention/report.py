"""Tables of the attention benchmark for people; see ``benchmarks.attention``."""

from typing import Any

from benchmarks.attention.peers import OURS_BEGIN
from benchmarks.shared.record import table


def print_table(kind: str, figures: dict[str, Any]) -> None:
    """One cell with all its contenders; those without figures follow with their reasons."""
    cell = figures["cell"]["name"]
    about = f"{figures['tokens']:,} tokens, longest {figures['longest']}"
    print(f"\n{kind}: {cell} ({about}, padding {100 * figures['padding']:.0f} %)")
    head, rows = {"kernels": _kernels, "streams": _streams, "mixes": _mixes}[kind](figures)
    if rows:
        print(table(head, rows))
    for line in _untimed(figures):
        print(line)


def _untimed(figures: dict[str, Any]) -> list[str]:
    """Why the others have no time, those with one reason together."""
    names: dict[str, list[str]] = {}
    for name, one in figures["contenders"].items():
        if one["status"] != "timed":
            names.setdefault(f"{one['status']}: {one['reason']}", []).append(name)
    return [f"{reason}: {'; '.join(those)}" for reason, those in names.items()]


def _timed(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {n: one for n, one in figures["contenders"].items() if one["status"] == "timed"}


def _kernels(figures: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    head = ["us", "forward", "backward", "both", "TFLOP/s", "GB/s", "% of floor", "x ours"]
    timed = _timed(figures)
    rows = []
    for name, one in timed.items():
        times = one["times"]
        both = times["both"]
        share = both.get("percent_of_floor")
        rows.append(
            [
                name,
                *(_microseconds(times[d]) for d in ("forward", "backward", "both")),
                f"{both['tflops']:.2f}",
                f"{both['gbytes_per_second']:.0f}",
                "" if share is None else f"{share:.0f}",
                _ratio(both["seconds"], timed, lambda ours: ours["times"]["both"]["seconds"]),
            ]
        )
    return head, rows


def _microseconds(sample: dict[str, Any]) -> str:
    """A star for times that are not from a CUDA graph and hold more than kernels."""
    return f"{1e6 * sample['seconds']:.1f}" + ("*" if sample["timer"] == "do_bench" else "")


def _streams(figures: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    head = ["ms a step", "new lengths", "us a layer", "x ours", "seen lengths", "x ours"]
    timed = _timed(figures)
    rows = [
        [
            name,
            f"{one['first_ms']:.2f}",
            f"{one['first_us_per_layer']:.0f}",
            _ratio(one["first_ms"], timed, lambda ours: ours["first_ms"]),
            f"{one['again_ms']:.2f}",
            _ratio(one["again_ms"], timed, lambda ours: ours["again_ms"]),
        ]
        for name, one in timed.items()
    ]
    return head, rows


def _mixes(figures: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    timed = _timed(figures)
    strings = list(next(iter(timed.values()))["us"]) if timed else []
    rows = [
        [name, *(f"{one['us'][s]:.1f}" for s in strings), f"{one['against_mean']:.3f}"]
        for name, one in timed.items()
    ]
    return ["us", *strings, "0011 / mean"], rows


def _ratio(value: float, timed: dict[str, dict[str, Any]], pick: Any) -> str:
    """How many times longer than ours: the kernels or, where they cannot run, ``lmsl sdpa``."""
    ours = next((one for name, one in timed.items() if name.startswith(OURS_BEGIN)), None)
    return "" if ours is None else f"{value / pick(ours):.2f}"
