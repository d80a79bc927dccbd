"""Wheel and sdist: what is in them, and that lmsl works where the repository is not.

The clean environment has the libraries of this one by a line in a `.pth` file, as installing torch
takes minutes and a network; of lmsl it has the wheel alone.
"""

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.metadata import Metadata

import lmsl

ROOT = Path(__file__).parents[1]
PACKAGES = {"lmsl": ROOT / "lmsl", "lmsl_kernels": ROOT / "kernels" / "lmsl_kernels"}
CACHES = {line[:-1] for line in (ROOT / ".gitignore").read_text().splitlines() if line[-1:] == "/"}
INFO = f"lmsl-{lmsl.__version__}.dist-info"


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """What a build gave."""

    wheel: Path
    sdist: Path
    unpacked: Path
    """The sdist as a folder."""
    again: Path
    """The wheel that was built from it."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    folder = tmp_path_factory.mktemp("dist")
    hatchling(ROOT, folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    hatchling(unpacked, folder / "again", "-t", "wheel")
    (again,) = (folder / "again").glob("*.whl")
    return Distribution(wheel=wheel, sdist=sdist, unpacked=unpacked, again=again)


def hatchling(source: Path, target: Path, *flags: str) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(target), *flags]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def files(folder: Path) -> Iterator[Path]:
    """Files of a folder but what git ignores, relative to it."""
    for path in folder.rglob("*"):
        inner = path.relative_to(folder)
        if path.is_file() and not CACHES & set(inner.parts):
            yield inner


def test_the_wheel_holds_the_files_of_our_packages_and_nothing_else(built: Distribution) -> None:
    names = set(zipfile.ZipFile(built.wheel).namelist())
    ours = {f"{name}/{path}" for name, source in PACKAGES.items() for path in files(source)}
    about = {f"{INFO}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    assert names == ours | about | {f"{INFO}/licenses/LICENSE"}
    kinds = {".py", ".typed", ".json", ".safetensors", ".md", ".html", ".css", ".js"}
    assert {Path(name).suffix for name in ours} == kinds
    needed = {"lmsl/tiny/model.safetensors", "lmsl/tiny/tokenizer.json", "lmsl/py.typed"}
    needed |= {"lmsl/report/page/sweep.html", "lmsl_kernels/py.typed", "lmsl_kernels/api.py"}
    assert needed <= names
    size = sum(path.stat().st_size for path in (ROOT / "lmsl" / "tiny").iterdir())
    assert size <= 8_000_000


def test_the_sdist_holds_what_builds_and_tests_it(built: Distribution) -> None:
    found = set(files(built.unpacked))
    for folder in ("lmsl", "kernels", "tests", "docs", "scripts", "benchmarks"):
        missing = {Path(folder) / path for path in files(ROOT / folder)} - found
        assert not missing, missing
    top = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "train.py"}
    top |= {"constraints.txt", "CONTRIBUTING.md", "SECURITY.md", ".pre-commit-config.yaml"}
    assert {Path(name) for name in (*top, ".ci/run", ".github/workflows/ci.yml")} <= found
    assert not [path for path in built.unpacked.rglob("*") if path.name in CACHES]
    # Whatever lies around in a clone is not taken along; hatchling adds these two.
    added = {"PKG-INFO", ".gitignore"}
    folders = {"lmsl", "kernels", "tests", "docs", "scripts", "benchmarks", ".ci", ".github"}
    assert {path.parts[0] for path in found} == top | folders | added


def test_a_wheel_of_the_sdist_is_the_wheel_of_the_repository(built: Distribution) -> None:
    ours, theirs = (zipfile.ZipFile(path).infolist() for path in (built.wheel, built.again))
    assert {one.filename: one.CRC for one in ours} == {one.filename: one.CRC for one in theirs}


def test_the_metadata_is_whole(built: Distribution) -> None:
    content = zipfile.ZipFile(built.wheel).read(f"{INFO}/METADATA")
    found = Metadata.from_email(content, validate=True)
    assert (found.name, str(found.version)) == ("lmsl", lmsl.__version__)
    assert found.license_expression == "Apache-2.0" and found.license_files == ["LICENSE"]
    assert found.description_content_type == "text/markdown"
    assert found.description == (ROOT / "README.md").read_text(encoding="utf-8")
    assert found.author == "lmsl developers" and found.keywords and found.classifiers
    # No URL is known; one that leads nowhere would be worse than none.
    assert not found.project_urls and "Home-page" not in message_from_bytes(content)


@pytest.fixture(scope="module")
def installed(built: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The executables of an environment that has the wheel and the libraries."""
    home = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index"]
    subprocess.run([*pip, "--no-deps", "--quiet", str(built.wheel)], check=True)
    (own,) = home.glob("lib/python*/site-packages")
    # An editable lmsl of these folders is a .pth file, which is not read in a folder named so.
    libraries = [path for path in sys.path if Path(path).name == "site-packages"]
    (own / "libraries.pth").write_text("\n".join(libraries) + "\n", encoding="utf-8")
    return home / "bin"


def outside(folder: Path, *command: str | Path) -> str:
    """What a program prints that is run elsewhere and told of no path of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**kept, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_works_from_another_directory(installed: Path, tmp_path: Path) -> None:
    where = "import lmsl, lmsl_kernels as k; print(lmsl.__file__, k.__file__, sep='\\n')"
    for place in outside(tmp_path, installed / "python", "-c", where).splitlines():
        assert Path(place).is_relative_to(installed.parent), place
    command = installed / "lmsl"
    assert outside(tmp_path, command, "--version").startswith(f"lmsl {lmsl.__version__} (")
    gold = "Ada\tB-PER\nmet\tO\nBabbage\tB-PER\n"
    for name in ("train.conll", "dev.conll"):
        (tmp_path / name).write_text(gold, encoding="utf-8")
    (tmp_path / "new.txt").write_text("Ada Lovelace met Babbage.\n", encoding="utf-8")
    few = ("--data", ".", "--max-steps", "3", "--output", "runs/first")
    outside(tmp_path, command, "train", "--unmask", "0011", *few)
    # Both in one process, as most of the time goes into imports.
    used = "import sys; from lmsl.cli import main; sys.exit(main({}) or main({}))".format(
        ["predict", "runs/first", "new.txt"], ["evaluate", "runs/first", "dev.conll"]
    )
    answers, metrics = outside(tmp_path, installed / "python", "-c", used).split("\n", 1)
    assert json.loads(answers)["text"] == "Ada Lovelace met Babbage."
    assert json.loads(metrics)["gold"] == 2
    assert outside(tmp_path, command, "report", "runs")
    assert "</html>" in (tmp_path / "runs" / "report.html").read_text(encoding="utf-8")
