"""Prompters, sentences, and random language models with the tokenizer of `tiny`."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from lmsl.config.config import Config
from lmsl.data.tags.schemes import spans_to_tags
from lmsl.data.tags.sentence import Sentence, Span
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.generation.examples import Prompter
from lmsl.generation.prompt import choose_prompt
from lmsl.packs.alignment import Aligner
from lmsl.tagger.source import tiny_folder
from tests.decoders import config_of

LABELS = LabelSet(("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))


def prompter(tokenizer: Any, labels: LabelSet = LABELS, **settings: Any) -> Prompter:
    config = Config(task="generate", **settings)
    generation, _ = choose_prompt(config, labels, tokenizer)
    return Prompter(
        Aligner(tokenizer),
        tokenizer,
        generation,
        labels,
        max_length=config.max_length,
        overflow=config.overflow,
    )


def sentence(text: str, *spans: tuple[int, int, str], **more: Any) -> Sentence:
    words = tuple(text.split(" "))
    found = [Span(start=start, end=end, type=kind) for start, end, kind in spans]
    return Sentence(words=words, tags=spans_to_tags(found, len(words)), **more)


def write_causal_lm(folder: Path, family: str, **changes: Any) -> None:
    """A random language model of 4 layers as a folder, with the tokenizer of `tiny`."""
    config = config_of(family, vocab_size=2048, **changes)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder() / name, folder)


def real_model(name: str) -> str:
    """The folder of a pre-trained model; the test is skipped where there is none."""
    folder = Path(os.environ.get("LMSL_MODELS", "")) / name
    if "LMSL_MODELS" not in os.environ or not folder.is_dir():
        pytest.skip(f"LMSL_MODELS names no folder with {name}")
    return str(folder)
