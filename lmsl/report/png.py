"""The same figures as PNG files: the page's SVG in its light colours, by resvg.

The extra ``plots`` brings it, and matplotlib, whose fonts it writes with: a machine may have none,
and then resvg leaves all text out without a word.
"""

import re
from importlib.resources import files
from pathlib import Path

from lmsl.errors import InputError
from lmsl.report.figures import Chart
from lmsl.report.svg import titled_svg
from lmsl.visible import harmless
from lmsl.wording import install

_ZOOM = 3


def check_plots() -> None:
    """Raises ``InputError`` where the extra is missing."""
    try:
        import matplotlib  # noqa: F401
        import resvg_py  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"--png: expected {error.name}, which is not installed; {install('plots')}, or leave "
            "--png out (the page draws its figures itself)"
        ) from error


def write_pngs(charts: list[Chart], folder: Path) -> list[Path]:
    """Write ``KEY.png`` for every figure.

    Raises:
        InputError: the extra is missing.
        OSError: the folder cannot be written to.
    """
    check_plots()
    import matplotlib
    import resvg_py

    folder.mkdir(parents=True, exist_ok=True)
    style, background = _style()
    for chart in charts:
        drawn = resvg_py.svg_to_bytes(
            # XML has no way to hold a control character.
            svg_string=harmless(str(titled_svg(chart))),
            style_sheet=style,
            background=background,
            zoom=_ZOOM,
            font_dirs=[str(Path(matplotlib.get_data_path()) / "fonts" / "ttf")],
            sans_serif_family="DejaVu Sans",
            monospace_family="DejaVu Sans Mono",
        )
        (folder / f"{chart.key}.png").write_bytes(drawn)
    return [folder / f"{chart.key}.png" for chart in charts]


def _style() -> tuple[str, str]:
    """The style sheet of the figures with colours in place of variables, which resvg does not
    know, and the colour of the page."""
    page = files("lmsl.report") / "page"
    rules, palette = (
        (page / name).read_text(encoding="utf-8") for name in ("figures.css", "colours.css")
    )
    # The light colours stand first.
    colours = dict(reversed(re.findall(r"--(\w+): (#\w+)", palette)))
    return re.sub(r"var\(--(\w+)\)", lambda m: colours[m[1]], rules), colours["page"]
