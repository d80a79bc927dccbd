"""The tables of a report as text: numbers formatted, nothing left to the page but their place."""

from dataclasses import dataclass
from statistics import fmean

from lmsl.statistics.analysis import Agreement, Analysis, SplitResult
from lmsl.statistics.compare import Difference
from lmsl.statistics.words import correlation_text, p_value, percent, signed


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A score with what stands behind it in small."""

    value: str
    detail: str = ""
    spread: bool = False
    """The detail is a deviation over seeds."""
    strong: bool = False
    """A difference that is more than noise."""


@dataclass(frozen=True, kw_only=True)
class StringRow:
    """One line of the table of strings."""

    name: str
    bits: str
    """Its bits, where it is nothing else."""
    role: str
    best: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class StringTable:
    heads: tuple[str, ...]
    rows: tuple[StringRow, ...]


def string_table(analysis: Analysis) -> StringTable:
    """Scores, intervals and paired tests of every string."""
    names, reported = analysis.sweep.names, analysis.reported
    metric = analysis.sweep.metric
    heads = [f"dev {metric}"]
    if reported == "test":
        heads.append(f"test {metric}")
    heads.append(f"95 % interval, {reported}")
    if analysis.causal not in (None, analysis.best) and len(names) > 1:
        heads.append(f"against {names[analysis.causal]}")
    if len(names) > 1:
        heads += [f"against {names[analysis.best]}", "may be best on"]
    rows = tuple(_row(analysis, index) for index in range(len(names)))
    return StringTable(heads=(*heads, "seconds"), rows=rows)


def _row(analysis: Analysis, index: int) -> StringRow:
    sweep, result = analysis.sweep, analysis.results[analysis.reported]
    cells = [_score(analysis.results[split], index) for split in analysis.results]
    cells.append(Cell(value=_interval(result, index)))
    if len(sweep.names) > 1:
        # Where the causal string is the best, one column says it.
        if result.against_causal is not None and analysis.causal != analysis.best:
            cells.append(_difference(result.against_causal[index]))
        cells.append(_difference(result.against_best[index]))
        tied = [split for split, each in analysis.results.items() if each.tied[index]]
        cells.append(Cell(value=", ".join(tied) or "\u2013"))
    seconds = fmean(float(run.metrics["train_seconds"]) for run in sweep.runs[index])
    cells.append(Cell(value=f"{seconds:,.0f}"))
    name = sweep.names[index]
    roles = {"causal": analysis.causal, "full": analysis.full, "picked on dev": analysis.best}
    return StringRow(
        name=name,
        bits=name if set(name) <= {"0", "1"} and len(name) <= 12 else "",
        role=", ".join(role for role, which in roles.items() if which == index),
        best=index == analysis.best,
        cells=tuple(cells),
    )


def _score(result: SplitResult, index: int) -> Cell:
    spread = result.deviations
    detail = "" if spread is None else f"\u00b1 {percent(spread[index])}"
    return Cell(value=percent(result.means[index]), detail=detail, spread=True)


def _interval(result: SplitResult, index: int) -> str:
    found = result.interval(index)
    return "\u2013" if found is None else f"{percent(found[0])} to {percent(found[1])}"


def _difference(difference: Difference | None) -> Cell:
    if difference is None:
        return Cell(value="\u2013")
    text = p_value(difference.p)
    return Cell(value=signed(difference.value), detail=text, strong=difference.p < 0.05)


def rank_rows(analysis: Analysis) -> list[tuple[str, ...]]:
    """Which strings, how many, Spearman and Kendall with their intervals."""

    def row(name: str, found: Agreement) -> tuple[str, ...]:
        rho, tau = correlation_text(found.spearman), correlation_text(found.kendall)
        return name, str(found.strings), rho, tau

    found = {
        "all strings": analysis.agreement,
        "without the causal ones": analysis.agreement_unmasked,
    }
    return [row(name, each) for name, each in found.items() if each and each.strings > 2]
