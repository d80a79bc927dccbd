"""Write the tuning tables: which tile sizes the kernels run with on an architecture.

    python -m benchmarks.tune --offline                        # all architectures, no GPU
    python -m benchmarks.tune --offline --arch sm_90 --other-triton FOLDER
    python -m benchmarks.tune                                  # the GPU at hand, measured

Offline: of each entry's candidates, in order of preference, the first that compiles for the
architecture without spilled registers and within shared memory, for both masks, with and without
window and softcap, in bfloat16, in the installed Triton and in every other that is named. Where a
better candidate fails with window and softcap alone, it gets an entry for plain calls. Measured:
of those that compile the fastest, behind a correctness gate (``tune_measured``).

What the compiler found is kept in ``build/compiled``: a second run compiles what changed.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Only for a clone that is not installed: `kernels` holds nothing but the package lmsl_kernels.
sys.path.append(str(Path(__file__).parents[1] / "kernels"))

from benchmarks.common import REPOSITORY
from benchmarks.compile_cases import Case, required_cases
from benchmarks.compile_pool import Compiler
from benchmarks.tune_candidates import Key, candidates, keys_of_table
from benchmarks.tune_tables import (
    describe,
    float32_entries,
    for_plain_calls,
    tidy,
    write_table,
)
from lmsl_kernels.tuning import ARCHITECTURES, HEAD_DIMS, Tiles, format_table

TABLES = REPOSITORY / "kernels" / "lmsl_kernels" / "tables"
Fits = Callable[[Tiles], bool]


def rejection(architecture: str, entry: Tiles, compilers: Sequence[Compiler]) -> str | None:
    """Why an entry must not be in the table of an architecture, or ``None``."""
    for variant, group in required_cases(entry):
        case = Case(architecture=architecture, entry=entry, variant=variant, group=group)
        for compiler in compilers:
            fault = compiler.compile(case).fault(
                architecture, may_spill=variant.may_spill, matrix=variant.needs_matrix
            )
            if fault:
                return f"{fault} ({variant.name}, group {group}, triton {compiler.version})"
    return None


def choose(options: Sequence[Tiles], fits: Fits) -> list[Tiles]:
    """The first candidate for all calls, and one before it that is only for plain calls."""
    plain = next((entry for entry in options if fits(for_plain_calls(entry))), None)
    if plain is None:
        return []
    general = next((entry for entry in options[options.index(plain) :] if fits(entry)), None)
    if general == plain:
        return [plain]
    return [for_plain_calls(plain), *([general] if general is not None else [])]


def tune_offline(
    architecture: str, keys: Sequence[Key], compilers: Sequence[Compiler], jobs: int
) -> list[Tiles]:
    """The entries of some keys of a table, in the order of the keys."""

    def fits(entry: Tiles) -> bool:
        reason = rejection(architecture, entry, compilers)
        if reason is not None:
            print(f"{architecture} {describe(entry)}: {reason}", flush=True)
        return reason is None

    def serve(key: Key) -> list[Tiles]:
        return choose(candidates(architecture, key), fits)

    with ThreadPoolExecutor(jobs) as threads:
        return [entry for found in threads.map(serve, keys) for entry in found]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    if not options.offline:
        from benchmarks.tune_measured import measure_tables

        return measure_tables(options)
    folders = [None, *options.other_triton]
    compilers = [Compiler(jobs=options.jobs, python_path=folder) for folder in folders]
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "float32.json").write_text(format_table(float32_entries()))
    print("compiling with triton " + " and ".join(c.version for c in compilers), flush=True)
    try:
        for architecture in options.arch or ARCHITECTURES:
            for head_dim in options.head_dim or HEAD_DIMS:
                keys = [key for key in keys_of_table(architecture) if key.head_dim == head_dim]
                entries = tidy(tune_offline(architecture, keys, compilers, options.jobs))
                path = options.output / f"{architecture}.json"
                write_table(path, entries, head_dim)
                print(f"{path}: {len(entries)} entries of head_dim {head_dim}", flush=True)
    finally:
        for compiler in compilers:
            compiler.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", action="append", choices=ARCHITECTURES, default=[])
    parser.add_argument("--head-dim", action="append", type=int, choices=HEAD_DIMS, default=[])
    parser.add_argument("--offline", action="store_true", help="choose without a GPU")
    parser.add_argument("--jobs", type=int, default=1, help="compilations at a time")
    parser.add_argument(
        "--other-triton",
        action="append",
        default=[],
        metavar="FOLDER",
        help="a folder with another Triton that must compile the entries too",
    )
    parser.add_argument("--minutes", type=float, help="stop measuring after so long")
    parser.add_argument("--output", type=Path, default=TABLES, help="where the tables go")
    return parser


if __name__ == "__main__":
    sys.exit(main())
