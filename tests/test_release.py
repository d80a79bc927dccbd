"""What a release says of itself: one version, how to cite it, what is run on a change of it."""

import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from packaging.version import Version

import lmsl

ROOT = Path(__file__).parents[1]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def document(name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(text(name))
    return found


def linters() -> list[str]:
    """The commands of `.ci/run` that look at the code without running it."""
    return re.findall(r"^(\.venv/bin/(?!python|pip).+)$", text(".ci/run"), re.MULTILINE)


def test_everything_names_one_version() -> None:
    version, date_of = re.findall(r"^## \[(.+)\] - (.+)$", text("CHANGELOG.md"), re.MULTILINE)[0]
    citation = document("CITATION.cff")
    assert version == citation["version"] == lmsl.__version__ == str(Version(lmsl.__version__))
    # Who cites a release needs the day on which the changelog says that it came out.
    if date_of == "Unreleased":
        assert "date-released" not in citation
    else:
        assert date.fromisoformat(date_of) == citation["date-released"]
    project = tomllib.loads(text("pyproject.toml"))["project"]
    assert project["dynamic"] == ["version"] and "version" not in project


def test_the_changelog_keeps_its_form() -> None:
    lines = text("CHANGELOG.md").splitlines()
    assert lines[0] == "# Changelog"
    kinds = {line.removeprefix("### ") for line in lines if line.startswith("### ")}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    versions = [Version(line.split("]")[0][4:]) for line in lines if line.startswith("## ")]
    assert versions and versions == sorted(versions, reverse=True)


def test_the_citation_is_what_its_format_asks_for() -> None:
    """The entries of CFF 1.2 that are used here, with their types."""
    found = document("CITATION.cff")
    assert found["cff-version"] == "1.2.0" and found["type"] == "software"
    assert all(isinstance(found[name], str) for name in ("message", "title", "version", "license"))
    assert found["authors"] == [{"name": "lmsl developers"}]
    (paper,) = found["references"]
    assert paper["type"] == "conference-paper" and paper["year"] == 2024
    assert [author["family-names"] for author in paper["authors"]] == ["Dukić", "Šnajder"]
    assert re.fullmatch(r"10\.\d{4,9}/\S+", paper["doi"])
    assert [one["value"] for one in paper["identifiers"]] == ["arXiv:2401.14556"]


def test_hooks_are_the_linters_of_ci_and_download_nothing() -> None:
    (repository,) = document(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert [hook["entry"] for hook in repository["hooks"]] == linters() and len(linters()) == 4
    for hook in repository["hooks"]:
        assert hook["language"] == "system" and hook["pass_filenames"] is False


def test_the_workflow_runs_ci_and_nothing_else() -> None:
    workflow = document(".github/workflows/ci.yml")
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert [re.sub(r"@v\d+$", "", name) for name in used] == [
        "actions/checkout",
        "actions/setup-python",
    ]
    python = job["steps"][1]["with"]["python-version"]
    assert python == "3.11" and tomllib.loads(text("pyproject.toml"))["project"][
        "requires-python"
    ].endswith(python)


def test_contributors_are_told_the_test_command_of_the_readme() -> None:
    install, test = text("README.md").split("```bash\n")[1].splitlines()[1].split(" && ", 2)[1:]
    told = text("CONTRIBUTING.md")
    assert install in told and test in told
    for command in linters():
        assert f"`{command.removeprefix('.venv/bin/').removesuffix(' .')}`" in told
