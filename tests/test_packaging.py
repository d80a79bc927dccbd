"""The folder `kernels/` is a container, not a package: transformers imports one of that name."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
BUILD = (
    "from transformers import LlamaConfig, LlamaModel;"
    "LlamaModel(LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1,"
    "num_attention_heads=1, vocab_size=8))"
)


def test_kernels_is_no_package():
    assert not (ROOT / "kernels" / "__init__.py").exists()
    assert not list((ROOT / "tests").rglob("kernels"))


def test_another_package_called_kernels_wins(tmp_path):
    stub = tmp_path / "kernels"
    stub.mkdir()
    (stub / "__init__.py").write_text("WHO = 'the stub'\n")
    code = "import sys; sys.path.append(sys.argv[1]); import kernels; print(kernels.WHO)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "the stub"


def test_transformers_builds_models_from_the_root_of_the_repository():
    command = [sys.executable, "-c", BUILD]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_every_package_has_one_version_within_its_range():
    """One that is missing would be the newest on the day of the installation."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    fixed = {}
    for line in lines:
        # No local version: torch 2.13.0+cpu could not be installed for CUDA.
        assert re.fullmatch(r"[\w.-]+==[\w.]+", line), line
        name, version = line.split("==")
        fixed[canonicalize_name(name)] = version
    assert len(fixed) == len(lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    left = project["dependencies"] + extras["dev"]
    seen = set()
    while left:
        one = Requirement(left.pop())
        name = canonicalize_name(one.name)
        if name == project["name"]:
            left += [line for extra in one.extras for line in extras[extra]]
        elif one.marker is None or one.marker.evaluate({"extra": ""}):
            assert name in fixed and one.specifier.contains(fixed[name]), one
            left += requires(name) or [] if name not in seen else []
            seen.add(name)
