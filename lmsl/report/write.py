"""``lmsl report``: a sweep or a run as one HTML file to look at, and its figures as PNG.

The page holds everything it needs, style, script and figures, and forbids itself the network. What
that of a sweep says comes from ``lmsl.statistics.analysis``; that of one run is
``lmsl.report.one_run``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lmsl.data.write import check_written
from lmsl.errors import InputError
from lmsl.report.charts import charts
from lmsl.report.figures import Chart
from lmsl.report.html import PAGE, data_name, rendered, write_page, writing_to
from lmsl.report.one_run import run_page
from lmsl.report.oneshot import OneShotSection, oneshot_section
from lmsl.report.png import check_plots, write_pngs
from lmsl.report.sentences import MOST_WORDS, find_sentences
from lmsl.report.tables import rank_rows, string_table
from lmsl.run_directory.info import INFO
from lmsl.statistics.analysis import Analysis, analyse
from lmsl.statistics.foretold import TOP
from lmsl.statistics.words import verdict_lines
from lmsl.visible import harmless

REPORT = "report.html"


def write_report(
    folder: Path, output: Path | None, png: Path | None, say: Callable[[str], None]
) -> list[str]:
    """Write the page (``report.html`` in the folder by default); returns the verdict on it.

    Raises:
        InputError: no runs, runs that cannot be compared, a file that cannot be written, or PNGs
            asked for without the extra ``plots``.
    """
    if png is not None:
        check_plots()
    if output is not None:
        _check_output(output)
    if (folder / INFO).is_file():
        html, verdict, shown = run_page(folder)
    else:
        analysis = analyse(folder)
        drawn = figures(analysis)
        html, verdict, shown = page(analysis, drawn), verdict_lines(analysis), drawn.all
    say(write_page(output or folder / REPORT, html, "--output"))
    if png is not None:
        if not shown:
            raise InputError(f"--png {png}: the run has nothing to draw")
        with writing_to(f"--png {png}"):
            paths = write_pngs(shown, png)
        say(f"{png}: {', '.join(path.name for path in paths)}")
    return [harmless(line) for line in verdict]


def _check_output(output: Path) -> None:
    """Refuse to write over what is no page."""
    if output.is_file():
        try:
            check_written(output, over=PAGE)
        except InputError as error:
            raise InputError(f"--output {error}") from error


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is drawn of a sweep."""

    charts: list[Chart]
    oneshot: OneShotSection | None
    missing: list[str]
    """Lines on those that it cannot have."""

    @property
    def all(self) -> list[Chart]:
        return [*self.charts, *([self.oneshot.chart] if self.oneshot else [])]


def figures(analysis: Analysis) -> Figures:
    """Raises ``InputError`` for files of runs that cannot be drawn."""
    drawn, missing = charts(analysis)
    oneshot, unknown = oneshot_section(analysis)
    missing += [unknown] if unknown else []
    return Figures(charts=drawn, oneshot=oneshot, missing=missing)


def page(analysis: Analysis, drawn: Figures) -> str:
    """The HTML of a report on a sweep."""
    sweep = analysis.sweep
    return rendered(
        "sweep.html",
        title=sweep.folder.resolve().name,
        model=sweep.runs[0][0].info.base,
        data=data_name(sweep.runs[0][0].folder),
        strings=len(sweep.names),
        seeds=[str(seed) for seed in sweep.seeds],
        runs=len(sweep.names) * len(sweep.seeds),
        exploratory=analysis.exploratory,
        best=sweep.names[analysis.best],
        metric=sweep.metric,
        reported=analysis.reported,
        results=analysis.results,
        verdict=verdict_lines(analysis),
        table=string_table(analysis),
        ranks=rank_rows(analysis),
        figures=drawn.charts,
        oneshot=drawn.oneshot,
        top=TOP,
        missing=drawn.missing,
        examples=find_sentences(analysis),
        plain=sweep.plain,
        most_words=MOST_WORDS,
    )
