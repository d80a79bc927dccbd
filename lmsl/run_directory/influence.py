"""``influence.json``: how much each layer of a run owes to the right context.

What it means and how it is measured is said in ``lmsl.tagger.influence`` and, of attention, in
``lmsl.tagger.right_attention``.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmsl.data.documents import read_object
from lmsl.errors import InputError
from lmsl.run_directory.files import write_json
from lmsl.wording import quoted

INFLUENCE = "influence.json"


@dataclass(frozen=True, kw_only=True)
class RightAttention:
    """How much attention goes to the right."""

    heads: tuple[tuple[float, ...], ...]
    """Of each layer, input side first, the share of each head; 0 in a causal layer."""
    even: tuple[float, ...]
    """Of each layer, that of a head that looks evenly at all it may see."""


@dataclass(frozen=True, kw_only=True)
class Influence:
    """What ``influence.json`` says."""

    layers: tuple[float, ...]
    """Of each layer, input side first; 0 is none."""
    positions: int
    """Read sub-words that it is the mean over."""
    sentences: int
    attention: RightAttention | None = None
    """None in files that are older than it is, and for encoders whose attention is their own."""


def write_influence(folder: Path, found: Influence) -> None:
    write_json(folder / INFLUENCE, asdict(found))


def read_influence(folder: Path) -> Influence | None:
    """What a run recorded; None where it did not.

    Raises:
        InputError: the file is not what ``write_influence`` writes.
    """
    path = folder / INFLUENCE
    if not path.exists():
        return None
    document = read_object(path)
    try:
        layers = tuple(float(value) for value in document["layers"])
        if not layers or not all(math.isfinite(value) and value >= 0 for value in layers):
            raise ValueError(f"layers: {document['layers']}")
        return Influence(
            layers=layers,
            positions=int(document["positions"]),
            sentences=int(document["sentences"]),
            attention=_attention(document.get("attention"), len(layers)),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected the influence of the right context by layer: {quoted(error)}; "
            "remove the file, or measure anew with lmsl probe RUN --data FILE --save"
        ) from error


def _attention(found: Any, layers: int) -> RightAttention | None:
    """Raises what ``read_influence`` catches."""
    if found is None:
        return None
    heads = tuple(tuple(float(share) for share in layer) for layer in found["heads"])
    even = tuple(float(share) for share in found["even"])
    shares = [*even, *(share for layer in heads for share in layer)]
    if len(heads) != layers or len(even) != layers or not all(0 <= s <= 1 for s in shares):
        raise ValueError(f"attention: {found}")
    return RightAttention(heads=heads, even=even)
