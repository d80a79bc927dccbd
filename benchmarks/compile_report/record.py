"""The record of a whole compilation: what it says, and whether it still holds.

``benchmarks/results/compile_<triton version>.json`` has a line for every case (see ``cases``) of
the architectures and head dims it declares, of some only for the hardest variant of every entry.
A line begins with the digest of all that the result depends on, so a kernel that was changed since
shows; one that was not need not be compiled again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.compile_report.cases import Case, Scope, cases_of
from benchmarks.compile_report.offline import Compiled
from benchmarks.shared.record import RESULTS
from lmsl.run_directory.files import write_whole

COLUMNS = ("digest", "registers", "spills", "stack", "shared", "tensor", "matrix")


@dataclass(kw_only=True)
class Record:
    """What one version of Triton makes of all cases."""

    triton: str
    scopes: dict[str, dict[int, Scope]] = field(default_factory=dict)
    """What it covers completely, by architecture and head dim."""
    lines: dict[str, list[Any]] = field(default_factory=dict)
    """By the name of a case, what ``COLUMNS`` says."""

    def result(self, case: Case) -> Compiled | None:
        """What is recorded of a case, whether it holds or not."""
        line = self.lines.get(case.name)
        return None if line is None else Compiled(**dict(zip(COLUMNS[1:], line[1:], strict=True)))

    def add(self, case: Case, found: Compiled) -> None:
        """Write down a result."""
        assert not found.error, "only what compiles can be recorded"
        self.lines[case.name] = [case.digest, *(getattr(found, name) for name in COLUMNS[1:])]


def record_path(triton: str) -> Path:
    """Where the record of a version lies."""
    return RESULTS / f"compile_{triton}.json"


def read_record(path: Path) -> Record:
    """What ``write_record`` wrote."""
    fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if fields["columns"] != list(COLUMNS):
        raise ValueError(f"{path}: columns must be {list(COLUMNS)}, got {fields['columns']}")
    scopes = {
        name: {int(head_dim): scope for head_dim, scope in of.items()}
        for name, of in fields["scopes"].items()
    }
    return Record(triton=fields["triton"], scopes=scopes, lines=fields["cases"])


def write_record(path: Path, record: Record) -> None:
    """JSON with one case a line, whole or not at all."""
    names = sorted(record.lines)
    lines = [f"    {json.dumps(name)}: {json.dumps(record.lines[name])}" for name in names]
    head = {"triton": record.triton, "scopes": record.scopes, "columns": list(COLUMNS)}
    text = json.dumps(head, indent=2)[:-2] + ',\n  "cases": {\n' + ",\n".join(lines) + "\n  }\n}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())


def problems(record: Record, cases: Sequence[Case]) -> list[str]:
    """What is wrong with a record: cases that are missing, stale, faulty, or of no entry."""
    found = []
    for case in cases:
        result = record.result(case)
        if result is None:
            found.append(f"missing: {case.name}")
        elif record.lines[case.name][0] != case.digest:
            found.append(f"stale, its kernel or tiles have changed: {case.name}")
        elif fault := case.fault(result):
            found.append(f"{case.name}: {fault}")
    wanted = {case.name for case in cases}
    return found + [f"of no table entry: {name}" for name in sorted(record.lines.keys() - wanted)]


def cases_in_scope(record: Record) -> list[Case]:
    """All cases that a record has to have."""
    return [
        case
        for name, scopes in record.scopes.items()
        for head_dim, scope in scopes.items()
        for case in cases_of(name, [head_dim], scope)
    ]
