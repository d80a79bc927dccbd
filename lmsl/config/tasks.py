"""Which settings are for which task, or have an effect beside which others: the rest is refused.

A setting that was given cannot be told from its default, nor from what its recipe says. Where it
is the default there is nothing to refuse. Of a recipe, what does not fit the task is refused with
the recipe's name; what another setting leaves without effect is let through, and said.
"""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lmsl.config.recipes import RECIPES
from lmsl.config.strings import all_causal, stands_for_many
from lmsl.errors import InputError
from lmsl.wording import quoted

if TYPE_CHECKING:
    from lmsl.config.config import Config

_OF_ADAPTERS = ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets")
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
        InputError: a setting that the task has no use for, or that has no effect.
    """
    if config.task == "label":
        _refuse_other_task(config, dict.fromkeys(_OF_GENERATION, "for --task generate alone"))
        _refuse_idle(config)
        return {}
    _refuse_other_task(config, _NOT_OF_GENERATION, of="--task generate: ")
    for string in config.unmask:
        if not all_causal(string):
            raise InputError(
                f"--unmask {string}: expected causal or zeros for --task generate, since a KV "
                "cache cannot serve layers that see to the right"
            )
    _refuse_idle(config)
    if config.prompt == "acl2024" and config.chat_template != "no":
        # Its own headings stand where a chat has markup.
        return {**_left_open(config), "chat_template": "no"}
    return _left_open(config)


def _left_open(config: "Config") -> dict[str, Any]:
    """A sentence cannot be answered in windows: its end is cut instead, and that is said."""
    found: dict[str, Any] = {} if config.unmask else {"unmask": ("causal",)}
    return {**found, "overflow": "truncate"} if config.overflow == "window" else found


def idle_of_recipe(config: "Config") -> list[str]:
    """For people: settings of the recipe that another setting leaves without effect."""
    reasons: dict[str, list[str]] = {}
    for name, reason in _idle(config).items():
        if _from_recipe(config, name):
            reasons.setdefault(reason, []).append(f"{_flag(name)} {_shown(getattr(config, name))}")
    return [
        f"--recipe {config.recipe}: without effect are {', '.join(given)} ({reason})"
        for reason, given in reasons.items()
    ]


def _idle(config: "Config") -> dict[str, str]:
    """Settings without effect, whatever they are, and why."""
    found: dict[str, str] = {}
    if config.tune == "full":
        found |= dict.fromkeys(_OF_ADAPTERS, "--tune full trains no adapters")
    if config.task == "generate" and config.decoding == "greedy":
        found |= dict.fromkeys(_OF_SAMPLING, "for --decoding sample alone")
    if not any(map(stands_for_many, config.unmask)):
        found["groups"] = "for --unmask grid or random:N alone"
    return found


def _refuse_idle(config: "Config") -> None:
    for name, reason in _idle(config).items():
        if _given(config, name) and not _from_recipe(config, name):
            raise _unfit(config, name, reason)


def _refuse_other_task(config: "Config", reasons: dict[str, str], of: str = "") -> None:
    for name, reason in reasons.items():
        if not _given(config, name):
            continue
        if not _from_recipe(config, name):
            raise _unfit(config, name, f"{of}{reason}")
        fitting = [
            other
            for other, settings in RECIPES.items()
            if settings and settings.get("task", "label") == config.task
        ]
        raise InputError(
            f"--recipe {config.recipe} sets {_flag(name)} {_shown(getattr(config, name))}: "
            f"{of}{reason}; expected a recipe for --task {config.task}: {', '.join(fitting)}"
        )


def _unfit(config: "Config", name: str, reason: str) -> InputError:
    value = getattr(config, name)
    given = _shown(value) if isinstance(value, tuple) else quoted(value)
    default = _shown(_defaults(config)[name])
    return InputError(f"{_flag(name)} {given}: {reason}; leave it out, or at {default}")


def _given(config: "Config", name: str) -> bool:
    return bool(getattr(config, name) != _defaults(config)[name])


def _from_recipe(config: "Config", name: str) -> bool:
    """Whether the recipe sets it so; a recipe's name may also be made up by a caller."""
    recipe = RECIPES.get(config.recipe, {})
    return name in recipe and _given(config, name) and recipe[name] == getattr(config, name)


def _defaults(config: "Config") -> dict[str, Any]:
    return {field.name: field.default for field in fields(config)}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
