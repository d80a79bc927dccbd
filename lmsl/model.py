"""A decoder with adapters and heads for a stack of runs, and how it is put together.

The decoder is transformers' own, without a task head. What is ours: the mask (``lmsl.unmask``),
the frozen NF4 linears, LoRA and the classifiers. Hidden states are read at words only.
"""

import importlib.resources
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as hf_logging

from lmsl.attention import no_mask
from lmsl.errors import InputError
from lmsl.head import StackedHead
from lmsl.packing import Pack

TINY = "tiny"
LabelAt = Literal["first", "last", "mean"]


class Tagger(nn.Module):
    """A decoder whose words are read and classified, for R runs at once.

    Args:
        decoder: a decoder that ``lmsl.unmask`` and ``lmsl.lora.add_lora`` have worked on.
        head: the classifiers of the same runs.
        label_at: which hidden state of a word is read.
    """

    def __init__(self, decoder: nn.Module, head: StackedHead, label_at: LabelAt) -> None:
        super().__init__()
        self.decoder = decoder
        self.head = head
        self.label_at = label_at

    def forward(self, pack: Pack) -> torch.Tensor:
        """Logits [R, W_cap, classes], float32."""
        hidden = self.decoder(
            input_ids=pack.ids,
            position_ids=pack.positions,
            attention_mask=no_mask(pack.ids.device),
            use_cache=False,
            packed=pack.attention,
        ).last_hidden_state
        hidden = hidden.view(pack.runs, -1, hidden.shape[-1])
        logits: torch.Tensor = self.head(read_words(hidden, pack, self.label_at))
        return logits


def read_words(hidden: torch.Tensor, pack: Pack, label_at: LabelAt) -> torch.Tensor:
    """Hidden states of the words: [R, T_cap, hidden] to [R, W_cap, hidden].

    The mean is a difference of running sums, in float64 so that long packs lose nothing.
    """
    width = hidden.shape[-1]

    def at(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return states.gather(1, positions.unsqueeze(-1).expand(-1, -1, width))

    if label_at == "first":
        return at(hidden, pack.starts)
    if label_at == "last":
        return at(hidden, pack.ends - 1)
    sums = nn.functional.pad(hidden.double().cumsum(1), (0, 0, 1, 0))
    counts = (pack.ends - pack.starts).unsqueeze(-1)
    return ((at(sums, pack.ends) - at(sums, pack.starts)) / counts).to(hidden.dtype)


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
    source = _source(name)
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
    tokenizer = load_tokenizer(name, revision)
    return Base(
        decoder=decoder,
        tokenizer=tokenizer,
        name=name,
        revision=revision or getattr(config, "_commit_hash", None),
        depth=depth,
    )


def load_tokenizer(name: str, revision: str | None = None) -> Any:
    """The tokenizer of a model: hub id, folder, or ``tiny``.

    Raises:
        InputError: there is none.
    """
    try:
        return AutoTokenizer.from_pretrained(_source(name, "tokenizer.json"), revision=revision)
    except InputError:
        raise
    except (OSError, ValueError, ImportError) as error:
        reason = _reason(error)
        raise InputError(f"--model {name}: its tokenizer cannot be loaded: {reason}") from error


def _reason(error: Exception) -> str:
    """What a library said, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _source(name: str, file: str = "config.json") -> str:
    """What transformers should load: the package's own folder, a checked folder, or a hub id."""
    if name == TINY:
        return str(importlib.resources.files("lmsl") / "tiny")
    if name.startswith((".", "/", "~")) or Path(name).exists():
        return str(_model_folder(name, file))
    return name


def _model_folder(name: str, file: str) -> Path:
    folder = Path(name).expanduser()
    if not (folder / file).is_file():
        raise InputError(
            f"--model {name}: expected a folder with {file}, found "
            f"{'none there' if folder.is_dir() else 'no such folder'}"
        )
    return folder


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

    Both settings are the library's own switches and are put back; errors still raise.
    """
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def choose_device(name: str) -> torch.device:
    """The device of a ``--device`` value.

    Raises:
        InputError: it does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        # Reading a number back tells a device that computes from one that only has a name.
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--device {name}: not available here: {reason:.150}") from error
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of a ``--dtype`` value; ``auto`` is bfloat16 on CUDA and float32 elsewhere."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype
