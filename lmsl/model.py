"""A decoder with adapters and heads for a stack of runs, and how it is put together.

The decoder is transformers' own, without a task head. What is ours: the mask (``lmsl.unmask``),
the frozen NF4 linears, LoRA, the classifiers and, where the decoder's layers are Llama-shaped, the
forward (``lmsl.block``). Hidden states are read at words only.
"""

import importlib.resources
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as hf_logging

from lmsl.attention import no_mask
from lmsl.block import Block
from lmsl.errors import InputError
from lmsl.fused_linear import ReadRows
from lmsl.head import StackedHead
from lmsl.hub import cached_folder, unreachable
from lmsl.packing import Pack

TINY = "tiny"
LabelAt = Literal["first", "last", "mean"]


class Tagger(nn.Module):
    """A decoder whose words are read and classified, for R runs at once.

    Args:
        decoder: a decoder that ``lmsl.unmask`` and ``lmsl.lora.add_lora`` have worked on.
        head: the classifiers of the same runs.
        label_at: which hidden state of a word is read.
        block: a forward of ours over the same decoder; None goes through transformers' own.
    """

    def __init__(
        self,
        decoder: nn.Module,
        head: StackedHead,
        label_at: LabelAt,
        block: Block | None = None,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.head = head
        self.label_at = label_at
        self.block = block

    def forward(self, pack: Pack) -> torch.Tensor:
        """Logits [R, W_cap, classes], float32."""
        logits: torch.Tensor = self.head(self._words(pack))
        return logits

    def _words(self, pack: Pack) -> torch.Tensor:
        """The hidden states of all words, [R, W_cap, hidden]."""
        read = None
        if self.block is None:
            hidden = self._hidden(pack)
        else:
            read = read_rows(pack, self.label_at)
            hidden = self.block(pack.ids, pack.positions, pack.attention, read)
        rows = hidden.view(pack.runs, hidden.shape[-2] // pack.runs, hidden.shape[-1])
        return read_words(rows, pack, self.label_at) if read is None else rows

    def _hidden(self, pack: Pack) -> torch.Tensor:
        """The last hidden states by transformers' own forward, [R * T_cap, hidden]."""
        hidden: torch.Tensor = self.decoder(
            input_ids=pack.ids,
            position_ids=pack.positions,
            attention_mask=no_mask(pack.ids.device),
            use_cache=False,
            packed=pack.attention,
        ).last_hidden_state
        return hidden[0]


def read_rows(pack: Pack, label_at: LabelAt) -> ReadRows | None:
    """The rows of the pack where words are read; None where nearly all are."""
    if label_at == "mean":
        return None
    tokens = pack.ids.shape[1] // pack.runs
    places = pack.starts if label_at == "first" else pack.ends - 1
    firsts = tokens * torch.arange(pack.runs, device=places.device)
    return ReadRows(index=(places + firsts.unsqueeze(1)).flatten(), tokens=tokens)


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
