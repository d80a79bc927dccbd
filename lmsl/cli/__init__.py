"""The command line: ``lmsl train | sweep | predict | evaluate | report | data | probe``."""

from lmsl.cli.entry import main

__all__ = ["main"]
