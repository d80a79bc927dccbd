"""Settings that a task has no use for are refused, and what follows from a task is set."""

from dataclasses import fields
from typing import Any

import pytest

from lmsl.config.config import Config
from lmsl.config.recipes import RECIPES
from lmsl.config.tasks import _NOT_OF_GENERATION, _OF_GENERATION, idle_of_recipe
from lmsl.errors import InputError

GIVEN: dict[str, Any] = {
    "groups": 8,
    "repeat": 1,
    "label_at": "mean",
    "context": 3,
    "head_dropout": 0.0,
    "decode": "argmax",
    "cuda_graphs": "on",
    "tune": "full",
    "warmup_mntp": 5,
    "prompt": "acl2024",
    "chat_template": "no",
    "loss_on": "text",
    "decoding": "sample",
    "temperature": 0.5,
    "top_p": 0.5,
}


def test_every_name_is_a_setting() -> None:
    names = {field.name for field in fields(Config)}
    assert {*_NOT_OF_GENERATION, *_OF_GENERATION} == GIVEN.keys() <= names


@pytest.mark.parametrize("name", GIVEN)
def test_a_setting_of_the_other_task_is_refused(name: str) -> None:
    other = "label" if name in _OF_GENERATION else "generate"
    flag = "--" + name.replace("_", "-")
    with pytest.raises(InputError, match=rf"^{flag} .*generate.*; leave it out, or at "):
        Config(task=other, **{name: GIVEN[name]})  # type: ignore[arg-type]


def test_what_follows_from_a_task() -> None:
    config = Config(task="generate")
    assert config.unmask == ("causal",) and config.overflow == "truncate"
    assert Config(task="generate", unmask=("0000",), overflow="error").overflow == "error"
    assert Config(task="generate", prompt="acl2024").chat_template == "no"
    plain = Config()
    assert plain.unmask == () and plain.overflow == "window" and plain.chat_template == "auto"


@pytest.mark.parametrize("string", ["0001", "full", "middle", "grid", "random:2"])
def test_a_model_that_writes_is_causal(string: str) -> None:
    with pytest.raises(InputError, match=f"--unmask {string}: expected causal or zeros"):
        Config(task="generate", unmask=(string,))


@pytest.mark.parametrize("name", ["temperature", "top_p"])
@pytest.mark.parametrize("value", [0, -1, 101, float("inf"), float("nan")])
def test_ranges_of_what_is_drawn(name: str, value: float) -> None:
    with pytest.raises(
        InputError, match=f"--{name.replace('_', '-')}: expected more than 0 and at most "
    ):
        Config(task="generate", decoding="sample", **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tune": "full", "lora_rank": 4}, "--lora-rank 4: --tune full trains no adapters"),
        ({"tune": "full", "lora_alpha": 1}, "--lora-alpha 1.0: .*; leave it out, or at 32.0"),
        ({"tune": "full", "lora_dropout": 0}, "--lora-dropout 0.0: --tune full"),
        (
            {"tune": "full", "lora_targets": ("q_proj", "all-linear")},
            "--lora-targets q_proj all-linear: --tune full .*; leave it out, or at attention$",
        ),
        ({"groups": 8}, "--groups 8: for --unmask grid or random:N alone"),
        ({"groups": 8, "unmask": ("0011", "full")}, "--groups 8: for --unmask grid"),
        ({"task": "generate", "top_p": 0.5}, "--top-p 0.5: for --decoding sample alone"),
    ],
)
def test_a_setting_that_another_leaves_without_effect_is_refused(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=f"^{said}"):
        Config(**settings)


@pytest.mark.parametrize("unmask", [("grid",), ("0011", "grid"), ("random:3",)])
def test_groups_are_those_of_many_strings(unmask: tuple[str, ...]) -> None:
    """A run of them has its string alone, and its config.yaml has to be one that is taken."""
    config = Config(unmask=unmask, groups=3)
    own = config.of_strings(("011",), (7,))
    assert (own.unmask, own.seed, own.groups) == (("011",), (7,), 4)


def test_what_a_recipe_sets_in_vain_is_said_and_not_refused() -> None:
    """Whoever takes the recipe of a paper for all weights did not ask for adapters."""
    paper = RECIPES["acl2024"]
    assert idle_of_recipe(Config(**paper)) == []
    assert idle_of_recipe(Config(**paper, tune="full")) == [
        "--recipe acl2024: without effect are --lora-rank 64, --lora-alpha 16.0, --lora-targets "
        "query-value (--tune full trains no adapters)"
    ]
    greedy = Config(**{**RECIPES["acl2024-generate"], "decoding": "greedy"})
    (line,) = idle_of_recipe(greedy)
    assert "without effect are --temperature 0.6, --top-p 0.9 (" in line
    with pytest.raises(InputError, match=r"^--lora-rank 4: --tune full"):
        Config(**{**paper, "tune": "full", "lora_rank": 4})


@pytest.mark.parametrize(
    ("recipe", "task", "said"),
    [
        ("acl2024", "generate", "sets --decode argmax: .*no tags.*: acl2024-generate$"),
        ("repetition-sl", "generate", "sets --label-at first: .*: acl2024-generate$"),
        (
            "acl2024-generate",
            "label",
            "sets --prompt acl2024: .*: acl2024, acl2024-released, repetition-sl$",
        ),
    ],
)
def test_a_recipe_for_the_other_task_is_named_and_another_is_pointed_to(
    recipe: str, task: str, said: str
) -> None:
    settings = {**RECIPES[recipe], "task": task}
    if recipe == "acl2024":
        # Where the first that does not fit was taken back on the command line.
        settings["label_at"] = "last"
    with pytest.raises(InputError, match=f"^--recipe {recipe} {said}"):
        Config(**settings)
