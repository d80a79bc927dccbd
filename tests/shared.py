"""The folder ``shared/`` of real data and real tokenizers, which is no part of the repository.

Tests that read it take its place from here and skip without it. ``LMSL_SHARED`` names another
place; one that does not exist hides it, which shows whether they do skip.
"""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("LMSL_SHARED", Path(__file__).parents[2] / "shared"))
DATA = SHARED / "data"
TOKENIZERS = SHARED / "tokenizers"

needs_shared = pytest.mark.skipif(
    not (DATA.is_dir() and TOKENIZERS.is_dir()),
    reason="the folder shared/ is not beside the repository",
)
