"""What the documents for newcomers name has to be there."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = re.compile(r"`((?:lmsl|kernels|tests|benchmarks|docs|scripts)/[\w./]*|[\w.]+/)`")


@pytest.mark.parametrize(
    "document",
    [
        *("README.md", "kernels/README.md", "benchmarks/README.md"),
        *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
    ],
)
def test_every_file_that_a_document_names_is_there(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = {place for place in PLACES.findall(text) if "/" in place.rstrip("/")}
    least = 15 if document.endswith("architecture.md") else 0
    assert len(named) >= least, "nothing was found to look for"
    gone = sorted(place for place in named if not (ROOT / place).exists())
    assert not gone, f"{document} names what is not there: {gone}"


def test_the_picture_shows_every_wing() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    wings = {path.parent.name for path in (ROOT / "lmsl").glob("*/__init__.py")}
    missing = sorted(wing for wing in wings if f'["{wing}/ ' not in text)
    assert not missing, f"docs/architecture.md shows no wing {missing}"


LINK = re.compile(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)")


@pytest.mark.parametrize(
    "document",
    sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md")),
    ids=lambda p: p.name,
)
def test_every_link_leads_somewhere(document: Path) -> None:
    links = [
        link for link in LINK.findall(document.read_text(encoding="utf-8")) if "://" not in link
    ]
    gone = [link for link in links if not (document.parent / link).exists()]
    assert not gone, f"{document.name} links to what is not there: {gone}"


def test_the_readme_leads_to_every_page() -> None:
    links = LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    missing = [
        page.name for page in (ROOT / "docs").glob("*.md") if f"docs/{page.name}" not in links
    ]
    assert not missing, f"README.md leads to no {missing}"


EXTRA = re.compile(r"""install(?: -\S+)* (?:-c \S+ )?-e ['"]\.\[(\w+)\]['"]|install\('(\w+)'\)""")


def test_extras_are_installed_from_the_clone_and_are_there() -> None:
    """The package is on no index: `pip install lmsl[plots]` finds nothing, or another's."""
    texts = {path: path.read_text(encoding="utf-8") for path in told_to_users()}
    wrong = [str(path) for path, text in texts.items() if re.search(r"install \S?lmsl\b", text)]
    assert not wrong, f"not from the clone: {wrong}"
    named = {name for text in texts.values() for pair in EXTRA.findall(text) for name in pair}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"gguf", "plots", "parsers", "datasets", "dev"} <= named - {""}
    assert named - {""} <= project["optional-dependencies"].keys()


def told_to_users() -> list[Path]:
    places = ("lmsl/**/*.py", "benchmarks/**/*.py", "*/*.md", "*.md", "docs/*.ipynb")
    return [path for place in places for path in sorted(ROOT.glob(place))]
