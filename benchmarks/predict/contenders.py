"""Who is compared in the benchmark of prediction, and the measurement."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.predict.gate import Agreement, Truth, agreement, truth
from benchmarks.predict.peers import build_pipeline, merged_peer, padded_loop
from benchmarks.predict.run import loaded
from benchmarks.predict.settings import Settings
from benchmarks.shared.comparison import Built, get_ready, ready, take_turns
from benchmarks.shared.step_cost import Held, holding
from benchmarks.shared.timing import CannotRun, Step, interleave, tidy
from lmsl.tagger.base import load_tokenizer
from lmsl.tagger.labeler import Labeler
from lmsl.training.stack import Place

BASELINE, LOOP, AS_THEY_COME = "pipeline", "padded loop, sorted", "padded loop, 8 as they come"
# Sentences that the gate compares.
COMPARED = 64

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How ours predicts."""

    call: Literal["predict", "predict_tags"] = "predict_tags"
    resident: bool = True
    """Whether the NF4 weights are kept dequantised."""
    cuda_graphs: Literal["off", "on"] = "off"

    @property
    def labeler(self) -> tuple[bool, str]:
        """Variants that say the same here are one Labeler."""
        return self.resident, self.cuda_graphs


OURS: dict[str, Variant] = {
    "ours, predict": Variant(call="predict"),
    "ours, predict_tags": Variant(),
    "ours, predict_tags, not resident": Variant(resident=False),
    "ours, predict_tags, CUDA graphs": Variant(cuda_graphs="on"),
}
PEERS = (BASELINE, LOOP, AS_THEY_COME)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """What the peers share, and what their model says in float32."""

    pipe: Any
    held: Held
    known: Truth


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Gets contenders ready, and keeps what they share.

    Args:
        run: directory of a causal run.
        sentences: what everybody predicts.
        place: where and in what everybody computes.
    """

    run: Path
    sentences: Sequence[Sequence[str]]
    place: Place
    gates: list[Agreement] = field(default_factory=list)
    """Of variants of ours, when each is loaded."""
    _labelers: dict[tuple[bool, str], tuple[Labeler, Held]] = field(default_factory=dict)
    _peers: list[Peer] = field(default_factory=list)

    def of_the_first(self, count: int | None) -> "Workshop":
        """The same with the first sentences only."""
        return replace(self, sentences=self.sentences[:count])

    def gate(self) -> Agreement:
        """Ours against the peer, both against the peer in float32."""
        labeler, _ = self._loaded(Variant())
        with holding(self.place.device) as held:
            model = merged_peer(labeler)
            known = truth(labeler, model, self.sentences[:COMPARED])
            model.to(self.place.dtype)
        pipe = build_pipeline(model, load_tokenizer(labeler.info.base, labeler.info.revision))
        self._peers.append(Peer(pipe=pipe, held=held, known=known))
        return agreement("ours", labeler, pipe, known)

    def ours(self, name: str) -> Built:
        """A contender of ours.

        Raises:
            CannotRun: it does not fit beside the others, or does not predict what they do.
        """
        variant = OURS[name]
        if variant.cuda_graphs == "on" and self.place.device.type != "cuda":
            raise CannotRun("the device is no GPU")
        seen = variant.labeler in self._labelers
        labeler, held = self._loaded(variant)
        work = partial(getattr(labeler, variant.call), self.sentences)
        found = ready(self.counted(work), held, self.place.device)
        if not seen:
            self.gates.append(agreement(name, labeler, self._peers[0].pipe, self._peers[0].known))
            print(self.gates[-1].line())
            if not self.gates[-1].holds:
                raise CannotRun("the gate is red")
        return found

    def peer(self, name: str, batch_size: int) -> Built:
        """A peer at a batch size; the gate comes first, it builds them."""
        work = self.counted(self.by_batch(name, batch_size))
        return ready(work, self._peers[0].held, self.place.device)

    def by_batch(self, name: str, batch_size: int) -> Work:
        """What a peer does, in batches of so many sentences."""
        (peer,), own = self._peers, self.sentences
        pipe = peer.pipe
        if name == BASELINE:
            return partial(pipe, [" ".join(words) for words in own], batch_size=batch_size)
        loop = partial(padded_loop, pipe.model, pipe.tokenizer, own, by_length=name == LOOP)
        return partial(loop, batch_size)

    def by_budget(self, name: str, tokens: int) -> Work:
        """A contender of ours that predicts tags, with packs of at most so many tokens."""
        labeler, _ = self._loaded(OURS[name])
        other = copy.copy(labeler)
        other.info = replace(labeler.info, tokens_per_batch=tokens)
        return partial(other.predict_tags, self.sentences)

    def counted(self, work: Work) -> Step:
        """A work as a step, in sentences."""

        def step() -> int:
            work()
            return len(self.sentences)

        return step

    def _loaded(self, variant: Variant) -> tuple[Labeler, Held]:
        if variant.labeler not in self._labelers:
            with holding(self.place.device) as held:
                labeler = loaded(
                    self.run,
                    self.place,
                    resident=variant.resident,
                    cuda_graphs=variant.cuda_graphs,
                )
            self._labelers[variant.labeler] = labeler, held
        return self._labelers[variant.labeler]


def measure(workshop: Workshop, names: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Look for the best batch sizes, time all contenders in turns, then ours by budget."""
    ours = [name for name in names if name in OURS]
    built, absent = get_ready(ours, workshop.ours, BASELINE, workshop.place.device)
    sizes = {
        name: {size: workshop.by_batch(name, size) for size in settings.swept}
        for name in (BASELINE, LOOP)
        if name in names
    }
    swept = {name: _sweep(workshop, works, settings) for name, works in sizes.items()}
    best = {name: max(rates, key=rates.__getitem__) for name, rates in swept.items()}
    built |= {name: workshop.peer(name, int(best.get(name, 8))) for name in names if name in PEERS}
    budgets = {
        name: {tokens: workshop.by_budget(name, tokens) for tokens in settings.budgets}
        for name in built
        if name in OURS and OURS[name].call == "predict_tags"
    }
    contenders, _ = take_turns(built, BASELINE, rounds=settings.rounds, warmup=1, unit="sentences")
    return {
        "unit": "sentences",
        "swept": swept,
        "batch_size": {name: int(size) for name, size in best.items()},
        "contenders": contenders,
        "did_not_start": absent,
        "budgets": {name: _sweep(workshop, works, settings) for name, works in budgets.items()},
    }


def _sweep(workshop: Workshop, works: Mapping[int, Work], settings: Settings) -> dict[str, float]:
    """Sentences per second by size; sizes that do not fit into memory are left out."""
    steps = {}
    for size, work in works.items():
        try:
            work()
            steps[str(size)] = workshop.counted(work)
        except torch.OutOfMemoryError:
            print(f"not compared: batches of {size} do not fit into memory")
        tidy(workshop.place.device)
    timings = interleave(steps, rounds=settings.sweep_rounds, warmup=0)
    return {size: max(timing.rates) for size, timing in timings.items()}
