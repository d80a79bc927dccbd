"""Tables of the attention benchmark for people; see ``benchmarks.attention``."""

from collections.abc import Callable
from typing import Any

from benchmarks.attention.peers import OURS_BEGIN
from benchmarks.shared.record import table

Columns = dict[str, Callable[[Any], str]]


def print_table(kind: str, figures: dict[str, Any]) -> None:
    """One cell with all its contenders; those without figures follow with their reasons."""
    cell = figures["cell"]["name"]
    about = f"{figures['tokens']:,} tokens, longest {figures['longest']}"
    print(f"\n{kind}: {cell} ({about}, padding {100 * figures['padding']:.0f} %)")
    timed, others = dict[str, Any](), dict[str, list[str]]()
    for name, one in figures["contenders"].items():
        if one["status"] == "timed":
            timed[name] = one
        else:
            others.setdefault(f"{one['status']}: {one['reason']}", []).append(name)
    if timed:
        # The kernels or, where they cannot run, ``lmsl sdpa``.
        ours = next((one for name, one in timed.items() if name.startswith(OURS_BEGIN)), None)
        unit, columns = {"kernels": _kernels, "streams": _streams, "mixes": _mixes}[kind](ours)
        rows = [[name, *(show(one) for show in columns.values())] for name, one in timed.items()]
        print(table([unit, *(head.strip() for head in columns)], rows))
    for reason, names in others.items():
        print(f"{reason}: {'; '.join(names)}")


def _kernels(ours: Any) -> tuple[str, Columns]:
    def both(one: Any) -> Any:
        return one["times"]["both"]

    def share(one: Any) -> str:
        found = both(one).get("percent_of_floor")
        return "" if found is None else f"{found:.0f}"

    return "us", {
        "forward": lambda one: _microseconds(one["times"]["forward"]),
        "backward": lambda one: _microseconds(one["times"]["backward"]),
        "both": lambda one: _microseconds(both(one)),
        "TFLOP/s": lambda one: f"{both(one)['tflops']:.2f}",
        "GB/s": lambda one: f"{both(one)['gbytes_per_second']:.0f}",
        "% of floor": share,
        "x ours": _ratio(ours, lambda one: both(one)["seconds"]),
    }


def _microseconds(sample: dict[str, Any]) -> str:
    """A star for times that are not from a CUDA graph and hold more than kernels."""
    return f"{1e6 * sample['seconds']:.1f}" + ("*" if sample["timer"] == "do_bench" else "")


def _streams(ours: Any) -> tuple[str, Columns]:
    return "ms a step", {
        "new lengths": lambda one: f"{one['first_ms']:.2f}",
        "us a layer": lambda one: f"{one['first_us_per_layer']:.0f}",
        "x ours": _ratio(ours, lambda one: one["first_ms"]),
        "seen lengths": lambda one: f"{one['again_ms']:.2f}",
        "x ours ": _ratio(ours, lambda one: one["again_ms"]),
    }


def _mixes(ours: Any) -> tuple[str, Columns]:
    columns: Columns = {
        string: lambda one, string=string: f"{one['us'][string]:.1f}"  # type: ignore[misc]
        for string in ours["us"]
    }
    return "us", columns | {"0011 / mean": lambda one: f"{one['against_mean']:.3f}"}


def _ratio(ours: Any, pick: Callable[[Any], float]) -> Callable[[Any], str]:
    """How many times longer than ours."""
    return lambda one: "" if ours is None else f"{pick(one) / pick(ours):.2f}"
