"""Loading a base model and its tokenizer.

It is loaded without its task head, with no more layers than are wanted, and with its own dropout
off: that is drawn from a generator that batches share, so a run in a stack would not be what it is
alone, and no attention of ours drops anything. Adapters and head have dropout of their own.
"""

import inspect
import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import logging as hf_logging

from lmsl.errors import InputError
from lmsl.tagger.source import (
    Source,
    check_folder,
    find_source,
    from_hub,
    gguf_fault,
    gguf_precision,
)
from lmsl.wording import one_line

Kind = Literal["decoder", "encoder"]
# Of heads that are left out.
_OTHER_DROPOUT = ("classifier", "summary")


@dataclass(frozen=True, kw_only=True)
class Base:
    """A model as loaded, its tokenizer and where they came from."""

    decoder: Any
    """Without a head; also where it is an encoder."""
    tokenizer: Any
    name: str
    revision: str | None
    depth: int
    """Layers of the whole model, also where only the first few were loaded."""
    kind: Kind = "decoder"
    folder: Path | None = None
    """Where its files lie: the folder named, the hub's snapshot or the GGUF file; None where none
    is known."""
    causal_lm: Any = None
    """The same model with its language-model head, where that was asked for."""
    dropped: tuple[str, ...] = ()
    """Dropout of its own that is off."""
    parameters: int = 0
    """Of the layers that are kept and the embeddings."""

    @property
    def notes(self) -> tuple[str, ...]:
        """For people: what was changed or chosen in loading; reads a GGUF file again."""
        found = []
        if self.folder is not None and self.folder.is_file():
            held = gguf_precision(self.folder)
            dtype = str(self.decoder.dtype).removeprefix("torch.")
            found.append(f"base: {self.folder.name} holds {held}, dequantised to {dtype}")
        if self.dropped:
            found.append(f"base: its own dropout is off ({', '.join(self.dropped)})")
        return tuple(found)


def load_base(
    name: str,
    *,
    revision: str | None = None,
    exit_layer: int | None = None,
    dtype: torch.dtype = torch.float32,
    causal_lm: bool = False,
) -> Base:
    """Load a model and its tokenizer; with ``exit_layer`` only its first layers.

    Args:
        name: hub id, folder, GGUF file, or ``tiny``.
        revision: of a hub model.
        exit_layer: how many layers to keep.
        dtype: of the weights.
        causal_lm: with the language-model head, in ``causal_lm``.

    Raises:
        InputError: there is no such model here or on the hub, it has fewer layers, or it is an
            encoder and has no such head.
    """
    source = find_source(name, revision, "config.json")
    try:
        config = AutoConfig.from_pretrained(
            source.path, revision=revision, trust_remote_code=False, **source.file
        )
        kind = _kind(name, config, causal_lm)
        config, depth = _cut(config, exit_layer)
        dropped = _without_dropout(config)
        with _quiet(), _no_bar_of_gguf(source):
            model, loading = _load(source, config, revision, dtype, causal_lm)
    except InputError:
        raise
    except Exception as error:
        # A damaged file makes the libraries raise anything, a bare Exception included.
        raise InputError(f"--model {name}: cannot be loaded: {_reason(error, source)}") from error
    # transformers fills these with random numbers and goes on.
    if absent := sorted(loading["missing_keys"]):
        raise InputError(
            f"--model {name}: its weights lack {len(absent)} tensors, first {absent[0]}"
        )
    commit = getattr(config, "_commit_hash", None)
    decoder = model.base_model if causal_lm else model
    return Base(
        decoder=decoder,
        causal_lm=model if causal_lm else None,
        tokenizer=_tokenizer(name, source, revision),
        name=name,
        revision=revision or source.commit or commit,
        depth=depth,
        kind=kind,
        folder=source.lies_in(commit or revision),
        dropped=tuple(dropped),
        parameters=sum(p.numel() for p in decoder.parameters()),
    )


def _load(
    source: Source, config: Any, revision: str | None, dtype: torch.dtype, causal_lm: bool
) -> tuple[Any, dict[str, Any]]:
    """The model, and what transformers tells of its loading."""
    kind: Any = AutoModelForCausalLM if causal_lm else AutoModel
    model, loading = kind.from_pretrained(
        source.path,
        config=config,
        revision=revision,
        dtype=dtype,
        output_loading_info=True,
        trust_remote_code=False,
        # Of the other formats some run what they bring when they are opened.
        use_safetensors=True,
        **_without_pooler(config),
        **source.file,
    )
    if source.gguf is not None:
        # The weights are plain numbers now, whatever the file held.
        del model.config.quantization_config
    return model, loading


def _kind(name: str, config: Any, causal_lm: bool) -> Kind:
    """What a model is; InputError where that is not what is wanted."""
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(
            f"--model {name}: {config.model_type} is an encoder-decoder; expected a decoder or an "
            "encoder"
        )
    # Encoders of transformers are those that can fill in a masked word and cannot go on writing,
    # or only where they are told to be a decoder.
    text = config.get_text_config()
    masked = text.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if not masked or getattr(text, "is_decoder", False):
        return "decoder"
    if causal_lm:
        raise InputError(
            f"--model {name}: {config.model_type} is an encoder and predicts no next word; "
            "expected a decoder"
        )
    return "encoder"


def _without_dropout(config: Any) -> list[str]:
    """Set every probability of dropping something to 0, in place; what was set."""
    found = {
        key: value
        for key, value in config.to_dict().items()
        if "drop" in key and isinstance(value, float) and value > 0
    }
    for key in found:
        setattr(config, key, 0.0)
    return [f"{k} {v:g}" for k, v in found.items() if not k.startswith(_OTHER_DROPOUT)]


def _without_pooler(config: Any) -> dict[str, Any]:
    """The argument that leaves out a pooler, which files saved with another head lack."""
    kind = AutoModel._model_mapping.get(type(config), None)
    takes = kind is not None and "add_pooling_layer" in inspect.signature(kind).parameters
    return {"add_pooling_layer": False} if takes else {}


def load_tokenizer(name: str, revision: str | None = None) -> Any:
    """The tokenizer of a model: hub id, folder, GGUF file, or ``tiny``.

    Raises:
        InputError: there is none.
    """
    return _tokenizer(name, find_source(name, revision, "tokenizer.json"), revision)


def _tokenizer(name: str, source: Source, revision: str | None) -> Any:
    if source.gguf is None and (source.path != name or not from_hub(name)):
        check_folder(name, Path(source.path), "tokenizer.json")
    try:
        with _quiet():
            return AutoTokenizer.from_pretrained(
                source.path, revision=revision, trust_remote_code=False, **source.file
            )
    except Exception as error:
        reason = _reason(error, source)
        raise InputError(f"--model {name}: its tokenizer cannot be loaded: {reason}") from error


def _reason(error: Exception, source: Source) -> str:
    """What a library said, on one line, or what it did not find the words for."""
    if source.gguf is not None and (fault := gguf_fault(source)) is not None:
        return fault
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


def _no_bar_of_gguf(source: Source) -> AbstractContextManager[Any]:
    """Where a GGUF file is read nothing but a bar that no switch mutes goes to standard error."""
    return nullcontext() if source.gguf is None else redirect_stderr(io.StringIO())


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
