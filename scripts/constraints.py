"""Renew ``constraints.txt``: the exact version of everything that runs and tests `lmsl`.

    python scripts/constraints.py

installs the newest releases that the ranges of pyproject.toml allow into a fresh environment and
writes down what is there. Run the tests with it before it is committed.
"""

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "constraints.txt"
HEADER = """\
# Everything that runs and tests lmsl, exactly; made by `python scripts/constraints.py`.
# triton is the release that torch's CUDA builds for Linux ask for.
"""
# CUDA builds of torch ask for one release of triton, the CPU build asks for none, so there the
# newest one would be written down and no CUDA build could be installed beside it. From the
# metadata of torch's Linux wheels.
TRITON_OF_TORCH = {"2.13.0": "3.7.1"}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        versions = newest(Path(folder))
    torch = versions["torch"]
    if torch not in TRITON_OF_TORCH:
        sys.exit(f"error: torch {torch} is new: add its triton to TRITON_OF_TORCH")
    versions["triton"] = TRITON_OF_TORCH[torch]
    lines = [f"{name}=={versions[name]}\n" for name in sorted(versions, key=str.lower)]
    FILE.write_text(HEADER + "".join(lines), encoding="utf-8")


def newest(folder: Path) -> dict[str, str]:
    """The version of each package in a new environment of ours, without those of a build."""
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--editable", f"{ROOT}[dev]"], check=True)
    command = [*pip, "freeze", "--all", "--exclude-editable"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"^([\w.-]+)==([^+\s]+)", listed, re.MULTILINE)
    # What a CUDA build of torch brings along it asks for exactly, and other builds lack.
    own = r"(pip|nvidia-.*|cuda-.*)"
    return {name: version for name, version in found if not re.fullmatch(own, name)}


if __name__ == "__main__":
    main()
