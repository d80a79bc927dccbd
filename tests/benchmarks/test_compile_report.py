"""The tables and the record of what their entries compile to.

Compiling needs Triton's compiler, and the tests run with its interpreter switched on, so whatever
has to do with compiled kernels happens in a process of its own.
"""

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import triton

from benchmarks.attention.batch import make_batch
from benchmarks.compile_report import __main__ as compile_report
from benchmarks.compile_report import pool
from benchmarks.compile_report.cases import Case, Variant, cases_of, required_cases
from benchmarks.compile_report.offline import SHARED_LIMIT, Compiled, source_hash
from benchmarks.compile_report.pool import Compiler
from benchmarks.compile_report.record import (
    Record,
    problems,
    read_record,
    record_path,
    write_record,
)
from benchmarks.shared.machine import REPOSITORY
from benchmarks.shared.record import RESULTS
from benchmarks.tune import __main__ as tune
from benchmarks.tune import measured
from benchmarks.tune.candidates import SINGLE, candidates, make_place, place_of, places_of_table
from benchmarks.tune.search import Search, choose
from benchmarks.tune.tables import describe, expand, table_faults, tidy
from lmsl_kernels.flash.tuning import (
    ARCHITECTURES,
    FLOAT32,
    HEAD_DIMS,
    KERNELS,
    MEDIUM,
    TUNED,
    Kernel,
    Tiles,
    choose_tiles,
    format_table,
    longest_single,
    read_table,
)

PROVEN_WITH = ("3.6.0", "3.9.0")
GOOD = Compiled(registers=128, spills=0, stack=0, shared=49152, matrix="wgmma")


def single(rows: int = 128, **changes: object) -> Tiles:
    entry = Tiles(
        kernel="single_backward",
        head_dim=64,
        longest=32,
        group=4,
        rows=rows,
        keys=32,
        warps=8,
        stages=1,
    )
    return replace(entry, **changes)


def for_plain_calls(entry: Tiles) -> Tiles:
    return replace(entry, plain=True)


@pytest.mark.drift
def test_records_hold_and_a_sample_compiles_to_what_they_say() -> None:
    """No kernel or table changed since, no entry is missing, none has a fault."""
    both = "sys.exit(main(['--check']) or main(['--sample', '3']))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; from {compile_report.__name__} import main; {both}"],
        cwd=REPOSITORY,
        env={k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    records = [read_record(path) for path in RESULTS.glob("compile_*.json")]
    assert records and {record.triton for record in records} <= {*PROVEN_WITH}
    for record in records:
        path = record_path(record.triton)
        assert record.lines and f"{path.name}: {len(record.lines)} cases" in done.stdout
    assert len([line for line in done.stdout.splitlines() if line.startswith("ok")]) == 3
    if record_path(triton.__version__).is_file():
        assert f"against {record_path(triton.__version__).name}" in done.stdout


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_table_serves_every_call(name: str) -> None:
    entries = read_table(name)
    assert table_faults(entries) == []
    file = Path(REPOSITORY / "kernels" / "lmsl_kernels" / "tables" / f"{name}.json")
    assert file.is_file() == (name in TUNED)
    if name in TUNED:
        assert format_table(entries) == file.read_text(), "one entry a line, sorted"
    for head_dim in HEAD_DIMS:
        for plain in (False, True):
            for length in (1, 16, 17, 33, 64, 65, 128, 129, MEDIUM, MEDIUM + 1, 100_000):
                for kernel, group in product(KERNELS, (1, 2, 3, 4, 5, 8, 12)):
                    border = longest_single(name, head_dim, group, plain)
                    if kernel.startswith("single") != (length <= border):
                        continue
                    for described in (False, True):
                        tiles = choose_tiles(
                            name,
                            kernel,
                            head_dim,
                            length,
                            group,
                            plain=plain,
                            described=described,
                        )
                        assert tiles.longest >= length or tiles.longest == 0
                        assert plain or not tiles.plain
                        assert described or not tiles.described


def test_sentences_fit_one_tile() -> None:
    """What regime S is there for: up to 128 tokens on Hopper for the head dims of most models."""
    for name, head_dim in product(ARCHITECTURES, HEAD_DIMS):
        assert longest_single(name, head_dim, 1, True) >= 32, (name, head_dim)
    for head_dim, group in product(HEAD_DIMS, (1, 4)):
        assert longest_single("sm_90", head_dim, group, False) >= 64
    for head_dim, group in product((64, 128), (1, 4, 8)):
        assert longest_single("sm_90", head_dim, group, False) == 128
    assert longest_single(FLOAT32, 128, 1, True) == 0


def test_derived_tables_are_smaller() -> None:
    """No entry of theirs has more rows, keys or stages than what it comes from."""
    parent = read_table("sm_80")
    for entry in read_table("sm_120"):
        known = {e for e in parent if (e.kernel, e.head_dim) == (entry.kernel, entry.head_dim)}
        assert any(
            entry.rows <= e.rows and entry.keys <= e.keys and entry.stages <= e.stages
            for e in known
            if entry.longest in (0, e.longest)
        ), describe(entry)
    assert read_table("sm_120") == read_table("sm_86") == read_table("sm_89")


def test_case_names_are_unique_and_cover_all_entries() -> None:
    for name in ARCHITECTURES:
        cases = cases_of(name)
        assert len({case.name for case in cases}) == len(cases)
        assert {case.entry for case in cases} == {*read_table(name), *read_table(FLOAT32)}
        for entry in read_table(name):
            masks = {case.variant.mask for case in cases if case.entry == entry}
            assert {"causal", "bidirectional"} <= masks


def test_what_has_to_compile() -> None:
    def required(entry: Tiles) -> list[tuple[str, int]]:
        return [(case.variant.name, case.group) for case in required_cases("sm_90", entry)]

    hardest = "causal-windowed-softcapped"
    assert required(single()) == [(hardest, 4), ("causal", 4), ("bidirectional", 4)]
    assert required(single(plain=True)) == [("causal", 4), ("bidirectional", 4)]
    # The tiled kernels have one loop more without a window.
    names = [name for name, _ in required(single(kernel="backward_keys", longest=0, group=0))]
    assert names[0] == hardest and "causal-softcapped" in names
    # With two heads a turn, groups of two and of four compile to different code.
    assert {group for _, group in required(single(64))} == {2, 4}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"spills": 1, "stack": 8}, "spills"),
        ({"stack": 8}, "stack"),
        ({"shared": SHARED_LIMIT["sm_90"] + 1}, "shared"),
        ({"tensor": 513}, "tensor memory"),
        ({"matrix": "none"}, "matrix"),
        ({"error": "TypeError: no"}, "TypeError: no"),
    ],
)
def test_faults(changes: dict[str, int], reason: str) -> None:
    assert GOOD.fault("sm_90") is None
    assert reason in (replace(GOOD, **changes).fault("sm_90") or "")


def test_only_spills_of_slow_variants_are_forgiven() -> None:
    assert replace(GOOD, spills=3, stack=16).fault("sm_90", may_spill=True) is None
    assert replace(GOOD, shared=1 << 20).fault("sm_90", may_spill=True)
    assert replace(GOOD, matrix="none").fault("sm_90", matrix=False) is None
    assert GOOD.fault("sm_86") is None
    assert replace(GOOD, shared=101_377).fault("sm_86")


def test_problems_of_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {4: "abc", 2: "x"}
    monkeypatch.setattr(Case, "digest", property(lambda case: digests[case.group]))
    case = Case(architecture="sm_90", entry=single(), variant=Variant(mask="causal"), group=4)
    record = Record(triton="3.9.0", scopes={"sm_90": {64: "all"}})
    record.add(case, GOOD)
    write_record(tmp_path / "compile.json", record)
    record = read_record(tmp_path / "compile.json")
    assert record.result(case) == GOOD and problems(record, [case]) == []
    other = replace(case, group=2)
    assert problems(record, [case, other]) == [f"missing: {other.name}"]
    assert "of no table entry" in problems(record, [])[0]
    digests[4] = "abd"
    assert "stale" in problems(record, [case])[0]
    record.add(case, replace(GOOD, spills=2))
    assert "spills" in problems(record, [case])[0]


def test_a_hash_sees_code_and_what_it_calls_but_no_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '''
import triton
import triton.language as tl

SIZE = tl.constexpr(8)

@triton.jit
def helper(x):
    return x + 1

@triton.jit
def kernel(pointer):
    """Adds."""
    tl.store(pointer, helper(SIZE))
'''
    monkeypatch.syspath_prepend(tmp_path)

    def hash_of(name: str, source: str) -> str:
        (tmp_path / f"{name}.py").write_text(source)
        kernel = __import__(name).kernel
        # The name of the module counts, so it must not differ.
        for function in (kernel.fn, kernel.fn.__globals__["helper"].fn):
            function.__module__ = "same"
        return source_hash(kernel)

    first = hash_of("hash_one", text)
    assert hash_of("hash_two", text.replace('"""Adds."""', '"""Sums."""  # or so')) == first
    assert hash_of("hash_three", "\n\n" + text) == first
    assert hash_of("hash_four", text.replace("x + 1", "x + 2")) != first
    assert hash_of("hash_five", text.replace("constexpr(8)", "constexpr(16)")) != first


def test_choice_takes_the_first_that_fits_and_one_for_plain_calls() -> None:
    options = [single(rows) for rows in (128, 64, 32)]

    def fitting(*good: Tiles) -> list[Tiles]:
        return choose(options, lambda entry: entry in good)

    plain = [for_plain_calls(entry) for entry in options]
    assert fitting(*plain, *options) == [options[0]]
    assert fitting(plain[1], options[1]) == [options[1]]
    assert fitting(*plain, options[2]) == [plain[0], options[2]]
    assert fitting(plain[2]) == [plain[2]]
    assert fitting() == []


def test_a_search_takes_what_compiles() -> None:
    class Compiling:
        version = "9.9.9"

        def compile(self, case: Case) -> Compiled:
            good = case.entry == second or (case.entry.plain and case.entry.rows == first.rows)
            return GOOD if good else replace(GOOD, spills=1, stack=8)

    place = make_place("tiled_forward", 128, 0, described=True)
    first, second = candidates("sm_90", place)[:2]
    search = Search(architecture="sm_90", compilers=[Compiling()])
    assert search.serve(place) == [for_plain_calls(first), second]


def all_groups(entries: Iterable[Tiles]) -> list[Tiles]:
    return [replace(entry, group=group) for entry in entries for group in (1, 2, 4, 8)]


def test_tidy_says_everything_once() -> None:
    short = [single(32, kernel=kernel) for kernel in SINGLE]
    short = [replace(entry, longest=16, keys=16) for entry in short]
    tiled = single(kernel="tiled_forward", longest=0, group=0)
    kept = tidy([*all_groups(short), tiled])
    # One entry for all groups.
    assert sorted(kept, key=describe) == sorted(
        [tiled, *(replace(entry, group=8) for entry in short)], key=describe
    )
    # 64 tokens without 32 are a hole: regime S ends before it.
    holes = [replace(entry, longest=64, keys=64) for entry in short]
    assert tidy([*all_groups(short), *all_groups(holes), tiled]) == kept
    # One kernel alone is of no use.
    assert tidy(all_groups(short)[:4]) == []


def test_regime_s_ends_for_a_group_where_it_has_no_tiles() -> None:
    base = [single(16, kernel=kernel, longest=16, keys=16) for kernel in SINGLE]
    longer = [replace(entry, longest=32, keys=32) for entry in base]
    entries = [*all_groups(base), *all_groups(longer)]
    missing = replace(longer[0], group=8)
    table = tuple(tidy(entry for entry in entries if entry != missing))
    assert [longest_single(table, 64, group, True) for group in (1, 4, 5, 8, 9)] == [
        32, 32, 16, 16, 16,
    ]  # fmt: skip
    assert "hole" not in " ".join(table_faults(table))
    assert "regime S has a hole for group 8" in " ".join(table_faults([*table, missing]))


def test_tidy_keeps_entries_for_plain_calls_of_every_group() -> None:
    """A plain call must not find a plain entry of a larger group before its own."""
    base = [single(16, kernel=kernel, longest=16, keys=16) for kernel in SINGLE]
    entries = all_groups(base)
    better = for_plain_calls(replace(base[1], group=8, rows=64))
    kept = tidy([*entries, better])
    for group, rows in ((1, 16), (4, 16), (8, 64), (16, 64)):
        found = choose_tiles(
            tuple(kept), "single_backward", 64, 9, group, plain=True, described=False
        )
        assert found.rows == rows
    found = choose_tiles(tuple(kept), "single_backward", 64, 9, 8, plain=False, described=False)
    assert found.rows == 16
    # Regime S of calls with a softcap may end sooner.
    longer = [replace(entry, longest=32, keys=32) for entry in entries]
    kept = tidy([*entries, *map(for_plain_calls, longer)])
    assert longest_single(tuple(kept), 64, 8, True) == 32
    assert longest_single(tuple(kept), 64, 8, False) == 16


@pytest.mark.parametrize("name", TUNED)
def test_tables_can_be_taken_apart_and_put_together(name: str) -> None:
    """As measuring does to replace single entries."""
    entries = read_table(name)
    apart = [entry for place in places_of_table(name) for entry in expand(entries, place)]
    assert sorted(tidy(apart), key=describe) == sorted(entries, key=describe)


def test_candidates_hang_together() -> None:
    for name in ARCHITECTURES:
        for place in places_of_table(name):
            options = candidates(name, place)
            assert len(set(options)) == len(options) >= 1, place
            for entry in options:
                assert place_of(entry) == place
                if place.kernel in SINGLE:
                    assert entry.rows % place.longest == 0 or place.longest % entry.rows == 0
    first = candidates("sm_90", make_place("single_backward", 128, 32, 4))[0]
    assert (first.rows, first.warps, first.swapped) == (128, 8, True)


def test_a_crash_of_the_compiler_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crashing:
        version, answered = "9.9.9", 1

        def __init__(self, python_path: str | None) -> None:
            pass

        def ask(self, line: str) -> None:
            return None

        def close(self) -> None:
            pass

    monkeypatch.setattr(pool, "_Worker", Crashing)
    monkeypatch.setattr(Case, "digest", "abc")
    compiler = Compiler(folder=tmp_path)
    case = cases_of("sm_90")[0]
    found = compiler.compile(case)
    assert found.error == "the compiler crashed"
    assert found.fault("sm_90", may_spill=True) == "the compiler crashed"
    # It is remembered, by the next compiler too.
    assert Compiler(folder=tmp_path).compile(case) == found


@pytest.mark.skipif(not measured.INTERPRETED, reason="kernels run here only interpreted")
@pytest.mark.parametrize("kernel", ["single_backward", "tiled_forward"])
def test_a_wrong_candidate_is_found_before_it_is_timed(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = kernel in SINGLE
    place = make_place(kernel, 32, 16 if one else MEDIUM, 2 if one else 0)
    asked = measured.make_problem(place, torch.device("cpu"), toy=True)
    assert max(asked.lengths) == (16 if one else 700) and asked.q.dtype == torch.bfloat16
    cell = replace(asked.cell, dtype="float32", heads=2, kv_heads=1)
    problem = make_batch(cell, asked.q.device, 1, (9, 3))
    entry = candidates("sm_90", place)[-1]
    assert measured.gate(entry, problem) == []
    honest = measured._reference

    def other(*given: Any, **options: Any) -> list[torch.Tensor]:
        return [1.01 * x for x in honest(*given, **options)]

    monkeypatch.setattr(measured, "_reference", other)
    assert measured.gate(entry, problem)


def test_measuring_needs_a_gpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(measured, "INTERPRETED", False)
    assert tune.main(["--arch", "sm_90"]) == 2
    assert "cannot measure: there is no CUDA device (--offline" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["--arch", "sm_75"], ["--arch", "sm_90", "--variants", "any"]]
)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        compile_report.main(arguments)
    assert refused.value.code == 2
    assert "usage:" in capsys.readouterr().err
