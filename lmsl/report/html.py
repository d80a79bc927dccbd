"""What all pages share: their templates, how they are written, and that no text in them acts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lmsl.data.documents import read_yaml
from lmsl.errors import InputError
from lmsl.report.svg import svg
from lmsl.run_directory.files import write_text
from lmsl.visible import harmless, visible
from lmsl.wording import quoted

PAGE = b"<!doctype html>"
"""How a page begins."""


def rendered(template: str, **values: Any) -> str:
    """A page as one HTML file."""
    environment = Environment(
        loader=PackageLoader("lmsl", "report/page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["count"] = "{:,}".format
    html = environment.get_template(template).render(svg=svg, **values)
    # Names of folders, models and types come from data like words; here none is forgotten.
    return harmless(html, kept="\n")


def write_page(target: Path, html: str, flag: str) -> str:
    """Write a page, its folder where that is missing; a line on it.

    Raises:
        InputError: it cannot be written there.
    """
    if target.is_dir():
        raise InputError(f"{flag} {target}: expected a file such as {target / 'report.html'}")
    with writing_to(f"{flag} {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, html)
    return f"{target}: {len(html.encode()) / 1e6:.1f} MB"


@contextmanager
def writing_to(place: str) -> Iterator[None]:
    """Turns what the system says against writing into one line for people."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{place}: cannot be written ({reason}); choose another place") from error


def data_name(run: Path) -> str:
    """What a run was trained on, by the settings it keeps; empty where they do not say."""
    path = run / "config.yaml"
    settings = read_yaml(path) if path.is_file() else {}
    if not isinstance(settings, dict):
        raise InputError(f"{path}: expected the settings of a run, got {quoted(settings)}")
    name = str(settings.get("data") or settings.get("train") or "")
    # Of a long path the end is enough to know it by.
    return "/".join(Path(name).parts[-2:]) if len(Path(name).parts) > 2 else name
