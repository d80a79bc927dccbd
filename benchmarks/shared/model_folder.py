"""A model of random weights as a folder, for whoever loads models by name.

Its tokenizer knows one character for each id, so that a sentence of random ids is a text, whose
words are as many sub-words as they are in the task, and everybody's tokenizer does its work. It is
faster than one of a real model, which merges; it is the same for all contenders.
"""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lmsl.tagger.base import Base
from lmsl.training.loop import Task

# Characters in a row that are letters, have one form, and do not join with their neighbours.
_FIRST, _MOST = 0x4E00, 20_000
_SPECIAL = ("<unk>", "</s>", "<pad>")


def write_model(base: Base, folder: Path) -> None:
    """Write the decoder as a causal language model, and a tokenizer of random words.

    The head that predicts words is nobody's here: it is tied to the embeddings and adds nothing.
    """
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(base.decoder.config)
    config.tie_word_embeddings = True
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    setattr(model, model.base_model_prefix, base.decoder)
    model.tie_weights()
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    _say_to_older_versions(folder / "config.json")
    write_tokenizer(config.vocab_size, folder)


def _say_to_older_versions(path: Path) -> None:
    """The base of the rotary embeddings where transformers 4 looks for it."""
    config = json.loads(path.read_text(encoding="utf-8"))
    rotary = config.get("rope_parameters") or {}
    if "rope_theta" in rotary:
        config["rope_theta"] = rotary["rope_theta"]
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_tokenizer(vocabulary: int, folder: Path) -> None:
    """A tokenizer of ``text_ids(vocabulary)`` ids and, at the end, a few special ones; 0 begins
    every text."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    known = text_ids(vocabulary)
    tokens = ["<s>", *(chr(_FIRST + one) for one in range(1, known)), *_SPECIAL]
    ids = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
    )
    tokenizer.add_special_tokens(["<s>", *_SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    # Written by hand, so that older versions of transformers read it too.
    names = {"bos_token": "<s>", "unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **names, "model_max_length": 4096}
    text = json.dumps(settings, indent=1) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def text_ids(vocabulary: int) -> int:
    """How many ids, from 0, sentences may be made of."""
    return min(vocabulary - len(_SPECIAL), _MOST)


def as_words(task: Task) -> list[list[str]]:
    """The sentences of a task of random ids below ``text_ids`` as words."""
    sentences = []
    for (example,) in task.examples:
        letters = np.asarray(example.ids) + _FIRST
        spans = zip(example.starts.tolist(), example.ends.tolist(), strict=True)
        sentences.append([_word(letters[start:end]) for start, end in spans])
    return sentences


def _word(letters: Sequence[Any] | np.ndarray) -> str:
    return "".join(map(chr, letters))
