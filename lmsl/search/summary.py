"""Several runs side by side: ``sweep.json`` and the table that is printed at the end."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from lmsl.console import Console
from lmsl.data.documents import read_object
from lmsl.data.tags.metrics import metric_name
from lmsl.errors import InputError
from lmsl.run_directory.files import write_json
from lmsl.run_directory.folder import PRUNED, is_finished, is_pruned, writing
from lmsl.run_directory.info import read_info
from lmsl.statistics.analysis import analyse
from lmsl.statistics.words import verdict_lines


def summarise(output: Path, folders: Sequence[Path], console: Console) -> None:
    """Write ``sweep.json``; show mean and deviation of every string, and what may be concluded.

    The string with the best mean on dev is marked; test is for reporting, not for choosing.
    """
    rows = [_row(output, folder) for folder in folders if is_finished(folder)]
    dropped = [_pruned(output, folder) for folder in folders if is_pruned(folder)]
    assert rows, "the leader is never pruned"
    strings = list(dict.fromkeys(row["unmask"] for row in rows))
    by_string = {s: [row for row in rows if row["unmask"] == s] for s in strings}
    best = max(strings, key=lambda string: fmean(row["dev"] for row in by_string[string]))
    with writing(output):
        document = {"metric": rows[0]["metric"], "best": best, "runs": rows}
        write_json(output / "sweep.json", document | ({"pruned": dropped} if dropped else {}))
    try:
        conclusions = verdict_lines(analyse(output))
    except InputError as error:
        # Everything is trained and saved: other runs in the folder do not undo that.
        conclusions = [f"nothing can be concluded from {output}: {error}"]
    for line in (*table(by_string, best), *conclusions):
        console.say(line)


def table(by_string: Mapping[str, Sequence[Mapping[str, Any]]], best: str) -> list[str]:
    """Markdown rows: string, runs, dev and test score in percent, seconds of training."""
    metric = next(iter(by_string.values()))[0]["metric"]
    name = {"f1": "F1"}.get(metric, metric)
    lines = [f"| unmask | runs | dev {name} | test {name} | seconds |", "|---|---|---|---|---|"]
    for string, rows in by_string.items():
        cells = [
            f"**{string}**" if string == best else string,
            str(len(rows)),
            _mean([100 * row["dev"] for row in rows]),
            _mean([100 * row["test"] for row in rows]) if "test" in rows[0] else "",
            f"{fmean(row['seconds'] for row in rows):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _row(output: Path, folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = read_object(folder / "metrics.json")
    info = read_info(folder)
    metric = metric_name(info.labels.plain)
    scored = [split for split in ("dev", "test") if split in metrics]
    return {
        "unmask": info.unmask,
        "seed": info.seed,
        "run": folder.relative_to(output).as_posix(),
        "metric": metric,
        **{split: metrics[split][metric] for split in scored},
        "seconds": metrics["train_seconds"],
    }


def _pruned(output: Path, folder: Path) -> dict[str, Any]:
    return {"run": folder.relative_to(output).as_posix(), **read_object(folder / PRUNED)}


def _mean(values: Sequence[float]) -> str:
    spread = f" \u00b1 {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{fmean(values):.2f}{spread}"
