"""The peers of the benchmark of prediction, over the weights of one run.

They are transformers' own: the run's dequantised weights with its adapter added and its head, as a
``ForTokenClassification`` model. They get tokenisation in Rust, inference mode and, in one of the
padded loops, sentences sorted by length; nothing of theirs is slowed down.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from lmsl.errors import InputError
from lmsl.layers.head import StackedHead
from lmsl.layers.lora import StackedLoRALinear
from lmsl.layers.quantize import NF4Linear
from lmsl.tagger.labeler import Labeler


def merged_peer(labeler: Labeler) -> Any:
    """The run of ``labeler`` as a token-classification model of transformers, in float32.

    Raises:
        InputError: transformers has no such model for this base with a head called ``score``.
    """
    from transformers import AutoModelForTokenClassification

    names = labeler.info.labels.names
    peer = AutoModelForTokenClassification.from_pretrained(
        labeler.tagger.decoder.name_or_path,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        dtype=torch.float32,
        attn_implementation="sdpa",
        trust_remote_code=False,
        use_safetensors=True,
    ).eval()
    if not hasattr(peer, "score"):
        raise InputError(
            f"--model {labeler.info.base}: expected a peer whose head is called score, found none"
        )
    peer.to(labeler.device)
    with torch.no_grad():
        for name, weight in _merged(labeler.tagger.decoder):
            peer.base_model.get_submodule(name).weight.copy_(weight)
        head = labeler.tagger.head
        assert isinstance(head, StackedHead)
        peer.score.weight.copy_(head.weight[0])
        peer.score.bias.copy_(head.bias[0])
    return peer


def _merged(decoder: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The weight of every quantised or adapted layer, with its adapter added."""
    for name, module in decoder.named_modules():
        if isinstance(module, StackedLoRALinear):
            added = module.scaling * module.lora_B[0].float() @ module.lora_A[0].float()
            yield name, _weight(module.base).float() + added
        elif isinstance(module, NF4Linear) and not name.endswith(".base"):
            yield name, module.dequantize()


def _weight(layer: Any) -> torch.Tensor:
    return layer.dequantize() if isinstance(layer, NF4Linear) else layer.weight


def build_pipeline(peer: Any, tokenizer: Any) -> Any:
    """transformers' pipeline without aggregation: one label for each sub-word."""
    from transformers import pipeline

    if tokenizer.pad_token is None:
        # Batches are padded with something; what it is, the mask hides.
        tokenizer.pad_token = tokenizer.eos_token
    return pipeline(
        "token-classification",
        model=peer,
        tokenizer=tokenizer,
        aggregation_strategy="none",
        device=peer.device,
    )


def padded_loop(
    peer: Any,
    tokenizer: Any,
    sentences: Sequence[Sequence[str]],
    batch_size: int,
    *,
    by_length: bool = True,
) -> list[list[str]]:
    """Tags by what people write by hand: padded, argmax, one label a word at its last sub-word.

    Args:
        by_length: sort the sentences first, for speed.
    """
    order = list(range(len(sentences)))
    if by_length:
        sizes = [len(" ".join(words)) for words in sentences]
        order.sort(key=sizes.__getitem__)
    found: list[list[str]] = [[] for _ in sentences]
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
            logits = peer(
                input_ids=batch["input_ids"].to(peer.device),
                attention_mask=batch["attention_mask"].to(peer.device),
                use_cache=False,
            ).logits
            best = logits.argmax(-1).tolist()
            for row, (index, labels) in enumerate(zip(chosen, best, strict=True)):
                tags = [""] * len(sentences[index])
                for place, word in enumerate(batch.word_ids(row)):
                    if word is not None:
                        tags[word] = names[labels[place]]
                found[index] = tags
    return found
