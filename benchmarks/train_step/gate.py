"""The proof that all contenders of a training benchmark train the same model.

Ours, causal, and a peer get the same adapters and head and one update without dropout, which the
two draw differently; loss and gradient norm have to agree before anything is timed.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks.shared.timing import tidy
from benchmarks.train_step.padded_peer import build_peer, check_not_repacked, copy_adapters
from benchmarks.train_step.peer_steps import peer_updates
from benchmarks.train_step.work import Work, build_ours, our_updates
from lmsl.layers.lora import stacked_layers
from lmsl.tagger.assemble import Assembled
from lmsl.training.loop import Update

# In float32 only the order of sums differs. In bfloat16 the two round in other places: sums and
# norms are float32 here and there, and an update averages over a few hundred words.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Loss and gradient norm of one update by ours and by the peer."""

    weights: str
    loss: float
    peer_loss: float
    grad_norm: float
    peer_grad_norm: float
    same_tokens: bool
    allowed: float

    @property
    def difference(self) -> float:
        """The larger of the two relative differences."""
        return max(
            abs(self.loss - self.peer_loss) / abs(self.peer_loss),
            abs(self.grad_norm - self.peer_grad_norm) / abs(self.peer_grad_norm),
        )

    @property
    def holds(self) -> bool:
        # Written so that a NaN does not pass.
        return self.same_tokens and self.difference <= self.allowed

    def line(self) -> str:
        """For people."""
        return (
            f"gate, {self.weights}: loss {self.loss:.6f}, peer {self.peer_loss:.6f}; "
            f"gradient norm {self.grad_norm:.6f}, peer {self.peer_grad_norm:.6f}; "
            f"differ by {self.difference:.1e}: {'ok' if self.holds else 'FAILED'}"
        )

    def record(self) -> dict[str, object]:
        return asdict(self) | {"difference": self.difference, "holds": self.holds}


def agreements(work: Work) -> list[Agreement]:
    """Ours against the peer: NF4 kept dequantised, NF4 and dense weights with the fast block, and
    the first again through transformers' own forward."""
    changes: dict[str, dict[str, Any]] = {
        "NF4 resident": {"resident": "yes"},
        "NF4": {"resident": "no"},
        "dense": {"quantize": "none"},
        "NF4 resident, plain block": {"resident": "yes", "block": "plain"},
    }
    found = []
    for weights, change in changes.items():
        found.append(_agreement(weights, work.but(**change)))
        tidy(work.place.device)
    return found


def compared(work: Work) -> Work:
    """The work as it is compared: causal, without dropout."""
    return work.but(unmask=("causal",), lora_dropout=0.0, head_dropout=0.0)


def perturbed(work: Work) -> Assembled:
    """Ours with adapters that matter: fresh ones are zero, and agree whatever the code does."""
    ours = build_ours(work)
    generator = torch.Generator().manual_seed(work.config.seed[0])
    for layer in stacked_layers(ours.tagger.decoder).values():
        start = torch.empty(layer.lora_B.shape).normal_(0.0, 0.05, generator=generator)
        layer.lora_B.data.copy_(start)
    return ours


def against(
    weights: str, work: Work, mine: Update, *, loss: float, grad_norm: float, tokens: int
) -> Agreement:
    """One update of ours beside the figures of a peer."""
    return Agreement(
        weights=weights,
        loss=mine.loss[0],
        peer_loss=loss,
        grad_norm=mine.grad_norm[0],
        peer_grad_norm=grad_norm,
        same_tokens=mine.tokens == tokens,
        allowed=TOLERANCES[work.place.dtype],
    )


def _agreement(weights: str, work: Work) -> Agreement:
    work = compared(work)
    ours = perturbed(work)
    peer = build_peer(work.base(), work.config, classes=work.classes, place=work.place)
    copy_adapters(ours.tagger, peer)
    mine = next(our_updates(ours, work, train=False))
    its = next(peer_updates(peer, work))
    check_not_repacked(peer)
    return against(weights, work, mine, loss=its.loss, grad_norm=its.grad_norm, tokens=its.tokens)
