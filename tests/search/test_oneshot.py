"""One run of random strings: who draws what, and what it equals."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from lmsl.packs.packing import Pack, pack
from lmsl.tagger.emissions import run_emissions
from lmsl.tagger.inference import EagerForward
from lmsl.tagger.mixture import Mixture
from lmsl.training.loop import Task
from tests.layers.block_tools import built, sentences
from tests.tagger.tagger_tools import CPU, Built, build_task
from tests.training.training_tools import CONFIG, assert_near, assert_same, train

FOUR = ("0000", "0011", "1101", "1111")
LONG = replace(CONFIG, epochs=10, max_steps=20, batch_size=3)


def mixed(strings: Sequence[str], seed: int = 1, dropout: float = 0.0, **more: Any) -> Built:
    """A one-shot run over the same small decoder, whatever it draws from."""
    return built((seed,), string=list(strings), dropout=dropout, mixed=True, **more)


def ordinary(string: str, block: str = "own") -> Built:
    return built(string=string, dropout=0.0, block=block)


def logits_of(run: Built, batch: Pack) -> torch.Tensor:
    run.tagger.eval()
    with torch.no_grad():
        return run.tagger(batch)[0]


def seen_strings(run: Built, task: Task) -> list[dict[int, tuple[bool, ...]]]:
    """Fills with what attention is told in every forward: for each sentence a bit a layer."""
    known = {tuple(own[0].ids.tolist()): index for index, own in enumerate(task.examples)}
    seen: list[dict[int, tuple[bool, ...]]] = []

    def note(module: Any, inputs: tuple[Pack]) -> None:
        (batch,) = inputs
        begins = np.flatnonzero(batch.positions[0].numpy() == 0)[1:]
        flags = batch.attention.is_causal
        assert flags is not None
        found = {}
        for place, piece in enumerate(np.split(batch.ids[0].numpy(), begins)):
            own = [f if isinstance(f, bool) else bool(f[place]) for f in flags]
            found[known[tuple(piece.tolist())]] = tuple(not causal for causal in own)
        seen.append(found)

    run.tagger.register_forward_pre_hook(note)
    return seen


class TestDraws:
    def test_every_string_has_its_turn(self) -> None:
        mixture = Mixture(bits=[[False], [True], [True]], seed=7)
        drawn = Counter(mixture.drawn(s, step) for s in range(60) for step in range(50))
        assert set(drawn) == {0, 1, 2} and all(900 < count < 1100 for count in drawn.values())

    @pytest.mark.parametrize("other", [(8, 3, 5), (7, 4, 5), (7, 3, 6)], ids=str)
    def test_seed_sentence_and_update_each_matter(self, other: tuple[int, int, int]) -> None:
        """A stream that ignored one of them would repeat the same hundred draws."""

        def draws(seed: int, sentence: int, step: int) -> list[int]:
            mixture = Mixture(bits=[[True]] * 16, seed=seed)
            return [mixture.drawn(sentence + 10 * n, step + 10 * n) for n in range(100)]

        assert draws(7, 3, 5) == draws(7, 3, 5)
        same = sum(a == b for a, b in zip(draws(7, 3, 5), draws(*other), strict=True))
        assert same < 30

    def test_evaluation_is_no_update(self) -> None:
        mixture = Mixture(bits=[[True]] * 16, seed=1)
        frozen = [mixture.drawn(s, None) for s in range(50)]
        assert frozen == [mixture.drawn(s, None) for s in range(50)]
        assert frozen != [mixture.drawn(s, 0) for s in range(50)]

    @pytest.mark.parametrize("budget", [1000, 20, 1])
    def test_attention_is_told_what_was_drawn(self, budget: int) -> None:
        """However an update is cut, and after an interruption too."""
        task, config = build_task(7), replace(LONG, max_steps=6, tokens_per_batch=budget)
        run = mixed(FOUR)
        seen = seen_strings(run, task)
        updates = train(run, task, config)
        (mixture,) = {run.tagger.mixture}
        assert mixture is not None and len(updates) == 6
        if budget == 1000:
            for step, found in enumerate(seen):
                expected = {s: tuple(mixture.bits[mixture.drawn(s, step)]) for s in found}
                assert found == expected
            assert len({bits for found in seen for bits in found.values()}) == 4
        told = [pair for found in seen for pair in found.items()]
        again = mixed(FOUR)
        seen = seen_strings(again, task)
        train(again, task, replace(config, tokens_per_batch=1000), done=3)
        rest = [pair for found in seen for pair in found.items()]
        assert rest == told[-len(rest) :] and len(rest) >= 7


class TestSentences:
    @pytest.mark.parametrize("block", ["own", "plain"])
    def test_each_has_the_logits_of_its_own_string(self, block: str) -> None:
        examples = sentences([5, 3, 6, 4, 5, 2, 7, 3])
        run = mixed(FOUR, block=block)
        drawn = run.tagger.drawn([examples], 4)
        assert drawn is not None and len({tuple(bits) for bits in drawn}) == 4
        logits = logits_of(run, pack([examples], None, CPU, None, drawn))
        first = 0
        alone = {tuple(ordinary_bits(s)): ordinary(s, block) for s in FOUR}
        for example, bits in zip(examples, drawn, strict=True):
            rows = logits[first : first + len(example.starts)]
            expected = logits_of(alone[tuple(bits)], pack([[example]], None, CPU))
            torch.testing.assert_close(rows, expected, rtol=0, atol=2e-5)
            first += len(example.starts)
        assert first == len(logits)

    def test_a_later_token_is_seen_exactly_where_the_drawn_string_unmasks(self) -> None:
        examples = sentences([4, 6, 3, 5, 4, 7, 3, 6, 5, 4])
        run = mixed(("0000", "0100"))
        drawn = run.tagger.drawn([examples], 0)
        assert drawn is not None
        other = [replace(e, ids=np.append(e.ids[:-1], e.ids[-1] % 50 + 1)) for e in examples]
        assert all(a.ids[-1] != b.ids[-1] for a, b in zip(examples, other, strict=True))
        one, two = (
            logits_of(run, pack([own], None, CPU, None, drawn)) for own in (examples, other)
        )
        first, changed = 0, []
        for example in examples:
            changed.append(not torch.equal(one[first], two[first]))
            first += len(example.starts)
        assert changed == [any(bits) for bits in drawn] and len(set(changed)) == 2

    def test_scores_by_string_are_those_of_the_string_alone(self) -> None:
        """All strings in one forward, cut small: nothing may be mixed up."""
        task = build_task(5)
        listed = [own[0] for own in task.examples]
        words = [len(own.starts) for own in listed]
        bits = [ordinary_bits(string) for string in FOUR]
        read = partial(run_emissions, examples=listed, words=words, tokens_per_batch=90)
        found = read(EagerForward(mixed(FOUR).tagger, CPU), bits=bits)
        assert len(found) == 4
        for string, own in zip(FOUR, found, strict=True):
            (alone,) = read(EagerForward(ordinary(string).tagger, CPU))
            for mine, its in zip(own, alone, strict=True):
                np.testing.assert_allclose(mine, its, rtol=0, atol=2e-5)


def ordinary_bits(string: str) -> tuple[bool, ...]:
    """Of a decoder with as many layers as bits."""
    return tuple(bit == "1" for bit in string)


class TestTraining:
    @pytest.mark.parametrize("block", ["own", "plain"])
    def test_one_candidate_is_an_ordinary_run_and_two_are_not(self, block: str) -> None:
        task = build_task(6)
        one, other = mixed(["0011"], block=block), ordinary("0011", block)
        start = one.weights()
        mine, its = (train(run, task, LONG, lr=1e-3) for run in (one, other))
        assert len(mine) == 20
        assert_near(one.weights(), other.weights(), 1e-5)
        assert mine[-1].loss == pytest.approx(its[-1].loss, rel=1e-5)
        moved = [float((one.weights()[n] - weight).abs().max()) for n, weight in start.items()]
        assert min(moved) > 1e-3, "all weights move further than the tolerance"
        two = mixed(["0011", "0000"], block=block)
        train(two, task, LONG, lr=1e-3)
        apart = [float((two.weights()[n] - w).abs().max()) for n, w in other.weights().items()]
        assert max(apart) > 1e-3, "two candidates are no ordinary run"

    def test_the_seed_decides_everything(self) -> None:
        task, weights = build_task(6), []
        for seed in (1, 1, 2):
            run = mixed(FOUR, seed, dropout=0.2)
            train(run, task, replace(LONG, max_steps=4), lr=1e-3)
            weights.append(run.weights())
        assert_same(weights[0], weights[1])
        assert any(not torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
