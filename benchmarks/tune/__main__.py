"""Write the tuning tables: which tile sizes the kernels run with on an architecture.

    python -m benchmarks.tune --offline                        # all tables, no GPU
    python -m benchmarks.tune --offline --arch sm_90 --other-triton FOLDER
    python -m benchmarks.tune                                  # the GPU at hand, measured

Offline: of each entry's candidates, in order of preference, the first that compiles for the
architecture without spilled registers and within shared memory, for both masks, with and without
window and softcap, in bfloat16, in the installed Triton and in every other that is named. Where a
better candidate fails with window and softcap alone, it gets an entry for plain calls.
Measured: of those that compile the fastest, behind a correctness gate (``measured``). A table that
is written for an architecture takes the place of what the rule makes of sm_80's.

What the compiler found is kept in ``build/compiled``: a second run compiles what changed.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.compile_report.pool import Compiler
from benchmarks.shared.machine import REPOSITORY
from benchmarks.tune.search import Search, tune_offline
from benchmarks.tune.tables import tidy, write_table
from lmsl_kernels.flash.tuning import ARCHITECTURES, HEAD_DIMS, TUNED

TABLES = REPOSITORY / "kernels" / "lmsl_kernels" / "tables"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    if not options.offline:
        from benchmarks.tune.measured import measure_tables

        return measure_tables(options)
    options.output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as running:
        compilers = [
            running.enter_context(closing(Compiler(jobs=options.jobs, python_path=folder)))
            for folder in (None, *options.other_triton)
        ]
        print("compiling with triton " + " and ".join(c.version for c in compilers), flush=True)
        for architecture in options.arch or TUNED:
            search = Search(architecture=architecture, compilers=compilers)
            for head_dim in options.head_dim or HEAD_DIMS:
                entries = tidy(tune_offline(search, head_dim, options.jobs))
                path = options.output / f"{architecture}.json"
                write_table(path, entries, head_dim)
                print(f"{path}: {len(entries)} entries of head_dim {head_dim}", flush=True)
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
