"""``lmsl report``: a sweep as one HTML file to look at, and its figures as PNG.

The page holds everything it needs, style, script and figures, and forbids itself the network. It
is put together here and nowhere else; what it says comes from ``lmsl.statistics.analysis``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from lmsl.data.documents import read_yaml
from lmsl.errors import InputError
from lmsl.report.charts import charts
from lmsl.report.figures import Chart
from lmsl.report.oneshot import OneShotSection, oneshot_section
from lmsl.report.png import check_plots, write_pngs
from lmsl.report.sentences import MOST_WORDS, find_sentences
from lmsl.report.svg import svg
from lmsl.report.tables import rank_rows, string_table
from lmsl.run_directory.files import write_text
from lmsl.statistics.analysis import Analysis, analyse
from lmsl.statistics.foretold import TOP
from lmsl.statistics.words import verdict_lines
from lmsl.wording import quoted

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
    analysis = analyse(folder)
    drawn = figures(analysis)
    target = output or folder / REPORT
    if target.is_dir():
        raise InputError(f"--output {target}: expected a file such as {target / REPORT}")
    html = page(analysis, drawn)
    with _writing(f"--output {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, html)
    say(f"{target}: {len(html.encode()) / 1e6:.1f} MB")
    if png is not None:
        with _writing(f"--png {png}"):
            paths = write_pngs(drawn.all, png)
        say(f"{png}: {', '.join(path.name for path in paths)}")
    return verdict_lines(analysis)


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
    """The HTML of a report."""
    environment = Environment(
        loader=PackageLoader("lmsl", "report/page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sweep = analysis.sweep
    return environment.get_template("page.html").render(
        title=sweep.folder.resolve().name,
        model=sweep.runs[0][0].info.base,
        data=_data_name(sweep.runs[0][0].folder),
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
        svg=svg,
        oneshot=drawn.oneshot,
        top=TOP,
        missing=drawn.missing,
        examples=find_sentences(analysis),
        plain=sweep.plain,
        most_words=MOST_WORDS,
    )


@contextmanager
def _writing(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{place}: cannot be written ({reason}); choose another place") from error


def _data_name(run: Path) -> str:
    """What the run was trained on, by the settings it keeps; empty where they do not say."""
    path = run / "config.yaml"
    settings = read_yaml(path) if path.is_file() else {}
    if not isinstance(settings, dict):
        raise InputError(f"{path}: expected the settings of a run, got {quoted(settings)}")
    name = str(settings.get("data") or settings.get("train") or "")
    # Of a long path the end is enough to know it by.
    return "/".join(Path(name).parts[-2:]) if len(Path(name).parts) > 2 else name
