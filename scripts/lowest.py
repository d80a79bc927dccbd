"""Try the lower bounds of pyproject.toml: install them all, then run the tests on them.

    python scripts/lowest.py            # the tests where a release of a library shows first
    python scripts/lowest.py --all      # the whole suite

torch stays what an installation without a bound takes, unless it is named (``--torch 2.11.0``):
its older releases bring gigabytes of CUDA. A release that its authors have withdrawn is an error.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv-lowest"
EXTRAS = ("dev", "plots", "datasets", "gguf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", help="this release of torch too")
    parser.add_argument("--all", action="store_true", help="the whole suite")
    options = parser.parse_args()
    pins = lowest(options.torch)
    print("\n".join(pins))
    venv.create(FOLDER, with_pip=True, clear=True)
    python = str(FOLDER / "bin" / "python")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins) + "\n")
        file.flush()
        install = [python, "-m", "pip", "--disable-pip-version-check", "install", "-c", file.name]
        told = subprocess.run(
            [*install, "--editable", f"{ROOT}[{','.join(EXTRAS)}]"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    sys.stderr.write(told.stderr)
    if told.returncode or "yanked" in told.stderr:
        sys.exit("error: these bounds cannot be installed; raise the one that is named")
    chosen = [] if options.all else ["-m", "drift and not slow"]
    run = [python, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", *chosen]
    sys.exit(subprocess.run(run, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode)


def lowest(torch: str | None = None) -> list[str]:
    """``name==lower bound`` of everything that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in EXTRAS:
        wanted += project["optional-dependencies"][extra]
    pins = []
    for requirement in wanted:
        found = re.match(r"([\w.-]+)(?:\[[\w,]+\])?\s*>=([\w.]+)", requirement)
        if found is not None and (found[1] != "torch" or torch is not None):
            pins.append(f"{found[1]}=={found[2] if found[1] != 'torch' else torch}")
    return pins


if __name__ == "__main__":
    main()
