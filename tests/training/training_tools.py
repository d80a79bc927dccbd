"""Training a tiny tagger in a test, and the loss by definition to compare it with."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from lmsl.cli import main
from lmsl.config.config import Config
from lmsl.data.tags.vocabulary import IGNORED_ID
from lmsl.packs.packing import Pack, pack
from lmsl.training.eager_step import MicroStep
from lmsl.training.loop import Task, Update, training_updates
from lmsl.training.optim import build_optimizer
from tests.small_runs import ADAPTER, SHORT
from tests.tagger.tagger_tools import CPU, Built

STRINGS = ("0011", "1101", "0000")
CONFIG = Config(batch_size=4, epochs=2, warmup=0.0, weight_decay=0.1, epsilon=1e-6)


def optimizers_of(built: Built, config: Config) -> list[torch.optim.Optimizer]:
    return [
        build_optimizer(
            views,
            name="adamw",
            lr=1e-2,
            beta2=config.beta2,
            epsilon=config.epsilon,
            weight_decay=config.weight_decay,
        )
        for views in built.parameters.views
    ]


def train(
    built: Built,
    task: Task,
    config: Config = CONFIG,
    *,
    optimizers: Sequence[torch.optim.Optimizer] | None = None,
    done: int = 0,
    stop: int | None = None,
    lr: float = 1e-2,
    compute: MicroStep | None = None,
) -> list[Update]:
    updates = training_updates(
        built.tagger,
        task,
        config,
        clock=built.clock,
        parameters=built.parameters,
        optimizers=optimizers_of(built, config) if optimizers is None else optimizers,
        peak_lr=lr,
        device=CPU,
        compute=compute,
        done=done,
    )
    return list(islice(updates, stop))


def seen_sentences(built: Built, task: Task) -> list[list[int]]:
    """Fills with the sentences of every forward as they are trained on, found by their ids."""
    known = {tuple(own[0].ids.tolist()): index for index, own in enumerate(task.examples)}
    seen: list[list[int]] = []

    def note(module: Any, inputs: tuple[Pack]) -> None:
        (batch,) = inputs
        begins = np.flatnonzero(batch.positions[0].numpy() == 0)[1:]
        pieces = np.split(batch.ids[0].numpy(), begins)
        seen.append([known[tuple(piece.tolist())] for piece in pieces])

    built.tagger.register_forward_pre_hook(note)
    return seen


def hand_loss(built: Built, task: Task, sentences: Sequence[int]) -> float:
    """Mean over the labelled words of some sentences, one forward a sentence, by definition."""
    built.tagger.eval()
    terms = []
    for index in sentences:
        with torch.no_grad():
            logits = built.tagger(pack([task.examples[index]], None, CPU))[0].double()
        for word, label in enumerate(task.labels[index]):
            if label != IGNORED_ID:
                terms.append(-float(logits[word, label] - torch.logsumexp(logits[word], 0)))
    return sum(terms) / len(terms) if terms else 0.0


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def assert_near(
    one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float
) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


def sweep(data: Path, output: Path, *flags: str) -> Path:
    """``lmsl sweep`` on a folder of splits; the output folder."""
    torch.set_num_threads(1)
    named = ("--data", str(data), "--output", str(output))
    assert main(["sweep", *named, *SHORT, *flags]) == 0
    return output


def assert_near_runs(one: Path, other: Path) -> None:
    """The weights of two run directories."""
    for name in (ADAPTER, "head.safetensors"):
        assert_near(load_file(one / name), load_file(other / name), 1e-4)
