"""Adapters on disk in PEFT's own format, so that a run can be used without this package.

``PeftModel.from_pretrained(model, folder)`` reads what ``save_adapter`` writes, be the model an
``AutoModel`` or an ``AutoModelForCausalLM``: PEFT looks tensors up by their place in the model it
is given, and of names that it does not find it only warns, so each tensor stands in the file under
both of its names. Reading is strict: a folder that does not fit the model exactly is refused.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lmsl.data.documents import read_object
from lmsl.errors import InputError
from lmsl.layers.linears import short_names
from lmsl.layers.lora import StackedLoRALinear, stacked_layers
from lmsl.layers.quantize import NF4Linear
from lmsl.run_directory.files import write_whole
from lmsl.run_directory.tensors import read_tensors, write_tensors

ADAPTER_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"


def save_adapter(
    model: nn.Module, run: int, folder: Path, *, base_name: str, revision: str | None
) -> None:
    """Write the adapter of one run: ``adapter_model.safetensors`` and ``adapter_config.json``.

    Args:
        model: the decoder ``add_lora`` worked on; rank, alpha and dropout are read off its layers.
        run: which run of the stack.
        folder: an existing folder.
        base_name: hub id or folder of the base model.
        revision: commit of the base model on the hub.
    """
    decoder = _decoder(model)
    config = _config(decoder, base_name, revision)
    tensors = _tensors(decoder, run)
    headed = _tensors(decoder, run, under=_place_in_causal_lm(decoder))
    write_tensors(Path(folder) / ADAPTER_FILE, {**tensors, **headed})
    text = json.dumps(config, indent=2, ensure_ascii=False)
    write_whole(Path(folder) / CONFIG_FILE, text.encode())


def load_adapter(model: nn.Module, run: int, folder: Path) -> None:
    """Read the adapter of one run into a model that ``add_lora`` prepared in the same way.

    Raises:
        InputError: a file is missing or unreadable, rank or alpha differ, or the tensors are not
            exactly those of the model.
    """
    decoder = _decoder(model)
    path = Path(folder) / CONFIG_FILE
    config = read_adapter_config(folder)
    layer = next(iter(stacked_layers(decoder).values()))
    for key, expected in (("peft_type", "LORA"), ("r", layer.rank), ("lora_alpha", layer.alpha)):
        if config.get(key) != expected:
            raise InputError(f"{path}: {key}: expected {expected}, got {config.get(key)}")
    for key in ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "modules_to_save"):
        if config.get(key):
            raise InputError(f"{path}: {key}: expected none, got {config[key]}; not supported")
    if config.get("bias", "none") != "none":
        raise InputError(f"{path}: bias: expected none, got {config['bias']}; not supported")
    tensors = _tensors(decoder, run)
    headed = _tensors(decoder, run, under=_place_in_causal_lm(decoder))
    twins = dict(zip(tensors, headed, strict=True))
    read_tensors(Path(folder) / ADAPTER_FILE, tensors, twins)


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The contents of ``adapter_config.json``.

    Raises:
        InputError: the file is missing or not a JSON object.
    """
    return read_object(Path(folder) / CONFIG_FILE)


def _decoder(model: nn.Module) -> nn.Module:
    """The decoder inside a model with a task head; transformers names it ``base_model``."""
    decoder = getattr(model, "base_model", model)
    assert isinstance(decoder, nn.Module) and stacked_layers(decoder), "the model has no LoRA"
    return decoder


def _place_in_causal_lm(decoder: nn.Module) -> str:
    """What the decoder is called inside the model with a language-model head."""
    return f"{decoder.base_model_prefix}."


def _tensors(decoder: nn.Module, run: int, under: str = "") -> dict[str, torch.Tensor]:
    """One run's slices under PEFT's names: A ``[rank, in]``, B ``[out, rank]``.

    Args:
        under: what stands before the names of layers in the model that PEFT is given.
    """
    tensors = {}
    for name, layer in stacked_layers(decoder).items():
        tensors[f"base_model.model.{under}{name}.lora_A.weight"] = layer.lora_A.detach()[run]
        tensors[f"base_model.model.{under}{name}.lora_B.weight"] = layer.lora_B.detach()[run]
    return tensors


def _config(decoder: nn.Module, base_name: str, revision: str | None) -> dict[str, Any]:
    layers = stacked_layers(decoder)
    layer = next(iter(layers.values()))
    return {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": base_name,
        "revision": revision,
        "inference_mode": True,
        "r": layer.rank,
        "lora_alpha": layer.alpha,
        "lora_dropout": layer.dropout,
        "bias": "none",
        "fan_in_fan_out": any(_transposed(adapted) for adapted in layers.values()),
        "target_modules": _target_names(decoder, layers),
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
    }


def _transposed(layer: StackedLoRALinear) -> bool:
    base = layer.base
    return base.transposed if isinstance(base, NF4Linear) else isinstance(base, Conv1D)


def _target_names(decoder: nn.Module, layers: dict[str, StackedLoRALinear]) -> list[str]:
    """Short names where they mean exactly the adapted layers to PEFT, full names otherwise."""
    short = short_names(list(layers))
    meant = {
        name
        for name, _ in decoder.named_modules()
        if not name.endswith(".base") and name.rpartition(".")[2] in short
    }
    return sorted(short) if meant == set(layers) else sorted(layers)
