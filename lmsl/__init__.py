"""Sequence labeling with decoder-only language models whose causal mask is removed layer by layer.

    import lmsl

    lmsl.unmask(model, "0011")                     # any Hugging Face decoder, in place
    lmsl.probe(model)                              # measured: which layers see to the right
    labelers = lmsl.train(lmsl.Config(unmask=("0011",)))
    labeler = lmsl.Labeler.load("runs/1")
    labeler.predict(["Ada Lovelace met Babbage."])

Names are imported when they are first used, so that ``lmsl data`` need not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lmsl.about import __version__ as __version__

if TYPE_CHECKING:
    from lmsl.config.config import Config
    from lmsl.config.recipes import RECIPES
    from lmsl.data.tags.entities import Entity
    from lmsl.errors import InputError, TrainingError
    from lmsl.generation.generator import Generator
    from lmsl.mask.probing import probe
    from lmsl.mask.unmasking import unmask
    from lmsl.run import train
    from lmsl.tagger.labeler import Labeler

__all__ = [
    "RECIPES",
    "Config",
    "Entity",
    "Generator",
    "InputError",
    "Labeler",
    "TrainingError",
    "probe",
    "train",
    "unmask",
]

_HOMES = {
    "Config": "config.config",
    "Entity": "data.tags.entities",
    "Generator": "generation.generator",
    "InputError": "errors",
    "Labeler": "tagger.labeler",
    "RECIPES": "config.recipes",
    "TrainingError": "errors",
    "probe": "mask.probing",
    "train": "run",
    "unmask": "mask.unmasking",
}


def __dir__() -> list[str]:
    """What is here for others, imported already or not."""
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lmsl' has no attribute {name!r}")
    return getattr(import_module(f"lmsl.{_HOMES[name]}"), name)
