"""The table of what is done: Markdown for people, and a picture of F1 against cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared.plots import draw_costs, has_matplotlib
from benchmarks.study.cells import OWN, Records, at_an_end
from benchmarks.study.compare import Row, against_reference, rows_of
from benchmarks.study.cost import DATA, read_costs
from benchmarks.study.listing import unfinished
from benchmarks.study.material import TUNED_ON
from benchmarks.study.records import read_records
from benchmarks.study.settings import Settings
from benchmarks.study.systems import REFERENCE, System, chosen
from lmsl.errors import InputError
from lmsl.run_directory.files import write_text
from lmsl.statistics.bootstrap import LEVEL
from lmsl.statistics.compare import Difference
from lmsl.statistics.words import difference_text

_LITTLE = 1 - LEVEL


def write_table(settings: Settings) -> int:
    """Write the table and, where cost was measured, the picture, beside the record."""
    records = read_records(settings.record, settings.same)
    systems = chosen(settings.systems)
    rows = {data: rows_of(systems, data, records) for data in settings.datasets}
    if not any(rows.values()):
        raise InputError(f"--record {settings.record}: expected cells that are done, found none")
    costs = read_costs(settings)
    text = "\n".join(markdown(settings, systems, rows, records, costs)) + "\n"
    path = settings.record.with_suffix(".md")
    write_text(path, text)
    print(text)
    print(f"written: {path}")
    _draw(rows.get(DATA, []), costs, settings, path)
    return 0


def markdown(
    settings: Settings,
    systems: Sequence[System],
    rows: Mapping[str, Sequence[Row]],
    records: Records,
    costs: Mapping[str, Any] | None,
) -> list[str]:
    """The lines of the table."""
    by_name = {data: {row.system.name: row for row in own} for data, own in rows.items() if own}
    compared = {data: against_reference(rows[data]) for data in by_name}
    head = ["system", "rate", *(f"{data}, test F1" for data in by_name)]
    head += [f"{data}, against {REFERENCE}" for data, (found, _) in compared.items() if found]
    lines = [*caption(settings, compared), "", *ruled(head)]
    for system in systems:
        own = [by_name[data].get(system.name) for data in by_name]
        if any(own):
            cells = [system.name, _rate([row for row in own if row]), *map(score, own)]
            cells += [
                _difference(found.get(system.name)) for found, _ in compared.values() if found
            ]
            lines.append(row_line(cells))
    said = [f"- `{one.name}`: {one.said}." for one in systems]
    lines += ["", *said, "", *_costs(settings, systems, costs)]
    if open_ends := unfinished(settings, records):
        lines += ["", "Not there yet:", "", *(f"- {line}" for line in open_ends)]
    return lines


def caption(
    settings: Settings, compared: Mapping[str, tuple[Mapping[str, Difference], list[int]]]
) -> list[str]:
    """What the figures are of, without which they mean nothing."""
    tests = [
        f"{data} seeds {', '.join(map(str, seeds))}"
        for data, (found, seeds) in compared.items()
        if found
    ]
    shown = [
        "# Every system on real weights",
        "",
        "A decoder of 135M parameters that was tuned to follow instructions, from weights of 4 "
        "bits (SmolLM2-135M-Instruct), and an encoder of 22M (MiniLM-L6). Trainings are short: "
        f"{settings.updates} updates of {settings.batch_size} sentences, on the same "
        f"{settings.sentences:,} sentences of train for everybody who is not said to see all of "
        "it; peers (CRF, spaCy) train until they converge on dev. Strict micro F1 on the whole "
        "test, in percent: mean and standard deviation over seeds, whose number stands behind. "
        f"The learning rate is the best of three on dev of {TUNED_ON} with seed 1 and kept for "
        "the other data sets; `<` marks one that is the smallest or largest of the three, `?` "
        "one chosen before all three were tried.",
    ]
    if tests:
        shown += [
            "",
            f"Differences to `{REFERENCE}` with {LEVEL:.0%} intervals, by a paired bootstrap over "
            f"seeds and sentences ({'; '.join(tests)}); bold where p < {_LITTLE:.2f}, "
            "Holm-corrected within a data set. A system without seeds is compared as the same "
            "under each.",
        ]
    return shown


def score(row: Row | None) -> str:
    if row is None:
        return ""
    spread = "" if row.deviation is None else f" ± {100 * row.deviation:.2f}"
    return f"{100 * row.mean:.2f}{spread} ({len(row.runs)})"


def _rate(rows: Sequence[Row]) -> str:
    row = rows[0]
    if row.lr == OWN:
        return "its own"
    mark = "?" if not row.settled else "<" if at_an_end(row.system, row.lr) else ""
    return f"{row.lr:g}{mark}"


def _difference(found: Difference | None) -> str:
    if found is None:
        return ""
    text = difference_text(found)
    return f"**{text}**" if found.p < _LITTLE else text


def _costs(
    settings: Settings, systems: Sequence[System], costs: Mapping[str, Any] | None
) -> list[str]:
    """The table of costs."""
    if costs is None:
        return ["Cost was not measured yet: `python -m benchmarks.study --models FOLDER --cost`."]
    known, machine = costs["systems"], costs["machine"]
    head = ["system", f"training, s for {settings.updates} updates", "tokens/s"]
    head += ["peak memory, MiB", "prediction, s for 1,000 words"]
    lines = [
        f"Cost on {costs['data']}, {machine['processor']}, {costs['settings']['threads']} "
        f"threads, medians of {costs['settings']['rounds']} rounds; peers to their end, once:",
        "",
        *ruled(head),
    ]
    for system in systems:
        if (own := known.get(system.name)) is not None:
            speed, peak = own.get("tokens_per_second"), own["peak_bytes"]
            cells = [
                system.name,
                f"{training_seconds(system, own, settings.updates):.0f}",
                "" if speed is None else f"{speed:,.0f}",
                "" if peak is None else f"{peak / 2**20:,.0f}",
                f"{own['seconds_per_1000_words']:.2f}",
            ]
            lines.append(row_line(cells))
    return lines


def training_seconds(system: System, own: Mapping[str, Any], updates: int) -> float:
    """Of all updates, those of a warm-up included, or of a peer to its end."""
    if system.peer is not None:
        return float(own["train_seconds"])
    before = system.warmup * own["warmup_update_seconds"] if system.warmup else 0.0
    return float(updates * own["update_seconds"] + before)


def ruled(head: Sequence[str]) -> list[str]:
    return [row_line(head), "|" + "---|" * len(head)]


def row_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _draw(
    rows: Sequence[Row], costs: Mapping[str, Any] | None, settings: Settings, path: Path
) -> None:
    """F1 against cost, of the systems that have both."""
    known = {} if costs is None else costs["systems"]
    points = {
        row.system.name: (
            100 * row.mean,
            training_seconds(row.system, known[row.system.name], settings.updates),
            float(known[row.system.name]["seconds_per_1000_words"]),
        )
        for row in rows
        if row.system.name in known
    }
    if costs is not None and points and has_matplotlib():
        draw_costs(points, costs["machine"], path.with_suffix(".png"), DATA)
