"""Loading a decoder and its tokenizer: from the hub, its cache, a folder or this package.

A base model is loaded without its task head, and with no more layers than are wanted. Whatever is
missing is said in one line, since what the libraries say of it rarely names the argument.
"""

import importlib.resources
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as hf_logging

from lmsl.errors import InputError
from lmsl.hub import cached_folder, unreachable

TINY = "tiny"


@dataclass(frozen=True, kw_only=True)
class Base:
    """A decoder as loaded, its tokenizer and where they came from."""

    decoder: Any
    tokenizer: Any
    name: str
    revision: str | None
    depth: int
    """Layers of the whole model, also where only the first few were loaded."""


def load_base(
    name: str,
    *,
    revision: str | None = None,
    exit_layer: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Base:
    """Load a decoder and its tokenizer; with ``exit_layer`` only its first layers.

    Args:
        name: hub id, folder, or ``tiny``.
        revision: of a hub model.
        exit_layer: how many layers to keep.
        dtype: of the weights.

    Raises:
        InputError: there is no such model here or on the hub, or it has fewer layers.
    """
    source, commit = _source(name, revision, "config.json")
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
        config, depth = _cut(config, exit_layer)
        with _quiet():
            decoder, loading = AutoModel.from_pretrained(
                source, config=config, revision=revision, dtype=dtype, output_loading_info=True
            )
    except InputError:
        raise
    except (OSError, ValueError, ImportError, RuntimeError, KeyError, SafetensorError) as error:
        raise InputError(f"--model {name}: cannot be loaded: {_reason(error)}") from error
    # transformers fills these with random numbers and goes on.
    if absent := sorted(loading["missing_keys"]):
        raise InputError(
            f"--model {name}: its weights lack {len(absent)} tensors, first {absent[0]}"
        )
    return Base(
        decoder=decoder,
        tokenizer=_tokenizer(name, source, revision),
        name=name,
        revision=revision or commit or getattr(config, "_commit_hash", None),
        depth=depth,
    )


def load_tokenizer(name: str, revision: str | None = None) -> Any:
    """The tokenizer of a model: hub id, folder, or ``tiny``.

    Raises:
        InputError: there is none.
    """
    return _tokenizer(name, _source(name, revision, "tokenizer.json")[0], revision)


def _tokenizer(name: str, source: str, revision: str | None) -> Any:
    if source != name or not from_hub(name):
        _check_folder(name, Path(source), "tokenizer.json")
    try:
        return AutoTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError, ImportError) as error:
        reason = _reason(error)
        raise InputError(f"--model {name}: its tokenizer cannot be loaded: {reason}") from error


def _reason(error: Exception) -> str:
    """What a library said, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def from_hub(name: str) -> bool:
    """Whether a model is neither ``tiny`` nor a folder here."""
    return not (name == TINY or name.startswith((".", "/", "~")) or Path(name).exists())


def _source(name: str, revision: str | None, file: str) -> tuple[str, str | None]:
    """What transformers should load, and its commit where it is a folder of the hub's cache.

    That is the package's own folder, a checked folder, a hub id or, where the hub cannot be
    reached, what its cache holds.
    """
    if name == TINY:
        return str(importlib.resources.files("lmsl") / "tiny"), None
    if not from_hub(name):
        folder = Path(name).expanduser()
        _check_folder(name, folder, file)
        return str(folder), None
    offline = unreachable(name, file, revision=revision)
    if offline is None:
        return name, None
    cached = cached_folder(name, revision)
    if cached is None:
        raise InputError(
            f"--model {name}: no such folder, nor in the cache of the Hugging Face hub, which "
            f"cannot be reached ({offline})"
        )
    return str(cached), cached.name


def _check_folder(name: str, folder: Path, file: str) -> None:
    if not (folder / file).is_file():
        raise InputError(
            f"--model {name}: expected a folder with {file}, found "
            f"{'none there' if folder.is_dir() else 'no such folder'}"
        )


def _cut(config: Any, exit_layer: int | None) -> tuple[Any, int]:
    """The configuration of the first ``exit_layer`` layers, and the depth of the whole."""
    text = config.get_text_config()
    depth = getattr(text, "num_hidden_layers", None)
    if not isinstance(depth, int):
        raise InputError(f"--model: {type(config).__name__} does not say how many layers it has")
    if exit_layer is not None:
        if exit_layer > depth:
            raise InputError(f"--exit-layer: expected at most {depth} layers, got {exit_layer}")
        text.num_hidden_layers = exit_layer
        if getattr(text, "layer_types", None):
            text.layer_types = list(text.layer_types[:exit_layer])
    return text, depth


@contextmanager
def _quiet() -> Iterator[None]:
    """Mutes transformers' bar and its table of unused weights: the task head left out on purpose.

    The hub's own bars, of downloads that may take long, stay. All settings are the libraries' own
    switches and are put back; errors still raise.
    """
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    downloads = not are_progress_bars_disabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    if downloads:
        enable_progress_bars()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
