"""Getting at a file's text, with the refusals every format shares.

Lines end at LF or CRLF; at CR alone only where a file begins with 64 KiB, or all it has, without
an LF. `str.splitlines` also breaks at U+2028, U+0085 and others that real tokens contain.
"""

import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from lmsl.errors import InputError
from lmsl.wording import quoted

STDIN = "-"

_CHUNK = 1 << 20
_HEAD = 1 << 16
_LONGEST_LINE = 1 << 28
_SPECIAL = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe; save it to a file first",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextmanager
def within_limits(source: str) -> Iterator[None]:
    """Make what is too deep or too large for this machine an InputError that names `source`."""
    try:
        yield
    except RecursionError:
        raise InputError(f"{source}: nested too deeply to be read; flatten it") from None
    except MemoryError:
        raise InputError(f"{source}: too large for this machine's memory; split it") from None


def shown(source: str | Path) -> str:
    """The name of a source in messages."""
    return "standard input" if str(source) == STDIN else str(source)


def open_file(path: str | Path) -> BinaryIO:
    """Open a regular file; InputError for anything else, without waiting for what never comes."""
    if "\0" in str(path):
        raise InputError(f"{quoted(str(path))}: no such file (a name cannot hold NUL)")
    try:
        kind = stat.S_IFMT(Path(path).stat().st_mode)
        if kind == stat.S_IFREG:
            return open(path, "rb")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    raise InputError(f"{path}: expected a file, found {_SPECIAL.get(kind, 'none')}")


def read_text(path: str | Path) -> str:
    """Decode a UTF-8 file (a byte order mark is dropped).

    Raises InputError for a file that is missing, no regular file, binary, not UTF-8 or empty.
    """
    with within_limits(str(path)):
        return decode(read_bytes(path), str(path))


def read_bytes(path: str | Path) -> bytes:
    """All of a regular file; InputError as `open_file`."""
    with open_file(path) as file:
        return file.read()


def decode(data: bytes, source: str) -> str:
    """Decode the bytes of one file; `source` names it in messages."""
    text = _decoded(data, source, 1, "utf-8-sig")
    if not text.strip():
        raise InputError(f"{source}: the file is empty")
    return text


def split_lines(text: str) -> list[str]:
    """Split at line ends; no empty last line after a final one."""
    lines = text.split("\r" if "\r" in text and "\n" not in text[:_HEAD] else "\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def stream_lines(path: str | Path) -> Iterator[str]:
    """The lines of a file or of standard input as they come, in flat memory; see `read_text`.

    The lines before one that cannot be read are given first.
    """
    source = shown(path)
    chunks = _chunks(path)
    head = b""
    for chunk in chunks:
        head += chunk
        if b"\n" in head or b"\0" in head or len(head) >= _HEAD:
            break
    end = b"\r" if b"\r" in head and b"\n" not in head[:_HEAD] else b"\n"
    number, rest, size = 1, list[bytes](), 0
    for chunk in chain([head.removeprefix(b"\xef\xbb\xbf")], chunks):
        whole, found, last = chunk.rpartition(end)
        if found or b"\0" in chunk:
            data = b"".join((*rest, whole)) if found else b"".join((*rest, chunk))
            yield from _split(data, end, source, number)
            number += data.count(end) + 1
            rest, size = [], 0
        rest.append(last)
        size += len(last)
        if size > _LONGEST_LINE:
            raise InputError(f"{source}:{number}: expected lines of text, got one without end")
    if last := b"".join(rest):
        yield from _split(last, end, source, number)


def _split(data: bytes, end: bytes, source: str, number: int) -> Iterator[str]:
    """The lines of whole lines, the first of which has this number."""
    try:
        text = _decoded(data, source, number)
    except InputError:
        for offset, line in enumerate(data.split(end)):
            yield _decoded(line, source, number + offset).removesuffix("\r")
        raise
    lines = text.split(end.decode())
    yield from (line.removesuffix("\r") for line in lines) if "\r" in text else lines


def _chunks(path: str | Path) -> Iterator[bytes]:
    if str(path) == STDIN:
        # A pipe's bytes when they are there, not when many are.
        read1 = cast(BufferedReader, sys.stdin.buffer).read1
        yield from iter(lambda: read1(_CHUNK), b"")
        return
    with open_file(path) as file:
        yield from iter(lambda: file.read(_CHUNK), b"")


def _decoded(data: bytes, source: str, number: int, encoding: str = "utf-8") -> str:
    if b"\0" in data:
        line = number + data[: data.index(b"\0")].count(b"\n")
        raise InputError(
            f"{source}:{line}: expected UTF-8 text, found NUL bytes (a binary file, or UTF-16)"
        )
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = number + data[: error.start].count(b"\n")
        raise InputError(
            f"{source}:{line}: expected UTF-8 text, found byte 0x{data[error.start]:02x}; "
            "convert the file to UTF-8"
        ) from None
