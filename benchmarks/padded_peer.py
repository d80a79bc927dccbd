"""The training step people would write today: transformers + PEFT (+ bitsandbytes), padded.

Random batches padded to their longest sentence, SDPA attention, LoRA by PEFT over NF4 linears of
bitsandbytes or over dense weights. Everything that is not the point of a comparison is granted to
it: sentences are tokenised beforehand, collation is a few numpy writes, AdamW is fused, there is
no gradient checkpointing and no logging.

The model stays in train mode for life. On CPUs with AVX512-BF16 the first forward of
``bitsandbytes.nn.Linear4bit`` in eval mode without gradients repacks its weights in place, after
which it computes in other arithmetic and loses the gradient; in train mode it never does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from lmsl.config import Config
from lmsl.errors import InputError
from lmsl.examples import Example
from lmsl.loop import Task, draw_updates
from lmsl.lora import stacked_layers, trainable_parameters
from lmsl.model import Tagger
from lmsl.vocabulary import IGNORED_ID


@dataclass(frozen=True, kw_only=True)
class PeerUpdate:
    """What one update of the peer did."""

    loss: float
    grad_norm: float
    tokens: int
    """Real tokens."""


def build_peer(
    source: str, config: Config, *, classes: int, targets: Sequence[str], seed: int
) -> nn.Module:
    """A token-classification model on CPU with LoRA and a trained head, in train mode.

    Args:
        source: hub id or folder of the base model.
        config: quantisation, rank, alpha and dropout are read from it.
        classes: number of labels.
        targets: names of the adapted layers.
        seed: of the initial values.

    Raises:
        InputError: transformers has no token-classification model for this base, or one whose
            head is not called ``score``.
    """
    from peft import LoraConfig, TaskType, get_peft_model, prepare_model_for_kbit_training

    torch.manual_seed(seed)
    model = _load_classifier(source, config, classes)
    if config.quantize == "nf4":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    lora = LoraConfig(
        task_type=TaskType.TOKEN_CLS,
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=list(targets),
    )
    adapted: nn.Module = get_peft_model(model, lora).train()
    return adapted


def _load_classifier(source: str, config: Config, classes: int) -> Any:
    from transformers import AutoConfig, AutoModelForTokenClassification, BitsAndBytesConfig

    settings = AutoConfig.from_pretrained(source, num_labels=classes)
    settings.classifier_dropout = config.head_dropout
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
        # Without it the classifier is quantised too.
        llm_int8_skip_modules=["score", "classifier", "lm_head"],
    )
    try:
        model = AutoModelForTokenClassification.from_pretrained(
            source,
            config=settings,
            dtype=torch.float32,
            attn_implementation="sdpa",
            device_map={"": "cpu"},
            quantization_config=nf4 if config.quantize == "nf4" else None,
        )
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--model {source}: the peer cannot be built: {reason:.200}") from error
    if not hasattr(model, "score"):
        raise InputError(
            f"--model {source}: expected the peer's head to be called score, got "
            f"{type(model).__name__} without one; use a Llama-like model"
        )
    return model


def peer_updates(
    model: nn.Module,
    task: Task,
    config: Config,
    *,
    seed: int,
    optimizer: torch.optim.Optimizer | None,
) -> Iterator[PeerUpdate]:
    """Train on the sentences that lmsl's own loop draws by ``seed``, yielding after every update.

    Without an optimizer the gradients are computed, and nothing is trained.
    """
    trained = list(trainable_parameters(model).values())
    padding_id = model.get_base_model().config.pad_token_id or 0  # type: ignore[operator]
    for sentences in draw_updates(len(task), config, seed):
        examples = [example for index in sentences for example in task.examples[index]]
        batch = collate(examples, task.labels, padding_id)
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trained, config.max_grad_norm)
        if optimizer is not None:
            optimizer.step()
        for parameter in trained:
            parameter.grad = None
        yield PeerUpdate(
            loss=float(loss.detach()),
            grad_norm=float(norm),
            tokens=sum(len(example.ids) for example in examples),
        )


def collate(
    examples: Sequence[Example], labels: Sequence[Sequence[int]], padding_id: int
) -> dict[str, torch.Tensor]:
    """Examples padded on the right to the longest, labels at the last sub-word of their words."""
    shape = (len(examples), max(len(example.ids) for example in examples))
    ids = np.full(shape, padding_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    targets = np.full(shape, IGNORED_ID, dtype=np.int64)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = example.ids
        mask[row, : len(example.ids)] = 1
        first = example.first_word
        own = labels[example.sentence][first : first + len(example.starts)]
        targets[row, example.ends - 1] = own
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
        "labels": torch.from_numpy(targets),
    }


def padding_share(task: Task, config: Config, *, seed: int, updates: int) -> float:
    """The share of padding in what the peer computes in its first ``updates`` updates."""
    real = computed = 0
    for sentences in islice(draw_updates(len(task), config, seed), updates):
        lengths = [len(example.ids) for index in sentences for example in task.examples[index]]
        real += sum(lengths)
        computed += len(lengths) * max(lengths)
    return 1.0 - real / computed


def copy_adapters(tagger: Tagger, peer: nn.Module) -> None:
    """Give the peer the adapters and the head of the first run of ``tagger``."""
    classifier: Any = peer.get_base_model()  # type: ignore[operator]
    decoder = classifier.base_model
    with torch.no_grad():
        for name, layer in stacked_layers(tagger.decoder).items():
            other = decoder.get_submodule(name)
            other.lora_A["default"].weight.copy_(layer.lora_A[0])
            other.lora_B["default"].weight.copy_(layer.lora_B[0])
        score = classifier.score.modules_to_save["default"]
        score.weight.copy_(tagger.head.weight[0])
        score.bias.copy_(tagger.head.bias[0])


def check_not_repacked(peer: nn.Module) -> None:
    """The frozen weights are still those that were quantised; see the head of this file."""
    for name, parameter in peer.named_parameters():
        state = getattr(parameter, "quant_state", None)
        packed = getattr(state, "packing_format_for_cpu", False)
        assert not packed, f"bitsandbytes repacked {name}"
