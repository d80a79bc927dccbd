"""Settings that a task has no use for are refused, and what follows from a task is set."""

from dataclasses import fields
from typing import Any

import pytest

from lmsl.config.config import Config
from lmsl.config.tasks import _NOT_OF_GENERATION, _OF_GENERATION
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
