"""``OUTPUT/oneshot/oneshot.json``: what a one-shot run found, as others read it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmsl.data.documents import read_object
from lmsl.errors import InputError
from lmsl.wording import quoted

FOLDER = "oneshot"
RESULT = "oneshot.json"


def below_line(document: Mapping[str, Any]) -> str | None:
    """Whether the order of the strings is more than chance, for people; None where an older
    version did not look."""
    rows = document["candidates"]
    if any("below_best" not in row for row in rows):
        return None
    below = sum(row["below_best"] for row in rows)
    if not below:
        return "no string is surely below the best: this order may be chance alone"
    return f"{below} of the {len(rows) - 1} other strings are surely below the best"


def read_result(folder: Path) -> dict[str, Any] | None:
    """What ``oneshot.json`` says; None where there is none.

    Raises:
        InputError: the file cannot be read.
    """
    path = folder / RESULT
    if not path.exists():
        return None
    document = read_object(path)
    try:
        found = {row["unmask"]: float(row["dev"]) for row in document["candidates"]}
        ranked = set(document["ranking"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected the result of a one-shot: {quoted(error)}") from error
    if ranked != set(found):
        raise InputError(f"{path}: ranking and candidates name different strings")
    return document
