"""Compile the kernels of every table entry without a GPU and say what came out.

    python -m benchmarks.compile_report --arch sm_90          # registers, spills, shared memory
    python -m benchmarks.compile_report --record              # renew the committed record
    python -m benchmarks.compile_report --record --arch sm_80 --head-dim 64 --variants all
    python -m benchmarks.compile_report --check               # does the record still hold?
    python -m benchmarks.compile_report --sample 24 --seed 1  # compile some of it again

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
from itertools import zip_longest

from benchmarks.compile_report.cases import Case, Scope, cases_of
from benchmarks.compile_report.offline import SHARED_LIMIT, Compiled
from benchmarks.compile_report.pool import Compiler, digest_of
from benchmarks.compile_report.record import (
    Record,
    cases_in_scope,
    fault_of,
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
    scope = "all" if scopes.get(head_dim) == "all" else scope
    cases = cases_of(architecture, [head_dim], scope)
    for name in record.lines.keys() - {case.name for case in cases}:
        if name.split()[0:3:2] == [architecture, str(head_dim)]:
            del record.lines[name]
    digests = {case.name: digest_of(case) for case in cases}
    fresh = [c for c in cases if record.lines.get(c.name, [None])[0] != digests[c.name]]
    results = dict(zip(fresh, compiler.compile_all(fresh), strict=True))
    for case, found in results.items():
        if not found.error:
            record.add(case, digests[case.name], found)
    scopes[head_dim] = scope
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
        faults += problems(record, {case.name: digest_of(case) for case in cases}, cases)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


def sample_cases(cases: Sequence[Case], number: int, seed: int) -> list[Case]:
    """Some at random, of every architecture in turn."""
    drawn: dict[str, list[Case]] = {}
    for case in random.Random(seed).sample(cases, len(cases)):
        drawn.setdefault(case.architecture, []).append(case)
    turns = zip_longest(*(drawn[name] for name in sorted(drawn)))
    return [case for turn in turns for case in turn if case is not None][:number]


def recompile(number: int, seed: int, compiler: Compiler) -> int:
    """Compile a sample again and compare it with the record of this Triton, if there is one."""
    path = record_path(compiler.version)
    record = read_record(path) if path.is_file() else Record(triton=compiler.version)
    every = [case for name in ARCHITECTURES for case in cases_of(name)]
    cases = sample_cases(cases_in_scope(record) or every, number, seed)
    print(f"triton {compiler.version}, against {path.name if record.lines else 'no record'}")
    bad = 0
    for case, found in zip(cases, compiler.compile_all(cases), strict=True):
        fault, recorded = fault_of(case, found), record.result(case)
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
    compiler = Compiler(
        jobs=options.jobs, python_path=options.other_triton, remember=not options.sample
    )
    try:
        if options.sample:
            return recompile(options.sample, options.seed, compiler)
        return _compile(options, compiler)
    finally:
        compiler.close()


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
        bad = [(case, fault) for case, found in results if (fault := fault_of(case, found))]
        for case, fault in bad:
            print(f"FAULT {case.name}: {fault}")
        faults += len(bad)
        seconds = time.monotonic() - began
        print(
            f"{architecture}, triton {compiler.version}: {len(results)} cases, "
            f"{len(bad)} faults, {seconds:.0f} s",
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
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--jobs", type=int, default=1, help="compilations at a time")
    parser.add_argument("--other-triton", metavar="FOLDER", help="a folder with another Triton")
    options = parser.parse_args(arguments)
    if not (options.arch or options.record or options.check or options.sample):
        parser.error("one of --arch, --record, --check and --sample has to be given")
    return options


if __name__ == "__main__":
    sys.exit(main())
