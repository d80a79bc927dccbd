"""Who is compared in a training benchmark, and how each of them is got ready.

Variants of ours that keep the frozen weights alike share one copy of them, so that all of them and
the peers fit into one GPU; what is said of their memory counts the copy for each.
"""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers.utils import is_flash_attn_2_available

from benchmarks.shared.comparison import Built, ready
from benchmarks.shared.model_folder import write_model
from benchmarks.shared.step_cost import holding
from benchmarks.shared.timing import CannotRun
from benchmarks.train_step.frozen_products import FrozenProducts, dequantisation_seconds
from benchmarks.train_step.gate import Agreement
from benchmarks.train_step.padded_peer import FLAT, PADDED, RELEASED, Style, build_peer
from benchmarks.train_step.peer_steps import peer_updates
from benchmarks.train_step.unsloth_peer import Unsloth
from benchmarks.train_step.work import Work, build_ours, optimizer_of, our_updates
from lmsl.layers.lora import trainable_parameters
from lmsl.tagger.assemble import Assembled
from lmsl.tagger.base import Base
from lmsl.training.stack import shared_copies

SDPA, GRAPHS = "ours, NF4 resident, sdpa", "ours, NF4 resident, CUDA graphs"
ELEMENTWISE = "ours, NF4 resident, plain elementwise"
OURS: dict[str, dict[str, Any]] = {
    "ours, NF4 resident": {"resident": "yes"},
    "ours, NF4": {"resident": "no"},
    # What single parts are worth: the same without them.
    "ours, NF4 resident, plain block": {"resident": "yes", "block": "plain"},
    "ours, NF4 resident, a sentence a forward": {"resident": "yes", "tokens_per_batch": 1},
    SDPA: {"resident": "yes", "attention": "sdpa"},
    ELEMENTWISE: {"resident": "yes", "elementwise": "plain"},
    GRAPHS: {"resident": "yes", "cuda_graphs": "on"},
}
BASELINE = "peer, NF4"
PEERS: dict[str, tuple[Style, Literal["nf4", "none"]]] = {
    BASELINE: (PADDED, "nf4"),
    "peer, dense": (PADDED, "none"),
    "peer, released recipe": (RELEASED, "nf4"),
    "peer, end to end": (FLAT, "nf4"),
}
UNSLOTH: dict[str, dict[str, Any]] = {
    "Unsloth": {},
    # Its fused LoRA serves adapters without dropout only: less work than the others do.
    "Unsloth, LoRA without dropout": {"lora_dropout": 0.0},
}


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Gets contenders ready, and keeps what they share.

    Args:
        work: what they all do.
        running: closes programs and folders when all is measured.
        unsloth: Python of an environment that has the package unsloth.
        updates: that each contender will be asked for.
    """

    work: Work
    running: ExitStack
    unsloth: str | None
    updates: int
    gates: list[Agreement] = field(default_factory=list)
    """Of contenders that are held against ours when they are built."""
    versions: dict[str, dict[str, str | None]] = field(default_factory=dict)
    """Of packages in environments of their own."""
    _bases: dict[str, Base] = field(default_factory=dict)
    _models: list[Path] = field(default_factory=list)

    def offered(self) -> dict[str, str | None]:
        """Every contender by name, and why it cannot run here."""
        reasons = dict[str, str]()
        if self.work.place.device.type != "cuda":
            reasons = {
                SDPA: "ours and sdpa are the same on a CPU",
                ELEMENTWISE: "ours and plain are the same on a CPU",
                GRAPHS: "the device is no GPU",
                "peer, released recipe": "checkpointing saves memory that nobody lacks here",
            }
        if not is_flash_attn_2_available():
            reasons["peer, end to end"] = "needs the package flash-attn and a GPU"
        if shutil.which(self.unsloth or "") is None:
            reasons |= dict.fromkeys(UNSLOTH, "--unsloth names no Python of an environment of it")
        return {name: reasons.get(name) for name in (*OURS, *PEERS, *UNSLOTH)}

    def build(self, name: str) -> Built:
        """A contender by its name.

        Raises:
            CannotRun: it cannot run here after all, or does not do what the others do.
        """
        if name in UNSLOTH:
            return self._unsloth(name)
        device, shared = self.work.place.device, self._shared_bytes(name)
        with holding(device) as held:
            step = self._ours(name) if name in OURS else self._peer(*PEERS[name])
        held.bytes += shared
        return ready(step, held, device)

    def floor_seconds(self, rows: int) -> float | None:
        """The least that an update of so many rows can take: all products with the frozen weights,
        and one dequantisation of them; None where the layers are not of the shape we know, or
        where the weights do not fit into memory beside the contenders."""
        try:
            tagger = self._assembled(self.work.but(resident="yes")).tagger
        except torch.OutOfMemoryError:
            return None
        if tagger.block is None:
            return None
        products = FrozenProducts(tagger, self.work.place)
        products.seconds(rows)
        least = min(products.seconds(rows)[0] for _ in range(3))
        return least + dequantisation_seconds(tagger)

    def _unsloth(self, name: str) -> Built:
        assert self.unsloth is not None
        work = self.work.but(**UNSLOTH[name])
        if not self._models:
            folder = Path(self.running.enter_context(tempfile.TemporaryDirectory()))
            write_model(work.base(), folder)
            self._models.append(folder)
        peer = Unsloth(
            work,
            python=self.unsloth,
            model=self._models[0],
            updates=self.updates,
            running=self.running,
        )
        self.gates.append(peer.agreement(name))
        self.versions[name] = peer.versions
        if not self.gates[-1].holds:
            raise CannotRun(self.gates[-1].line())
        peer.step()
        return Built(step=peer.step, peak=peer.peak, trace=peer.trace)

    def _ours(self, name: str) -> Callable[[], int]:
        work = self.work.but(**OURS[name])
        updates = our_updates(self._assembled(work), work, train=True)
        return lambda: next(updates).tokens

    def _assembled(self, work: Work) -> Assembled:
        """Ours over the frozen weights of an earlier contender that keeps them alike."""
        kept = work.config.resident
        if kept in self._bases:
            base = self._bases[kept]
            return build_ours(work, replace(base, decoder=shared_copies(base.decoder)[0]))
        base = work.base()
        ours = build_ours(work, base)
        # Not before: one that was left half quantised is of no use to the next.
        self._bases[kept] = base
        return ours

    def _shared_bytes(self, name: str) -> int:
        """What an earlier contender holds of a contender's weights."""
        base = self._bases.get(OURS[name]["resident"]) if name in OURS else None
        if base is None or self.work.place.device.type != "cuda":
            return 0
        tensors = (*base.decoder.parameters(), *base.decoder.buffers())
        return sum(tensor.nbytes for tensor in tensors if not tensor.requires_grad)

    def _peer(self, style: Style, quantize: Literal["nf4", "none"]) -> Callable[[], int]:
        work, place = self.work.but(quantize=quantize), self.work.place
        base = work.base()
        hidden = base.decoder.config.hidden_size
        peer = build_peer(base, work.config, classes=work.classes, place=place, style=style)
        optimizer = optimizer_of(trainable_parameters(peer), work.config, hidden)
        updates = peer_updates(peer, work, optimizer=optimizer, style=style)
        return lambda: next(updates).tokens
