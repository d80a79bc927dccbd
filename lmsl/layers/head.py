"""The classifiers of a stack of runs: dropout and one linear layer each, always in float32.

They are ours rather than transformers' because not every decoder has a token-classification
class, and because a head of another library gets quantised or left out of the saved files without
a word. Only labelled positions reach a head.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from lmsl.errors import InputError
from lmsl.layers.dropout import (
    DropoutClock,
    check_probability,
    dropout_mask,
    seeded_generator,
    site_number,
)
from lmsl.layers.lora import kept_runs
from lmsl.run_directory.tensors import read_tensors, write_tensors

HEAD_FILE = "head.safetensors"


class StackedHead(nn.Module):
    """``logits = dropout(hidden) W^T + b`` with its own W and b for each run.

    Args:
        hidden: features of a word.
        classes: number of labels.
        dropout: probability for the head's input, in train mode.
        seeds: one for each run.
        clock: where training stands; needed when ``dropout`` is not 0.
    """

    def __init__(
        self,
        *,
        hidden: int,
        classes: int,
        dropout: float,
        seeds: Sequence[int],
        clock: DropoutClock | None = None,
    ) -> None:
        super().__init__()
        self.dropout = check_probability("head dropout", dropout)
        if dropout > 0 and clock is None:
            raise InputError(f"head dropout: expected a clock for dropout {dropout}, got none")
        assert seeds and (clock is None or tuple(clock.seeds) == tuple(seeds))
        self.hidden, self.classes, self.runs = hidden, classes, len(seeds)
        self.site, self.clock = site_number("head"), clock
        # The initial values of nn.Linear: uniform in 1/sqrt(in), weight and bias alike.
        bound = 1.0 / math.sqrt(hidden)
        generators = [seeded_generator(seed, self.site) for seed in seeds]
        self.weight = nn.Parameter(
            torch.stack(
                [
                    torch.empty(classes, hidden).uniform_(-bound, bound, generator=g)
                    for g in generators
                ]
            )
        )
        self.bias = nn.Parameter(
            torch.stack(
                [torch.empty(classes).uniform_(-bound, bound, generator=g) for g in generators]
            )
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[runs, words, hidden]`` to ``[runs, words, classes]`` float32, also under autocast."""
        rows = hidden.float()
        if self.training and self.dropout > 0:
            assert self.clock is not None
            rows = rows * dropout_mask(
                self.clock,
                site=self.site,
                tokens=rows.shape[1],
                features=self.hidden,
                p=self.dropout,
                device=rows.device,
                unit="word",
            )
        with torch.autocast(rows.device.type, enabled=False):
            return torch.baddbmm(self.bias.unsqueeze(1), rows, self.weight.transpose(1, 2))

    def keep(self, runs: Sequence[int]) -> None:
        """Leave only these runs of the stack; the parameters are new ones."""
        self.weight, self.bias = kept_runs(self.weight, runs), kept_runs(self.bias, runs)
        self.runs = len(runs)

    def extra_repr(self) -> str:
        return f"runs={self.runs}, hidden={self.hidden}, classes={self.classes}"


class LanguageHead(nn.Module):
    """The head of a language model as one over its vocabulary: frozen, and the same for all runs.

    Args:
        projection: from hidden states to logits, as the language model has it.
        softcap: bounds logits, as ``final_logit_softcapping`` of Gemma; None does not.
        runs: in the stack.
    """

    def __init__(self, projection: nn.Module, *, softcap: float | None, runs: int) -> None:
        super().__init__()
        self.projection = projection.requires_grad_(False)
        weight = projection.weight
        assert isinstance(weight, torch.Tensor)
        self.classes, self.hidden = weight.shape
        self.softcap, self.runs = softcap, runs

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[R, W, hidden]`` to float32 ``[R, W, vocabulary]``."""
        logits: torch.Tensor = self.projection(hidden).float()
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits

    def keep(self, runs: Sequence[int]) -> None:
        """Leave only these runs of the stack."""
        self.runs = len(runs)


Head = StackedHead | LanguageHead


def save_head(head: StackedHead, run: int, folder: Path) -> None:
    """Write the head of one run as ``head.safetensors``: ``weight``, ``bias``."""
    tensors = {"weight": head.weight.detach()[run], "bias": head.bias.detach()[run]}
    write_tensors(Path(folder) / HEAD_FILE, tensors)


def load_head(head: StackedHead, run: int, folder: Path) -> None:
    """Read the head of one run from ``folder``.

    Raises:
        InputError: the file is missing or unreadable, or holds other tensors or shapes.
    """
    targets = {"weight": head.weight.detach()[run], "bias": head.bias.detach()[run]}
    read_tensors(Path(folder) / HEAD_FILE, targets)
