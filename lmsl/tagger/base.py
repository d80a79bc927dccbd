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
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import logging as hf_logging

from lmsl.errors import InputError
from lmsl.hub import cached_folder, unreachable
from lmsl.wording import one_line

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
    folder: Path | None = None
    """Where its files lie: the folder named, or the hub's snapshot; None where none is known."""


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
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        if getattr(config, "is_encoder_decoder", False):
            raise InputError(
                f"--model {name}: {config.model_type} is an encoder-decoder; expected a decoder"
            )
        config, depth = _cut(config, exit_layer)
        with _quiet():
            decoder, loading = AutoModel.from_pretrained(
                source,
                config=config,
                revision=revision,
                dtype=dtype,
                output_loading_info=True,
                trust_remote_code=False,
                # Of the other formats some run what they bring when they are opened.
                use_safetensors=True,
            )
    except InputError:
        raise
    except Exception as error:
        # A damaged file makes the libraries raise anything, a bare Exception included.
        raise InputError(f"--model {name}: cannot be loaded: {_reason(error)}") from error
    # transformers fills these with random numbers and goes on.
    if absent := sorted(loading["missing_keys"]):
        _refuse_encoder(name, config)
        raise InputError(
            f"--model {name}: its weights lack {len(absent)} tensors, first {absent[0]}"
        )
    return Base(
        decoder=decoder,
        tokenizer=_tokenizer(name, source, revision),
        name=name,
        revision=revision or commit or getattr(config, "_commit_hash", None),
        depth=depth,
        folder=_folder_of(source, getattr(config, "_commit_hash", None) or revision),
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
        return AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    except Exception as error:
        reason = _reason(error)
        raise InputError(f"--model {name}: its tokenizer cannot be loaded: {reason}") from error


def _reason(error: Exception) -> str:
    """What a library said, on one line."""
    said = one_line(error)
    if "trust_remote_code" in said:
        return (
            "it needs Python code that its files bring, and lmsl runs none of that; take a model "
            "whose architecture is in transformers"
        )
    if "no file named model.safetensors" in said or "use_safetensors" in said:
        return (
            "expected model.safetensors, or an index of its parts, found neither; pickled weights "
            "are never opened: whoever trusts them can convert them with save_pretrained"
        )
    return said[:300]


def _refuse_encoder(name: str, config: Any) -> None:
    """Name a model without a causal mask by its kind, not by what its weights lack: of an encoder
    saved with a head for masked words that is a pooler which nobody wants."""
    kind = config.model_type
    # Encoders of transformers are those that can fill in a masked word and cannot go on writing,
    # or only where they are told to be a decoder.
    masked = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if masked and not getattr(config, "is_decoder", False):
        raise InputError(
            f"--model {name}: {kind} is an encoder, which has no causal mask to take off; "
            "expected a decoder"
        )


def _folder_of(source: str, commit: str | None) -> Path | None:
    """The folder of a model that was just loaded."""
    folder = Path(source)
    return folder if folder.is_dir() else cached_folder(source, commit)


def tiny_folder() -> Path:
    """Where ``tiny`` lies, for programs that do not know its name."""
    return Path(str(importlib.resources.files("lmsl"))) / "tiny"


def from_hub(name: str) -> bool:
    """Whether a model is neither ``tiny`` nor a folder here."""
    return not (name == TINY or name.startswith((".", "/", "~")) or Path(name).exists())


def _source(name: str, revision: str | None, file: str) -> tuple[str, str | None]:
    """What transformers should load, and its commit where it is a folder of the hub's cache.

    That is the package's own folder, a checked folder, a hub id or, where the hub cannot be
    reached, what its cache holds.
    """
    if name == TINY:
        return str(tiny_folder()), None
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
