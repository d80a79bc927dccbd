"""What a training says at its end: entities by type, the weakest, and what comes next."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from lmsl.data.documents import read_object
from lmsl.report.run_tables import FEW
from lmsl.visible import visible

_MOST_TYPES = 12
_WEAKEST = 3


def closing_lines(folders: Sequence[Path], *, comparable: bool) -> Iterator[str]:
    """Lines for people on the runs of a command.

    Args:
        comparable: other strings could be trained in their place.
    """
    if len(folders) != 1:
        # OUTPUT/<unmask>/seed<k>.
        for output in {folder.parents[1] for folder in folders}:
            yield from _next(
                {f"lmsl report {quote(str(output))}": "which string, and is that more than noise"}
            )
        return
    (folder,) = folders
    metrics = read_object(folder / "metrics.json")
    split = "test" if "test" in metrics else "dev"
    yield from type_lines(split, metrics[split]["per_type"])
    place = quote(str(folder))
    steps = {
        f"lmsl predict {place} FILE": "label new text",
        f"lmsl report {place}": "see what it gets wrong",
    }
    if comparable:
        settings = quote(str(folder / "config.yaml"))
        again = f"lmsl sweep --config {settings} --unmask grid --seed 1 2 3"
        steps[again] = "is another string better?"
    yield from _next(steps)


def _next(steps: Mapping[str, str]) -> Iterator[str]:
    width = max(map(len, steps))
    yield "next:"
    yield from (f"  {command:<{width}}  {what}" for command, what in steps.items())


def type_lines(split: str, per_type: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A table by type, the most frequent first, and the weakest of those that are frequent."""
    if not per_type:
        return
    ranked = sorted(per_type, key=lambda kind: (-per_type[kind]["gold"], kind))
    shown = ranked[:_MOST_TYPES]
    names = {kind: visible(kind) for kind in ranked}
    width = max(len(split), *(len(names[kind]) for kind in shown))
    yield f"  {split:<{width}}     gold  precision  recall     F1"
    for kind in shown:
        of = per_type[kind]
        yield (
            f"  {names[kind]:<{width}}  {of['gold']:>7,}  {100 * of['precision']:>9.2f}"
            f"  {100 * of['recall']:>6.2f}  {100 * of['f1']:>5.2f}"
        )
    if rest := ranked[_MOST_TYPES:]:
        yield f"  and {len(rest)} more in metrics.json"
    known = [kind for kind in ranked if per_type[kind]["gold"] >= FEW]
    weakest = sorted(known, key=lambda kind: float(per_type[kind]["f1"]))[:_WEAKEST]
    if len(known) > _WEAKEST:
        named = ", ".join(f"{names[kind]} {100 * per_type[kind]['f1']:.2f}" for kind in weakest)
        yield f"  weakest of those with {FEW} or more: {named}"
