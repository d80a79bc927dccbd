"""Compile the kernels of every table entry without a GPU and say what came out.

    python -m benchmarks.compile_report --arch sm_90          # registers, spills, shared memory
    python -m benchmarks.compile_report --record              # renew the committed record
    python -m benchmarks.compile_report --record --arch sm_80 --head-dim 64 --variants all
    python -m benchmarks.compile_report --check               # does the record still hold?
    python -m benchmarks.compile_report --sample 24           # compile some of it again

A spill, stack, more shared or tensor memory than there is, or no matrix instruction is a fault;
per-sequence masks, float32 and head dims between the classes may spill. The exit status is 1 where
there is a fault. The record is benchmarks/results/compile_<triton version>.json, and says of which
entries it has the hardest variant and of which all; only what changed since is compiled again.
"""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from contextlib import closing

from benchmarks.compile_report.cases import Case, Scope, cases_of
from benchmarks.compile_report.offline import SHARED_LIMIT, Compiled
from benchmarks.compile_report.pool import Compiler
from benchmarks.compile_report.record import (
    Record,
    cases_in_scope,
    problems,
    read_record,
    record_path,
    write_record,
)
from benchmarks.shared.record import RESULTS, table
from lmsl_kernels.flash.tuning import ARCHITECTURES, HEAD_DIMS

HEAD = ("case", "tiles", "warps", "registers", "spills", "stack", "shared", "limit", "matrix")


def compile_head_dim(
    architecture: str, head_dim: int, scope: Scope, compiler: Compiler, record: Record
) -> list[tuple[Case, Compiled]]:
    """The cases of a head dim, compiled where the record does not have them already.

    Where the record has all variants it goes on having all, whatever is asked for. What compiles
    goes into the record, and what the record has of no entry any more comes out.
    """
    scopes = record.scopes.setdefault(architecture, {})
    scope = scopes[head_dim] = "all" if scopes.get(head_dim) == "all" else scope
    cases = cases_of(architecture, [head_dim], scope)
    for name in record.lines.keys() - {case.name for case in cases}:
        if name.split()[0:3:2] == [architecture, str(head_dim)]:
            del record.lines[name]
    fresh = [case for case in cases if record.lines.get(case.name, [None])[0] != case.digest]
    results = dict(zip(fresh, compiler.compile_all(fresh), strict=True))
    for case, found in results.items():
        if not found.error:
            record.add(case, found)
    recorded = ((case, results.get(case) or record.result(case)) for case in cases)
    return [(case, found) for case, found in recorded if found is not None]


def check_records() -> int:
    """Say what is wrong with the committed records; the exit status."""
    paths = sorted(RESULTS.glob("compile_*.json"))
    faults = [] if paths else [f"no record in {RESULTS}: --record makes one"]
    for path in paths:
        record = read_record(path)
        cases = cases_in_scope(record)
        print(f"{path.name}: {len(cases)} cases")
        faults += problems(record, cases)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


def recompile(number: int, compiler: Compiler) -> int:
    """Compile a sample again and compare it with the record of this Triton, if there is one."""
    path = record_path(compiler.version)
    record = read_record(path) if path.is_file() else Record(triton=compiler.version)
    every = [case for name in ARCHITECTURES for case in cases_of(name)]
    cases = random.Random(1).sample(cases_in_scope(record) or every, number)
    print(f"triton {compiler.version}, against {path.name if record.lines else 'no record'}")
    bad = 0
    for case, found in zip(cases, compiler.compile_all(cases), strict=True):
        fault, recorded = case.fault(found), record.result(case)
        if fault is None and recorded not in (None, found):
            fault = f"the record says {recorded}"
        bad += fault is not None
        print(f"{'FAULT' if fault else 'ok':5} {case.name}: {fault or found}", flush=True)
    return 1 if bad else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    options = _options(arguments)
    if options.check:
        return check_records()
    jobs, folder, remember = options.jobs, options.other_triton, not options.sample
    with closing(Compiler(jobs=jobs, python_path=folder, remember=remember)) as compiler:
        if options.sample:
            return recompile(options.sample, compiler)
        return _compile(options, compiler)


def _compile(options: argparse.Namespace, compiler: Compiler) -> int:
    path = record_path(compiler.version)
    record = Record(triton=compiler.version)
    if path.is_file() and options.record:
        record = read_record(path)
    faults = 0
    for architecture in options.arch or ARCHITECTURES:
        began, results = time.monotonic(), []
        for head_dim in options.head_dim or HEAD_DIMS:
            scope = options.variants
            results += compile_head_dim(architecture, head_dim, scope, compiler, record)
            if options.record:
                write_record(path, record)
        if not options.record:
            print(table(HEAD, [_row(case, found) for case, found in results]))
        bad = [(case.name, fault) for case, found in results if (fault := case.fault(found))]
        for name, fault in bad:
            print(f"FAULT {name}: {fault}")
        faults += len(bad)
        print(
            f"{architecture}, triton {compiler.version}: {len(results)} cases, "
            f"{len(bad)} faults, {time.monotonic() - began:.0f} s",
            flush=True,
        )
    return 1 if faults else 0


def _row(case: Case, found: Compiled) -> list[str]:
    tiles = f"{case.entry.rows}x{case.entry.keys}"
    limit = SHARED_LIMIT[case.architecture]
    numbers = (case.entry.warps, found.registers, found.spills, found.stack, found.shared, limit)
    return [case.name, tiles, *map(str, numbers), found.matrix]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", action="append", choices=ARCHITECTURES, default=[])
    parser.add_argument("--head-dim", action="append", type=int, choices=HEAD_DIMS, default=[])
    parser.add_argument("--variants", choices=("all", "hardest"), default="hardest")
    parser.add_argument("--record", action="store_true", help="renew the committed record")
    parser.add_argument("--check", action="store_true", help="compile nothing, check the records")
    parser.add_argument("--sample", type=int, metavar="N", help="compile N recorded cases again")
    parser.add_argument("--jobs", type=int, default=1, help="compilations at a time")
    parser.add_argument("--other-triton", metavar="FOLDER", help="a folder with another Triton")
    options = parser.parse_args(arguments)
    if not (options.arch or options.record or options.check or options.sample):
        parser.error("one of --arch, --record, --check and --sample has to be given")
    return options


if __name__ == "__main__":
    sys.exit(main())
