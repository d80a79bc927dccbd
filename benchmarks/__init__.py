"""Everything that measures speed, and the proof on a GPU: see ``benchmarks/README.md``."""

import sys
from pathlib import Path

# Only for a clone that is not installed, as a lent GPU machine has: `kernels` holds nothing but
# the package lmsl_kernels, and goes last, so it can shadow nothing.
sys.path.append(str(Path(__file__).parents[1] / "kernels"))
