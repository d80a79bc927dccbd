"""Who is compared in the benchmark of prediction, all of them over the weights of one run.

The peers are transformers' own: the run's dequantised weights with its adapter added and its head,
as a ``ForTokenClassification`` model. They get tokenisation in Rust, inference mode and, in the
padded loop, sentences sorted by length; nothing of theirs is slowed down.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from lmsl.base import load_base
from lmsl.errors import InputError
from lmsl.examples import build_examples
from lmsl.labeler import Labeler
from lmsl.lora import StackedLoRALinear
from lmsl.quantize import NF4Linear
from lmsl.tagging import emissions

# Both sides compute in float32; adding the adapters to the weights rounds once more.
TOLERANCE = 1e-3

Words = Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Ours and the peer on the same sentences."""

    sentences: int
    words: int
    same_tokens: bool
    log_probability: float
    """The largest difference of a log-probability of a word."""
    labels: int
    """Words with another label from the pipeline, those aside that are a tie within tolerance."""

    @property
    def holds(self) -> bool:
        # Written so that a NaN does not pass.
        return self.same_tokens and self.labels == 0 and self.log_probability <= TOLERANCE

    def line(self) -> str:
        """For people."""
        return (
            f"gate, {self.words} words: {'same' if self.same_tokens else 'OTHER'} sub-words, "
            f"log-probabilities differ by {self.log_probability:.1e}, {self.labels} labels: "
            f"{'ok' if self.holds else 'FAILED'}"
        )

    def record(self) -> dict[str, object]:
        return asdict(self) | {"holds": self.holds}


def merged_peer(labeler: Labeler, model: str) -> Any:
    """The run of ``labeler`` as a token-classification model of transformers, float32 on CPU.

    Raises:
        InputError: transformers has no such model for this base with a head called ``score``.
    """
    from transformers import AutoModelForTokenClassification

    names = labeler.info.labels.names
    peer = AutoModelForTokenClassification.from_pretrained(
        load_base(model).decoder.name_or_path,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        dtype=torch.float32,
        attn_implementation="sdpa",
    ).eval()
    if not hasattr(peer, "score"):
        raise InputError(
            f"--model {model}: expected a peer whose head is called score, found none"
        )
    with torch.no_grad():
        for name, weight in _merged(labeler.tagger.decoder):
            peer.base_model.get_submodule(name).weight.copy_(weight)
        peer.score.weight.copy_(labeler.tagger.head.weight[0])
        peer.score.bias.copy_(labeler.tagger.head.bias[0])
    return peer


def _merged(decoder: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The weight of every quantised or adapted layer, with its adapter added."""
    for name, module in decoder.named_modules():
        if isinstance(module, StackedLoRALinear):
            added = module.scaling * module.lora_B[0] @ module.lora_A[0]
            yield name, _weight(module.base) + added
        elif isinstance(module, NF4Linear) and not name.endswith(".base"):
            yield name, module.dequantize()


def _weight(layer: Any) -> torch.Tensor:
    return layer.dequantize() if isinstance(layer, NF4Linear) else layer.weight


def build_pipeline(peer: Any, tokenizer: Any) -> Any:
    """transformers' pipeline without aggregation: one label for each sub-word."""
    from transformers import pipeline

    return pipeline(
        "token-classification",
        model=peer,
        tokenizer=tokenizer,
        aggregation_strategy="none",
        device="cpu",
    )


def padded_loop(peer: Any, tokenizer: Any, sentences: Words, batch_size: int) -> list[list[str]]:
    """Tags by what people write by hand for speed: sorted by length, padded, argmax, one label a
    word at its last sub-word."""
    texts = [" ".join(words) for words in sentences]
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    found: list[list[str]] = [[] for _ in texts]
    names = peer.config.id2label
    with torch.inference_mode():
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            batch = tokenizer(
                [list(sentences[index]) for index in chosen],
                is_split_into_words=True,
                padding=True,
                padding_side="right",
                return_tensors="pt",
            )
            best = peer(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                use_cache=False,
            ).logits.argmax(-1)
            for row, index in enumerate(chosen):
                labels, tags = best[row].tolist(), [""] * len(sentences[index])
                for place, word in enumerate(batch.word_ids(row)):
                    if word is not None:
                        tags[word] = names[labels[place]]
                found[index] = tags
    return found


def agreement(labeler: Labeler, pipe: Any, sentences: Words) -> Agreement:
    """Hold ours against the peer, a sentence at a time, and against the labels of its pipeline."""
    texts = [" ".join(words) for words in sentences]
    examples = build_examples(
        [labeler.sentence(words) for words in sentences],
        labeler.aligner,
        max_length=labeler.info.max_length,
        overflow=labeler.info.overflow,
    ).examples
    ours = emissions(
        labeler.tagger,
        examples,
        [len(words) for words in sentences],
        tokens_per_batch=labeler.info.tokens_per_batch,
        device=labeler.device,
    )
    answers = pipe(texts, ignore_labels=[])
    same, furthest, other = True, 0.0, 0
    for example, own, text, answer in zip(examples, ours, texts, answers, strict=True):
        ids = pipe.tokenizer(text)["input_ids"]
        same &= ids == example.ids.tolist()
        with torch.inference_mode():
            logits = pipe.model(torch.from_numpy(example.ids[None]), use_cache=False).logits[0]
        peer = logits.double().log_softmax(-1).numpy()[example.ends - 1]
        furthest = max(furthest, float(np.abs(own - peer).max()))
        labels = {token["index"]: token["entity"] for token in answer}
        chosen = [labeler.info.labels.names[best] for best in own.argmax(-1)]
        top = np.sort(own, axis=-1)
        clear = top[:, -1] - top[:, -2] > TOLERANCE
        other += sum(
            bool(sure) and labels.get(end - 1) != tag
            for end, tag, sure in zip(example.ends.tolist(), chosen, clear, strict=True)
        )
    return Agreement(
        sentences=len(sentences),
        words=sum(len(words) for words in sentences),
        same_tokens=same,
        log_probability=furthest if same else float("inf"),
        labels=other,
    )


def counted(work: Callable[[], object], sentences: int) -> Callable[[], int]:
    """Work for ``interleave``, counted in sentences."""

    def step() -> int:
        work()
        return sentences

    return step
