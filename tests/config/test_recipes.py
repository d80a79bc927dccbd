"""Recipes hold what was published."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmsl.config.config import Config, starting_point
from lmsl.config.recipes import RECIPES, recipe

PUBLISHED: dict[str, dict[str, Any]] = {
    "acl2024": {
        "lora_rank": 64,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "lora_targets": ("query-value",),
        "head_dropout": 0.1,
        "frozen": "nf4",
        "optimizer": "auto",
        "beta2": 0.95,
        "epsilon": 1e-5,
        "weight_decay": 0.1,
        "max_grad_norm": 1.0,
        "warmup": 0.0,
        "lr": 2e-4,
        "schedule": "cosine",
        "epochs": 5,
        "batch_size": 64,
        "keep_every": 1,
        "max_length": 128,
        "overflow": "truncate",
        "label_at": "first",
        "loss": "ce",
        "decode": "argmax",
        "select": "last",
        "patience": None,
        "context": 0,
        "repeat": 0,
    },
    "repetition-sl": {
        "lora_rank": 16,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "lora_targets": ("q_proj", "k_proj", "v_proj", "o_proj"),
        "lr": 2e-4,
        "schedule": "linear",
        "weight_decay": 0.05,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "batch_size": 32,
        "keep_every": 1,
        "epochs": 10,
        "select": "best-dev",
        "max_length": 256,
        "label_at": "first",
        "decode": "argmax",
    },
}
_SHARED = {
    name: value
    for name, value in PUBLISHED["acl2024"].items()
    if name not in ("label_at", "decode", "head_dropout")
}
PUBLISHED["acl2024-generate"] = _SHARED | {
    "task": "generate",
    "unmask": ("causal",),
    "max_length": 1024,
    "prompt": "acl2024",
    "chat_template": "no",
    "loss_on": "text",
    "decoding": "sample",
    "temperature": 0.6,
    "top_p": 0.9,
}
PUBLISHED["acl2024-released"] = PUBLISHED["acl2024"] | {"keep_every": 4}


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_hold_the_published_values(name: str) -> None:
    config = Config(**recipe(name))
    found = {key: getattr(config, key) for key in PUBLISHED[name]}
    assert found == PUBLISHED[name]
    assert config.recipe == name


def test_recipes_are_known_by_their_names_and_cannot_be_changed() -> None:
    assert set(RECIPES) == {"default", *PUBLISHED}
    assert Config(**recipe("default")) == Config()
    with pytest.raises(TypeError):
        RECIPES["default"] = {}  # type: ignore[index]


def test_the_pair_of_recipes_differs_in_model_and_strings_alone() -> None:
    folder = Path(__file__).parents[2] / "docs" / "recipes"
    encoder, decoder = (
        Config(**starting_point(None, folder / f"ettin-{kind}.yaml"))
        for kind in ("encoder", "decoder")
    )
    assert encoder.model.replace("encoder", "decoder") == decoder.model
    assert replace(encoder, model=decoder.model, unmask=decoder.unmask) == decoder
