"""Compile the kernels of every table entry without a GPU and say what came out.

    python -m benchmarks.compile_report --arch sm_90          # registers, spills, shared memory
    python -m benchmarks.compile_report --all --record        # renew the committed record
    python -m benchmarks.compile_report --arch sm_80 --hardest --record   # some of it
    python -m benchmarks.compile_report --check               # does the record still hold?
    python -m benchmarks.compile_report --sample 24 --seed 1  # compile some of it again

A spill, stack, more shared or tensor memory than there is, or no matrix instruction is a fault;
per-sequence masks, float32 and head dims between the classes may spill. The exit status is 1 where
there is a fault. The record is benchmarks/results/compile_<triton version>.json; only what changed
since is compiled again.
"""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from benchmarks.compile_report.cases import GROUP, Case, Scope, cases_of
from benchmarks.compile_report.offline import SHARED_LIMIT, Compiled
from benchmarks.compile_report.pool import Compiler, digest_of
from benchmarks.compile_report.record import (
    Record,
    cases_in_scope,
    digests_of,
    fault_of,
    problems,
    read_record,
    record_path,
    write_record,
)
from benchmarks.shared.record import RESULTS, table
from lmsl_kernels.flash.tuning import ARCHITECTURES, HEAD_DIMS, has_table, head_dims_of

HEAD = ("case", "tiles", "warps", "registers", "spills", "stack", "shared", "limit", "matrix")
# The architecture and head dim that most speak of, and sentences as most models have them.
HEADLINE = ("sm_90", 128, (32, 64))


def compile_head_dim(
    architecture: str, head_dim: int, scope: Scope, compiler: Compiler, record: Record
) -> list[tuple[Case, Compiled]]:
    """The cases of a head dim, compiled where the record does not have them already.

    Where the record has all cases it goes on having all, whatever is asked for. What compiles
    goes into the record, and what the record has of no entry any more comes out.
    """
    scopes = record.scopes.get(architecture, {})
    scope = "all" if scopes.get(head_dim) == "all" else scope
    cases = cases_of(architecture, [head_dim], scope)
    for name in list(record.lines):
        of = name.split()
        if (of[0], of[2]) == (architecture, str(head_dim)) and name not in {c.name for c in cases}:
            del record.lines[name]
    known = {
        case.name: record.lines.get(case.name, [None])[0] == digest_of(case) for case in cases
    }
    fresh = [case for case in cases if not known[case.name]]
    results = dict(zip((c.name for c in fresh), compiler.compile_all(fresh), strict=True))
    for case in fresh:
        if not results[case.name].error:
            record.add(case, digest_of(case), results[case.name])
    record.scopes[architecture] = dict(sorted({**scopes, head_dim: scope}.items()))
    recorded = ((case, results.get(case.name) or record.result(case)) for case in cases)
    return [(case, found) for case, found in recorded if found is not None]


def report(results: Sequence[tuple[Case, Compiled]]) -> str:
    """A table of all cases."""
    return table(HEAD, [_row(case, found) for case, found in results])


def headline_cases() -> list[Case]:
    """Sentences and regime L for head dim 128 on Hopper."""
    name, head_dim, lengths = HEADLINE
    return [
        case
        for case in cases_of(name)
        if case.entry.head_dim == head_dim and case.variant.name == "causal"
        if case.group == GROUP and (case.entry.longest in lengths or case.entry.described)
    ]


def sample_cases(cases: Sequence[Case], number: int, seed: int) -> list[Case]:
    """The headline cases among them, and others at random, of every architecture in turn."""
    wanted = {case.name for case in headline_cases()}
    first = [case for case in cases if case.name in wanted][:number]
    others = [case for case in cases if case.name not in wanted]
    drawn: dict[str, list[Case]] = {}
    for case in random.Random(seed).sample(others, len(others)):
        drawn.setdefault(case.architecture, []).append(case)
    turns = zip_longest(*(drawn[name] for name in sorted(drawn)))
    rest = [case for turn in turns for case in turn if case is not None]
    return [*first, *rest[: number - len(first)]]


def check_records(paths: Sequence[Path]) -> int:
    """Say what is wrong with records; the exit status."""
    if not paths:
        print(f"no record in {RESULTS}: --all --record makes one")
    records = {path: read_record(path) for path in paths}
    cases = {case.name: case for record in records.values() for case in cases_in_scope(record)}
    digests = digests_of(cases.values())
    faults = 0
    for path, record in records.items():
        wanted = cases_in_scope(record)
        found = problems(record, digests, wanted)
        declared = ", ".join(map(_declared, record.scopes.items()))
        print(f"{path.name}: {len(wanted)} cases on {declared}")
        for problem in found:
            print(f"  {problem}")
        faults += len(found)
    return 1 if faults or not paths else 0


def _declared(scopes: tuple[str, dict[int, Scope]]) -> str:
    name, by_head_dim = scopes
    partly = [str(head_dim) for head_dim, scope in by_head_dim.items() if scope == "hardest"]
    return f"{name} (of head dims {', '.join(partly)} the hardest alone)" if partly else name


def recompile(number: int, seed: int, compiler: Compiler) -> int:
    """Compile a sample again and compare it with the record of this Triton, if there is one."""
    path = record_path(compiler.version)
    record = read_record(path) if path.is_file() else None
    every = [case for name in filter(has_table, ARCHITECTURES) for case in cases_of(name)]
    scope = cases_in_scope(record) if record else every
    against = path.name if record else "nothing: there is no record of this version"
    print(f"triton {compiler.version}, against {against}")
    bad = 0
    cases = sample_cases(scope, number, seed)
    for case, found in zip(cases, compiler.compile_all(cases), strict=True):
        fault = fault_of(case, found)
        recorded = record.result(case) if record else None
        if fault is None and recorded not in (None, found):
            fault = f"the record says {recorded}"
        bad += fault is not None
        print(f"{'FAULT' if fault else 'ok':5} {case.name}: {fault or found}", flush=True)
    return 1 if bad else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    missing = [name for name in options.arch if not has_table(name)]
    if missing:
        print(f"no table for {', '.join(missing)}: benchmarks.tune makes one", file=sys.stderr)
        return 2
    if options.check:
        return check_records(sorted(RESULTS.glob("compile_*.json")))
    compiler = Compiler(jobs=options.jobs, remember=not options.sample)
    try:
        if options.sample:
            return recompile(options.sample, options.seed, compiler)
        return _compile(options, compiler)
    finally:
        compiler.close()


def _compile(options: argparse.Namespace, compiler: Compiler) -> int:
    path = options.json or (record_path(compiler.version) if options.record else None)
    exists = path is not None and path.is_file()
    record = read_record(path) if path and exists else Record(triton=compiler.version)
    faults = 0
    for architecture in filter(has_table, ARCHITECTURES) if options.all else options.arch:
        began = time.monotonic()
        before = compiler.compiled
        scope: Scope = "hardest" if options.hardest else "all"
        results = []
        for head_dim in options.head_dim or head_dims_of(architecture):
            results += compile_head_dim(architecture, head_dim, scope, compiler, record)
            if path:
                write_record(path, record)
        if not options.all:
            print(report(results))
        bad = [(case, fault) for case, found in results if (fault := fault_of(case, found))]
        for case, fault in bad:
            print(f"FAULT {case.name}: {fault}")
        faults += len(bad)
        print(
            f"{architecture}, triton {compiler.version}: {len(results)} cases, "
            f"{compiler.compiled - before} compiled in {time.monotonic() - began:.0f} s, "
            f"{len(bad)} faults",
            flush=True,
        )
    return 1 if faults else 0


def _row(case: Case, found: Compiled) -> list[str]:
    tiles = f"{case.entry.rows}x{case.entry.keys}"
    limit = SHARED_LIMIT[case.architecture]
    numbers = (case.entry.warps, found.registers, found.spills, found.stack, found.shared, limit)
    return [case.name, tiles, *map(str, numbers), found.matrix]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--arch", action="append", choices=ARCHITECTURES, default=[])
    what.add_argument("--all", action="store_true", help="every architecture, without the report")
    what.add_argument("--check", action="store_true", help="compile nothing, check the records")
    what.add_argument("--sample", type=int, metavar="N", help="compile N recorded cases again")
    parser.add_argument("--head-dim", action="append", type=int, choices=HEAD_DIMS, default=[])
    parser.add_argument(
        "--hardest", action="store_true", help="only the hardest variant of every entry"
    )
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--record", action="store_true", help="renew the committed record")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the record elsewhere")
    parser.add_argument("--jobs", type=int, default=1, help="compilations at a time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
