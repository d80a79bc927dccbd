"""One architecture, two objectives: masked words, or the next word.

Both begin with the same weights and see the same blocks, with the same optimizer and rate. The one
is transformers' RobertaForMaskedLM, the other its RobertaForCausalLM with ``is_decoder``, whose
parts and sizes are the same. There is no dropout: a text is read once, and what fine-tunes them
has none inside the model either.
"""

import copy
import io
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    DataCollatorForLanguageModeling,
    RobertaConfig,
    RobertaForCausalLM,
    RobertaForMaskedLM,
)

from benchmarks.small_scale.text import BLOCK, SEED, Corpus
from lmsl.config.config import Config
from lmsl.errors import InputError, TrainingError
from lmsl.run_directory.files import write_whole
from lmsl.training.optim import build_optimizer
from lmsl.training.schedule import lr_factor

Objective = Literal["masked", "causal"]
OBJECTIVES: tuple[Objective, ...] = ("masked", "causal")
LAYERS = 4
_WARMUP, _WEIGHT_DECAY, _BETA2, _NORM = 0.02, 0.1, 0.95, 1.0
_HIDDEN = 0.15
"""Share of words that are to be found."""
_NO_LABEL = -100


@dataclass(frozen=True, kw_only=True)
class Course:
    """What both objectives are trained by."""

    corpus: Corpus
    width: int
    head: int
    """Width of an attention head."""
    blocks: int
    """Of an update."""
    updates: int
    lr: float

    @property
    def tokens(self) -> int:
        """Of an update."""
        return self.blocks * BLOCK


@dataclass(eq=False, kw_only=True)
class Learner:
    """A model on its way."""

    objective: Objective
    model: Any
    optimizer: torch.optim.Optimizer
    updates: int = 0
    """Made so far."""
    losses: list[float] = field(default_factory=list)
    """Of every update."""

    def state(self) -> dict[str, Any]:
        return {
            "updates": self.updates,
            "losses": self.losses,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }


def beginner(objective: Objective, course: Course) -> Learner:
    """A learner before its first update; its weights are those of the other objective's."""
    tokenizer = course.corpus.tokenizer
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=course.width,
        num_hidden_layers=LAYERS,
        num_attention_heads=course.width // course.head,
        intermediate_size=4 * course.width,
        # Positions are counted from the one behind that of filling.
        max_position_embeddings=BLOCK + tokenizer.pad_token_id + 1,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        is_decoder=objective == "causal",
        use_cache=False,
    )
    torch.manual_seed(SEED)
    model: Any = (RobertaForCausalLM if objective == "causal" else RobertaForMaskedLM)(config)
    optimizer = build_optimizer(
        dict(model.named_parameters()),
        name="adamw",
        lr=course.lr,
        beta2=_BETA2,
        epsilon=1e-8,
        weight_decay=_WEIGHT_DECAY,
    )
    return Learner(objective=objective, model=model.train(), optimizer=optimizer)


def learn(learner: Learner, course: Course) -> float:
    """Make one update; its loss.

    Raises:
        TrainingError: it is not finite.
    """
    number = learner.updates
    ids = course.corpus.batch(number, course.blocks)
    rate = course.lr * rate_factor(number, course.updates)
    for group in learner.optimizer.param_groups:
        group["lr"] = rate
    total = loss_of(learner, ids, course.corpus.tokenizer, number)
    loss: float = total.item()
    if not loss < float("inf"):
        raise TrainingError(
            f"update {number + 1} of {learner.objective} words: expected a finite loss, got "
            f"{loss}; lower --pretraining-lr"
        )
    total.backward()
    torch.nn.utils.clip_grad_norm_(learner.model.parameters(), _NORM)
    learner.optimizer.step()
    learner.optimizer.zero_grad()
    learner.updates += 1
    learner.losses.append(loss)
    return loss


def rate_factor(update: int, updates: int) -> float:
    """The rate of an update, counted from 0, as a share of the peak: warm-up, cosine to 0."""
    config = Config(batch_size=1, epochs=1, warmup=_WARMUP, schedule="cosine")
    return lr_factor(update, updates, config)


def loss_of(learner: Learner, ids: Tensor, tokenizer: Any, seed: int) -> Tensor:
    """The mean loss of blocks [blocks, BLOCK], by transformers' own forward.

    Args:
        seed: of what is masked.
    """
    if learner.objective == "causal":
        loss: Tensor = learner.model(input_ids=ids, labels=ids).loss
        return loss
    shown, labels = masked(ids, tokenizer, seed)
    # As the model's own loss, but for the words that are not to be found: their predictions, four
    # fifths of the work, would be thrown away.
    wanted = labels != _NO_LABEL
    hidden = learner.model.roberta(input_ids=shown).last_hidden_state[wanted]
    return F.cross_entropy(learner.model.lm_head(hidden), labels[wanted])


def masked(ids: Tensor, tokenizer: Any, seed: int) -> tuple[Tensor, Tensor]:
    """Blocks with 15 % of the words to be found, and the labels: 80 % of these are hidden, 10 %
    replaced and 10 % as they were; special tokens are left alone."""
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=_HIDDEN, seed=seed)
    batch = collate([{"input_ids": row} for row in ids])
    return batch["input_ids"], batch["labels"]


@torch.no_grad()
def held_out_loss(learner: Learner, course: Course) -> float:
    """The loss on blocks that were not trained on."""
    rows = course.corpus.held_out
    parts = [
        loss_of(learner, own, course.corpus.tokenizer, place).item() * len(own)
        for place, own in enumerate(rows.split(course.blocks))
    ]
    return sum(parts) / len(rows)


def save_learner(learner: Learner, path: Path) -> None:
    """Everything that another process needs to go on."""
    whole = io.BytesIO()
    torch.save(learner.state(), whole)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, whole.getvalue())


def load_learner(learner: Learner, path: Path) -> None:
    """Take a learner to where it was saved, where it was.

    Raises:
        InputError: the file is none of it.
    """
    if not path.exists():
        return
    try:
        state = torch.load(path, weights_only=True)
        learner.model.load_state_dict(state["model"])
        learner.optimizer.load_state_dict(state["optimizer"])
        learner.updates, learner.losses = state["updates"], state["losses"]
    except Exception as error:
        raise InputError(f"{path}: cannot be gone on from; remove it to begin anew") from error


def save_model(learner: Learner, tokenizer: Any, folder: Path) -> None:
    """The model as an encoder without a head, so that what it sees is decided by who loads it;
    whole or not at all."""
    plain = copy.deepcopy(learner.model.roberta)
    plain.config.is_decoder = False
    new = folder.with_name(f"{folder.name}.new")
    plain.save_pretrained(new)
    tokenizer.save_pretrained(new)
    # There where a process ended between this and noting how far it was.
    shutil.rmtree(folder, ignore_errors=True)
    new.replace(folder)
