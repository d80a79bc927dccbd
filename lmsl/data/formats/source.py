"""Getting at a file's text, with the refusals every format shares.

Lines end at LF or CRLF only. `str.splitlines` also breaks at U+2028, U+0085 and other characters
that real tokens contain.
"""

import sys
from pathlib import Path

from lmsl.errors import InputError

STDIN = "-"


def read_text(path: str | Path) -> str:
    """Decode a UTF-8 file (a byte order mark is dropped); ``-`` is standard input.

    Raises InputError for a file that is missing, a folder, binary, not UTF-8 or empty.
    """
    if str(path) == STDIN:
        return decode(sys.stdin.buffer.read(), "standard input")
    if Path(path).is_dir():
        raise InputError(f"{path}: expected a file, found a folder")
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return decode(data, str(path))


def decode(data: bytes, source: str) -> str:
    """Decode the bytes of one file; `source` names it in messages."""
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise InputError(
            f"{source}:{line}: expected UTF-8 text, found NUL bytes (a binary file, or UTF-16)"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{source}:{line}: expected UTF-8 text, found byte 0x{data[error.start]:02x}; "
            "convert the file to UTF-8"
        ) from None
    if not text.strip():
        raise InputError(f"{source}: the file is empty")
    return text


def split_lines(text: str) -> list[str]:
    """Split at LF or CRLF; no empty last line after a final line end."""
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
