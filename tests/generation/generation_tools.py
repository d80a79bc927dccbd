"""Prompters over small tokenizers, and a language model that can be taught in a moment."""

from typing import Any

from lmsl.config.config import Config
from lmsl.data.tags.schemes import spans_to_tags
from lmsl.data.tags.sentence import Sentence, Span
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.generation.examples import Prompter
from lmsl.generation.prompt import choose_prompt
from lmsl.packs.alignment import Aligner

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
