"""The text that both objectives are pre-trained on: a tokenizer, blocks of ids, and batches.

Paragraphs have their punctuation set apart, as in the files that taggers read (and in the paper's
BookCorpus). Each is put between the tokenizer's marks of begin and end; they are laid end to end
and cut into blocks. Which blocks an update sees is a function of its number alone, so that both
objectives see the same, and a resumed pre-training goes on as if it had not stopped.
"""

import io
import random
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lmsl.errors import InputError
from lmsl.tagger.base import load_tokenizer
from lmsl.wording import one_line
from scripts.pretrain_tiny import pieces, set_apart

BLOCK = 128
"""Tokens of a block."""
VOCABULARY = 8192
SEED = 120
_SPECIAL = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
"""In RoBERTa's order, but for the last."""
_HELD_OUT = 64
"""Blocks of a corpus, or a tenth of a small one, that are never trained on."""
_SAMPLE = 40_000
"""Paragraphs that a tokenizer is learned from."""
_AT_ONCE = 2000


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Blocks of a text as ids of a tokenizer."""

    tokenizer: Any
    blocks: NDArray[Any]
    """[blocks, BLOCK]."""

    @property
    def held_out(self) -> Tensor:
        """Blocks that no update sees, int64 [blocks, BLOCK]."""
        return self._rows(self._order[: _held(len(self.blocks))])

    def batch(self, update: int, size: int) -> Tensor:
        """The blocks of an update, counted from 0: int64 [size, BLOCK].

        Every pass over the text has an order of its own; a rest that fills no batch is left out.
        """
        trained = self._order[_held(len(self.blocks)) :]
        number, place = divmod(update, len(trained) // size)
        if number:
            trained = np.random.default_rng([SEED, number]).permutation(trained)
        return self._rows(trained[place * size : (place + 1) * size])

    @property
    def _order(self) -> NDArray[np.int64]:
        return np.random.default_rng(SEED).permutation(len(self.blocks))

    def _rows(self, numbers: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.blocks[numbers].astype(np.int64))


def corpus(text: Path, scratch: Path, tokenizer: Path | None, least: int) -> Corpus:
    """The corpus below ``scratch``, made there the first time.

    Args:
        tokenizer: a folder; None learns one from the text.
        least: blocks that one update needs.

    Raises:
        InputError: there is no such archive or tokenizer, or too little text in it.
    """
    folder, file = scratch / "tokenizer", scratch / "blocks.npy"
    if not file.exists():
        texts = [set_apart(piece) for novel in novels(text) for piece in pieces(novel)]
        known = learned(texts) if tokenizer is None else usable(load_tokenizer(str(tokenizer)))
        known.save_pretrained(folder)
        blocks = in_blocks(known, texts)
        if len(blocks) - _held(len(blocks)) < least:
            raise InputError(
                f"--text {text}: expected {least} blocks of {BLOCK} tokens and some to hold out "
                f"for --blocks {least}, found {len(blocks)}"
            )
        with file.with_suffix(".new").open("wb") as new:
            np.save(new, blocks)
        file.with_suffix(".new").replace(file)
    return Corpus(tokenizer=load_tokenizer(str(folder)), blocks=np.load(file, mmap_mode="r"))


def novels(path: Path) -> Iterator[str]:
    """The texts of an archive in its order.

    Raises:
        InputError: it cannot be read or holds no .txt file.
    """
    found = 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name.endswith(".txt") else None
                if file is not None:
                    found += 1
                    # Some begin with a byte order mark, and lines may end in any way.
                    yield io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace").read()
    except (OSError, tarfile.TarError, EOFError) as error:
        raise InputError(
            f"--text {path}: expected a tar archive of .txt files: {one_line(error)}"
        ) from error
    if not found:
        raise InputError(f"--text {path}: expected .txt files in it, found none")


def learned(texts: Sequence[str]) -> Any:
    """A byte-level BPE with RoBERTa's special tokens, learned on an even sample."""
    sample = random.Random(SEED).sample(texts, min(len(texts), _SAMPLE))
    own = Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    own.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(_SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    own.train_from_iterator(sample, trainer)
    ends = [(token, own.token_to_id(token)) for token in (_SPECIAL["bos"], _SPECIAL["eos"])]
    own.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=own,
        clean_up_tokenization_spaces=False,
        **{f"{name}_token": token for name, token in _SPECIAL.items()},
    )


def _held(blocks: int) -> int:
    return max(1, min(_HELD_OUT, blocks // 10))


def usable(tokenizer: Any) -> Any:
    """A tokenizer that can hide a word and fill a batch; ``InputError`` for others."""
    if tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
        raise InputError(
            "--tokenizer: expected a mask token and one to fill up with, as RoBERTa's has"
        )
    return tokenizer


def in_blocks(tokenizer: Any, texts: Sequence[str]) -> NDArray[Any]:
    """All texts end to end, cut into blocks [blocks, BLOCK]; a rest is left out."""
    kind = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    rows = [np.empty(0, dtype=kind)]
    for first in range(0, len(texts), _AT_ONCE):
        found = tokenizer(list(texts[first : first + _AT_ONCE]), verbose=False)["input_ids"]
        rows += [np.array(ids, dtype=kind) for ids in found]
    ids = np.concatenate(rows)
    return ids[: len(ids) // BLOCK * BLOCK].reshape(-1, BLOCK)
