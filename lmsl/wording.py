"""How counts, finds and advice read in lines for people."""

import reprlib

LONGEST = 80
"""Characters of what was found that a message quotes at most."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = LONGEST


def quoted(found: object) -> str:
    """What was found as Python writes it, at most `LONGEST` characters of it.

    Never builds the whole of something huge or deep only to cut it.
    """
    text = repr(found[: LONGEST + 1]) if isinstance(found, str) else _short.repr(found)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def shortened(text: str) -> str:
    """A piece of a message in one line of at most `LONGEST` characters."""
    line = " ".join(text[: 4 * LONGEST].split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def one_line(error: BaseException) -> str:
    """What a library said of an error; its kind, where it said nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def counted(number: int, noun: str) -> str:
    """``1 sentence``, ``2 sentences``, ``2 entities``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("ty") else f"{number} {noun}s"


def install(extra: str) -> str:
    """The command that brings an extra, in a clone: the package is on no index."""
    return f"pip install -e '.[{extra}]' in the clone of lmsl"
