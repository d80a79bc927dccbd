"""Tables of what is done, in Markdown for people, and a picture: F1 by tokens of pre-training."""

from collections.abc import Mapping, Sequence

from benchmarks.shared.plots import draw_growth, has_matplotlib
from benchmarks.small_scale.plan import (
    MODES,
    Mode,
    cell_of,
    checkpoint_cell,
    checkpoints,
    fine_tunings,
    system_of,
)
from benchmarks.small_scale.pretraining import LAYERS, OBJECTIVES
from benchmarks.small_scale.settings import Settings
from benchmarks.small_scale.text import BLOCK
from benchmarks.study.cells import Records, done
from benchmarks.study.compare import Row
from benchmarks.study.records import read_records
from benchmarks.study.table import row_line, ruled, score
from lmsl.errors import InputError
from lmsl.run_directory.files import write_text

Rows = Mapping[int, Mapping[Mode, Row]]
"""By updates of pre-training."""


def write_table(settings: Settings) -> int:
    """Write the table and, where matplotlib is there, the picture, beside the record."""
    records = read_records(settings.record, settings.same)
    tables = {data: rows_of(data, settings, records) for data in settings.datasets}
    found = [row for rows in tables.values() for own in rows.values() for row in own.values()]
    if not found:
        raise InputError(f"--record {settings.record}: expected cells that are done, found none")
    path = settings.record.with_suffix(".md")
    text = "\n".join(markdown(settings, tables, records)) + "\n"
    write_text(path, text)
    print(text)
    print(f"written: {path}")
    if has_matplotlib():
        newest = max((one for row in found for one in row.runs.values()), key=_date)
        draw_growth(curves(settings, tables), newest["machine"], path.with_suffix(".png"))
    return 0


def _date(record: Mapping[str, Mapping[str, str]]) -> str:
    return record["machine"]["date"]


def rows_of(data: str, settings: Settings, records: Records) -> Rows:
    """What is done on a data set; the initial model counts for both objectives."""
    found: dict[int, dict[Mode, Row]] = {}
    for updates in checkpoints(settings):
        own = {}
        for mode in MODES:
            system = system_of(mode, updates, settings)
            cells = {seed: cell_of(data, system, seed) for seed in range(1, settings.seeds + 1)}
            runs = {
                seed: records[cell]
                for seed, cell in cells.items()
                if cell in records and done(records[cell])
            }
            if runs:
                own[mode] = Row(system=system, lr=settings.lr, settled=True, runs=runs)
        if own:
            found[updates] = own
    return found


def markdown(settings: Settings, tables: Mapping[str, Rows], records: Records) -> list[str]:
    """The lines of the tables."""
    lines = [*caption(settings), *_losses(settings, records)]
    for data, rows in tables.items():
        if not rows:
            continue
        lines += ["", f"## {data}", "", *ruled(["tokens", *(mode.name for mode in MODES)])]
        for updates, own in rows.items():
            scores = [score(own.get(mode)) for mode in MODES]
            lines.append(row_line([_tokens(updates, settings), *scores]))
    plan = fine_tunings(settings)
    failed = [cell for cell in plan if cell in records and not done(records[cell])]
    lacking = [cell for cell in plan if cell not in records]
    if failed or lacking:
        lines += ["", f"Not there yet: {len(lacking)} of {len(plan)} fine-tunings."]
        lines += [f"- failed: {cell.line()}: {records[cell]['reason']}" for cell in failed]
    return lines


def caption(settings: Settings) -> list[str]:
    """What the figures are of, without which they mean nothing."""
    tokens = settings.blocks * BLOCK
    return [
        "# Small scale",
        "",
        f"A RoBERTa of {LAYERS} layers, {settings.width} wide, pre-trained from nothing on "
        f"{_tokens(checkpoints(settings)[-1], settings)} tokens of novels, {tokens:,} an update, "
        f"peak rate {settings.pretraining_lr:g}: once to find masked words (Encoder), once to "
        "predict the next one (Decoder), from the same initial weights on the same batches. Each "
        f"model is then fine-tuned, all weights, {settings.updates} updates of "
        f"{settings.batch_size} sentences, peak rate {settings.lr:g}, on {settings.sentences:,} "
        f"sentences of train, and scored on at most {settings.test_sentences:,} of test: strict "
        "micro F1 in percent, mean and standard deviation over seeds, whose number stands behind. "
        "Decoders are masked (`0000`), unmasked (`1111`), or unmasked in the upper half (`0011`). "
        "With 0 tokens Encoder and Decoder unmasked are one training.",
    ]


def _losses(settings: Settings, records: Records) -> list[str]:
    """The table of pre-training, where some of it is done."""
    lines = []
    for updates in checkpoints(settings):
        cells = [checkpoint_cell(objective, updates, settings) for objective in OBJECTIVES]
        losses = [
            f"{records[cell]['held_out_loss']:.3f}" if cell in records else "" for cell in cells
        ]
        if any(losses):
            lines.append(row_line([_tokens(updates, settings), *losses]))
    head = ruled(["tokens", *(f"{objective} words, held-out loss" for objective in OBJECTIVES)])
    return ["", "## Pre-training", "", *head, *lines] if lines else []


def _tokens(updates: int, settings: Settings) -> str:
    return f"{updates * settings.blocks * BLOCK:,}"


def curves(
    settings: Settings, tables: Mapping[str, Rows]
) -> dict[str, dict[str, Sequence[tuple[int, float, float]]]]:
    """Points of tokens, mean F1 and its deviation in percent, by data and mode."""
    found: dict[str, dict[str, Sequence[tuple[int, float, float]]]] = {}
    for data, rows in tables.items():
        if rows:
            found[data] = {
                mode.name: [
                    (
                        updates * settings.blocks * BLOCK,
                        100 * own[mode].mean,
                        100 * (own[mode].deviation or 0.0),
                    )
                    for updates, own in rows.items()
                    if mode in own
                ]
                for mode in MODES
            }
    return found
