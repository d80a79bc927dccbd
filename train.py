"""Train a sequence labeler from a decoder-only language model.

    python train.py --unmask 0011                  # the embedded default, on any CPU
    python train.py --unmask 0011 --data DIR       # train.*, dev.*, test.* in DIR
    python train.py --unmask 0000 0011 1111 --seed 1 2 3 --data DIR --output runs/mine
    python train.py --unmask 0011 --data DIR --model mistralai/Mistral-7B-v0.3
    python train.py --help

The same as ``lmsl train``. What happens, top to bottom, is in ``lmsl/run.py``.
"""

import sys
from pathlib import Path

# Only for a clone that is not installed: `kernels` holds nothing but the package lmsl_kernels,
# and goes last, so it can shadow nothing.
sys.path.append(str(Path(__file__).parent / "kernels"))

from lmsl.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
