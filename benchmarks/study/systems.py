"""Who takes part in the study: the systems of the literature, and what a user would pick instead.

A system is the flags of ``train.py`` that make it, or a peer of another library. Its learning rate
is the best of three on dev; they lie around what the package takes by itself: for adapters 1.4e-3
on a decoder of this width and 2.1e-3 on the encoder, for all weights a tenth of that; trainings as
short as these learn more at higher ones. A writer of entities begins with the head it was given
and has lower ones. The one in the middle comes first, because it alone makes a table before the
others are done.
"""

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Literal

from lmsl.config.config import Config
from lmsl.errors import InputError

DECODER, ENCODER = "smollm2-135m", "minilm-l6"
"""Folders of the two models."""
REFERENCE = "0000"
"""Whom the others are compared with: no layer unmasked, words read at their last sub-word."""
ABROAD = (REFERENCE, "0011", "1111", "encoder full", "CRF")
"""Who is trained on other languages than English."""
_WARMUP = 150
_EXIT = 20
"""Two thirds of the decoder's 30 layers."""

Peer = Literal["crf", "spacy"]


@dataclass(frozen=True, kw_only=True)
class System:
    """One row of the table."""

    name: str
    said: str
    """What it is, for people."""
    model: str | None = DECODER
    """Folder of its model; None for peers, who have none."""
    unmask: str = ""
    flags: tuple[str, ...] = ()
    """Of train.py, besides the mask and what all have in common."""
    rates: tuple[float, ...] = (2e-3, 1e-3, 4e-3)
    """Learning rates that it may have, the first one first; none for who has its own way."""
    warmup: int = 0
    """Updates of masked prediction before the labels are trained."""
    needs: tuple[str, ...] = ()
    """Settings that lmsl must have for it."""
    slow: bool = False
    """Its cells take hours and come after those of all others."""
    peer: Peer | None = None
    whole: bool = False
    """Trained on all of train instead of the part that the others get."""
    seeded: bool = True
    """Whether a seed changes anything."""

    def lacking(self) -> str | None:
        """Why this checkout cannot train it; None where it can."""
        known = {field.name for field in fields(Config)}
        missing = [f"--{name.replace('_', '-')}" for name in self.needs if name not in known]
        return f"needs {' and '.join(missing)}, which train.py lacks" if missing else None


_FULL = (2e-4, 1e-4, 4e-4)
_GENERATION = (1e-3, 5e-4, 2e-3)
_ENCODER_FULL = (3e-4, 1e-4, 1e-3)


def _string(unmask: str) -> System:
    return System(name=unmask, said=f"decoder, {unmask}", unmask=unmask)


SYSTEMS: tuple[System, ...] = (
    System(name=REFERENCE, said="decoder, causal, words read at the last sub-word", unmask="0000"),
    _string("0011"),
    _string("1111"),
    System(
        name="0000 first",
        said="the same read at the first sub-word",
        unmask="0000",
        flags=("--label-at", "first"),
    ),
    System(
        name="0000 mean",
        said="the same read at the mean of the sub-words",
        unmask="0000",
        flags=("--label-at", "mean"),
    ),
    System(
        name="0000 repeat 1",
        said="causal, the sentence given twice",
        unmask="0000",
        flags=("--repeat", "1"),
    ),
    System(
        name="encoder full",
        said="encoder, all weights trained",
        model=ENCODER,
        unmask="1111",
        flags=("--tune", "full"),
        rates=_ENCODER_FULL,
        needs=("tune",),
    ),
    System(
        name="encoder",
        said="encoder, QLoRA",
        model=ENCODER,
        unmask="1111",
        needs=("tune",),
    ),
    System(name="CRF", said="linear CRF", model=None, rates=(), peer="crf", seeded=False),
    System(name="spaCy", said="spaCy's tok2vec NER", model=None, rates=(), peer="spacy"),
    _string("0111"),
    _string("0110"),
    _string("0001"),
    System(name="middle", said="decoder, the middle third of the layers", unmask="middle"),
    System(
        name="0000 repeat 2",
        said="causal, the sentence given three times",
        unmask="0000",
        flags=("--repeat", "2"),
    ),
    System(
        name="0011 repeat 1",
        said="0011, the sentence given twice",
        unmask="0011",
        flags=("--repeat", "1"),
    ),
    System(
        name="0011 exit 20",
        said="0011, the first 20 of 30 layers",
        unmask="0011",
        flags=("--exit-layer", str(_EXIT)),
    ),
    System(
        name="1111 after MNTP",
        said=f"1111, before it {_WARMUP} updates of predicting masked words",
        unmask="1111",
        warmup=_WARMUP,
        needs=("warmup_mntp",),
    ),
    System(
        name="encoder causal",
        said="encoder made causal, QLoRA",
        model=ENCODER,
        unmask="0000",
        needs=("tune",),
    ),
    System(
        name="generation",
        said="decoder, causal, writes the entities",
        unmask="0000",
        flags=("--task", "generate"),
        rates=_GENERATION,
        needs=("task",),
        slow=True,
    ),
    System(
        name="0011 full",
        said="0011, all weights trained",
        unmask="0011",
        flags=("--tune", "full"),
        rates=_FULL,
        needs=("tune",),
    ),
    System(
        name="CRF whole train",
        said="linear CRF, all of train",
        model=None,
        rates=(),
        peer="crf",
        whole=True,
        seeded=False,
    ),
    System(
        name="spaCy whole train",
        said="spaCy's tok2vec NER, all of train",
        model=None,
        rates=(),
        peer="spacy",
        whole=True,
    ),
)


def chosen(names: Collection[str]) -> list[System]:
    """Systems by name, in their order; no name chooses all.

    Raises:
        InputError: there is none of that name.
    """
    known = [system.name for system in SYSTEMS]
    if odd := [name for name in names if name not in known]:
        raise InputError(f"--systems: expected some of {'; '.join(known)}, got {'; '.join(odd)}")
    return [system for system in SYSTEMS if not names or system.name in names]


def system_of(name: str) -> System:
    """The system of a name that is known."""
    (found,) = (system for system in SYSTEMS if system.name == name)
    return found
