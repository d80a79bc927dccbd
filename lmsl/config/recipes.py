"""Named training recipes: what each one sets apart from the defaults of :class:`lmsl.Config`.

A recipe is a plain mapping from field names to values:

    >>> config = lmsl.Config(unmask=("0011",), **lmsl.RECIPES["acl2024"])
    >>> config.lora_rank, config.label_at, config.decode
    (64, 'first', 'argmax')
    >>> sorted(lmsl.RECIPES)
    ['acl2024', 'acl2024-generate', 'acl2024-released', 'default', 'repetition-sl']

On the command line a recipe comes first, then ``--config``, then the flags.

``default``
    What worked best in this project's own measurements (``docs/recipes.md``).
``acl2024``
    Dukic & Snajder 2024 (arXiv 2401.14556) as described: 4 x 16 sentences an update, cosine to 0.
``acl2024-released``
    What the code released with that paper does: gradients of three of every four micro-batches
    are dropped, and the schedule advances once in four of the micro-batches it was laid out for,
    so the rate ends at 85 % of its peak.
``acl2024-generate``
    The instruction tuning that the 2024 paper compares with: its prompt and grammar, the loss on
    the whole text, answers drawn. A published update was 64 blocks of 1,024 sub-words in which a
    sentence saw those before it; here it is 64 sentences, each on its own.
``repetition-sl``
    Kukic et al. 2026 (arXiv 2601.17585), the source of the only published numbers that could be
    checked. Its NF4 is not double-quantised and its arithmetic is fp16; ours is neither.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lmsl.errors import InputError

_PAPER: dict[str, Any] = {
    "lora_rank": 64,
    "lora_alpha": 16.0,
    "lora_dropout": 0.1,
    "lora_targets": ("query-value",),
    "head_dropout": 0.1,
    "lr": 2e-4,
    "schedule": "cosine",
    "warmup": 0.0,
    "epochs": 5,
    "batch_size": 64,
    "optimizer": "auto",
    "beta2": 0.95,
    "epsilon": 1e-5,
    "weight_decay": 0.1,
    "max_grad_norm": 1.0,
    "label_at": "first",
    "decode": "argmax",
    "select": "last",
    "max_length": 128,
    "overflow": "truncate",
}

_ANSWERS: dict[str, Any] = {
    "task": "generate",
    **{k: v for k, v in _PAPER.items() if k not in ("label_at", "decode", "head_dropout")},
    "max_length": 1024,
    "prompt": "acl2024",
    "chat_template": "no",
    "loss_on": "text",
    "decoding": "sample",
    "temperature": 0.6,
    "top_p": 0.9,
}

RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "acl2024": {"recipe": "acl2024", **_PAPER},
        "acl2024-released": {
            "recipe": "acl2024-released",
            **_PAPER,
            "keep_every": 4,
        },
        "acl2024-generate": {"recipe": "acl2024-generate", **_ANSWERS},
        "repetition-sl": {
            "recipe": "repetition-sl",
            "lora_rank": 16,
            "lora_alpha": 16.0,
            "lora_dropout": 0.1,
            "lora_targets": ("q_proj", "k_proj", "v_proj", "o_proj"),
            "head_dropout": 0.1,
            "lr": 2e-4,
            "schedule": "linear",
            "warmup": 0.0,
            "epochs": 10,
            "batch_size": 32,
            "beta2": 0.999,
            "weight_decay": 0.05,
            "label_at": "first",
            "decode": "argmax",
            "select": "best-dev",
            "max_length": 256,
            "overflow": "truncate",
        },
    }
)


def recipe(name: str) -> Mapping[str, Any]:
    """The settings of a recipe.

    Raises:
        InputError: there is none of that name.
    """
    if name not in RECIPES:
        raise InputError(f"--recipe: expected one of {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[name]
