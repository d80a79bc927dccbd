"""``python -m lmsl`` is ``lmsl``."""

import sys

from lmsl.cli import main

sys.exit(main())
