"""The words that a setting can be: each list stands here, and wherever a choice is taken.

Choices that files bring (format, scheme, words, decoder) are at home in ``lmsl.data``.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from lmsl.errors import InputError

Task = Literal["label", "generate"]
LabelAt = Literal["first", "last", "mean"]
Overflow = Literal["window", "error", "truncate"]
Schedule = Literal["cosine", "linear", "constant"]
Optimizer = Literal["auto", "adamw", "adamw8bit"]
Loss = Literal["ce", "focal"]
Select = Literal["best-dev", "last"]
Tune = Literal["lora", "full"]
Quantize = Literal["nf4", "none"]
Resident = Literal["auto", "yes", "no"]
Checkpointing = Literal["auto", "yes", "no"]
CudaGraphs = Literal["off", "on"]
Calibrate = Literal["auto", "yes", "no"]
Dtype = Literal["auto", "float32", "bfloat16"]
Impl = Literal["triton", "sdpa", "eager"]
Attention = Literal["auto", "triton", "sdpa", "eager"]
Forward = Literal["own", "plain"]
"""Whose forward runs the layers: ours, or transformers'."""
Block = Literal["auto", "own", "plain"]
Elementwise = Literal["auto", "triton", "plain"]
PromptName = Literal["default", "acl2024"]
ChatTemplate = Literal["auto", "no"]
LossOn = Literal["answer", "text"]
Decoding = Literal["greedy", "sample"]


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Shape of the adapters; for targets see ``lmsl.layers.targets``."""

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How a run that writes its answers asks and is decoded."""

    prompt: PromptName
    opening: str
    """Markup of a chat before what is asked; without a chat nothing, and the tokenizer's own
    beginning of a sequence instead."""
    before: str
    """What is asked, up to the sentence."""
    after: str
    """What follows the sentence."""
    closing: str
    """Markup of a chat up to the answer."""
    names: tuple[str, ...]
    """The types in words, in their order."""
    decoding: Decoding
    temperature: float
    top_p: float


def check_choice(name: str, given: str, choice: Any) -> None:
    """Refuse a word that is none of a choice, for callers that no command line has checked.

    Raises:
        InputError: ``given`` is not among the words of the ``Literal`` ``choice``.
    """
    if given not in get_args(choice):
        raise InputError(f"{name}: expected one of {', '.join(get_args(choice))}, got {given!r}")
