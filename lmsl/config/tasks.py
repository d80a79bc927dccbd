"""Which settings are for which task: those that the one asked for has no use for are refused.

A setting that was given cannot be told from its default; where both are equal there is nothing to
refuse.
"""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lmsl.config.strings import all_causal
from lmsl.errors import InputError
from lmsl.wording import quoted

if TYPE_CHECKING:
    from lmsl.config.config import Config

_OF_SAMPLING = ("temperature", "top_p")
_OF_GENERATION = ("prompt", "chat_template", "loss_on", "decoding", *_OF_SAMPLING)
_NOT_OF_GENERATION = {
    "groups": "no layer is unmasked",
    "repeat": "a sentence is read once",
    "label_at": "no words are read",
    "context": "a prompt holds one sentence",
    "head_dropout": "it has no classifier",
    "decode": "it has no tags to decode",
    "cuda_graphs": "its steps are not captured",
    "tune": "its base stays frozen",
    "warmup_mntp": "no layer is unmasked",
}


def settled(config: "Config") -> dict[str, Any]:
    """The settings that follow from the task where they were left open.

    Raises:
        InputError: a setting that the task has no use for.
    """
    if config.task == "label":
        _refuse(config, dict.fromkeys(_OF_GENERATION, "for --task generate alone"))
        return {}
    _refuse(config, _NOT_OF_GENERATION, of="--task generate: ")
    for string in config.unmask:
        if not all_causal(string):
            raise InputError(
                f"--unmask {string}: expected causal or zeros for --task generate, since a KV "
                "cache cannot serve layers that see to the right"
            )
    if config.decoding == "greedy":
        _refuse(config, dict.fromkeys(_OF_SAMPLING, "for --decoding sample alone"))
    if config.prompt == "acl2024" and config.chat_template != "no":
        # Its own headings stand where a chat has markup.
        return {**_left_open(config), "chat_template": "no"}
    return _left_open(config)


def _left_open(config: "Config") -> dict[str, Any]:
    """A sentence cannot be answered in windows: its end is cut instead, and that is said."""
    found: dict[str, Any] = {} if config.unmask else {"unmask": ("causal",)}
    return {**found, "overflow": "truncate"} if config.overflow == "window" else found


def _refuse(config: "Config", reasons: dict[str, str], of: str = "") -> None:
    defaults = {field.name: field.default for field in fields(config)}
    for name, reason in reasons.items():
        if (value := getattr(config, name)) != defaults[name]:
            flag = name.replace("_", "-")
            raise InputError(
                f"--{flag} {quoted(value)}: {of}{reason}; leave it out, or at {defaults[name]}"
            )
