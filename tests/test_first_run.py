"""The notebook for newcomers: its cells run one after another and do what its text says.

They are executed in one namespace by Python alone: a kernel would bring twenty packages and prove
no more of what is ours.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "first_run.ipynb"


def notebook() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return found


def cells(kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook()["cells"] if cell["cell_type"] == kind]


def test_every_cell_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, source in enumerate(cells("code"), start=1):
        exec(compile(source, f"code cell {number}", "exec"), namespace)
    out = capsys.readouterr().out
    assert "0000 [False, False, False, False, False, False, False, False]" in out
    assert "0011 [False, False, False, False, True, True, True, True]" in out
    assert "test: first-run/data/test.conll\n  24 sentences, 160 words, 48 entities" in out
    causal, unmasked = (float(f1) for f1 in re.findall(r"F1 (\d\.\d\d) of 48 entities", out))
    assert abs(causal - 2 / 3) < 0.12 and unmasked > causal + 0.12, out
    assert re.search(r"^ *\d+-\d+ +(PER|LOC|ORG) \d\.\d\d \w", out, re.MULTILINE), out
    for named in re.findall(r"`(first-run/[\w./]+)`", "\n".join(cells("markdown"))):
        assert (tmp_path / named).exists(), named
    assert (tmp_path / "first-run/runs/report.html").stat().st_size > 10_000
    assert [line.get_label() for line in namespace["axes"].lines] == ["0000", "0011"]
    assert all(len(line.get_xdata()) == 80 for line in namespace["axes"].lines)
    namespace["plt"].close("all")


def test_it_is_a_notebook_without_traces_of_a_machine() -> None:
    found = notebook()
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    assert set(found) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    names = [cell["id"] for cell in found["cells"]]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[\w-]{1,64}", n) for n in names)
    for cell in found["cells"]:
        kinds = {"code": {"execution_count", "outputs"}, "markdown": set[str]()}
        expected = {"cell_type", "id", "metadata", "source"} | kinds[cell["cell_type"]]
        assert set(cell) == expected and cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    assert found["metadata"]["language_info"] == {"name": "python"}
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(home|work|tmp|root|Users|mnt)/|[A-Z]:\\\\|localhost", text)
