"""The forward of fixed sizes against the eager one; ``Reruns`` stands in for graphs."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import lmsl
from lmsl.config.config import Config
from lmsl.console import Console
from lmsl.data.read import read
from lmsl.data.tags.distribution import Floats
from lmsl.errors import InputError
from lmsl.layers.lora import trainable_parameters
from lmsl.packs.alignment import Aligner
from lmsl.packs.examples import Example, build_examples
from lmsl.packs.packing import under_budget
from lmsl.packs.sizes import room_for, room_tokens
from lmsl.tagger.base import load_base
from lmsl.tagger.captured import CapturedForward, StaticForward, choose_forward
from lmsl.tagger.emissions import NotFinite, by_length, emissions, run_emissions
from lmsl.tagger.graphs import Reruns
from lmsl.tagger.inference import Batch, EagerForward, batch_of, log_probabilities
from lmsl.tagger.rooms import MOST_ROOMS
from lmsl.training.captured_step import StaticStep
from lmsl.training.eager_step import EagerStep
from lmsl.training.runs import Run
from lmsl.training.stack import Place, Stack
from tests.layers.block_tools import assembled, built, sentences
from tests.shared import DATA, needs_shared
from tests.tagger.tagger_tools import CPU, Built, build_task, example
from tests.training.training_tools import CONFIG, assert_near, train

UNKNOWN_ID = 10**6
BUDGET = 60


def static(one: Built, autocast: torch.dtype | None = None, **more: Any) -> StaticForward:
    settings: dict[str, Any] = {"graphs": Reruns(), "say": print, "most": 16}
    return StaticForward(EagerForward(one.tagger, CPU, autocast), **settings | more)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is not loaded anew before a replay is an index out of range or a NaN in it."""
    load = CapturedForward.load

    def spoil_and_load(self: CapturedForward, batch: Batch) -> None:
        for own in self._pack.tensors():
            own.fill_(True if own.dtype == torch.bool else UNKNOWN_ID)
        self.logs.fill_(torch.nan)
        load(self, batch)

    monkeypatch.setattr(CapturedForward, "load", spoil_and_load)


def some_sentences(count: int = 23) -> list[Example]:
    return sentences([1 + (7 * n) % 11 for n in range(count)])


def evaluation(
    one: Built, compute: Any, autocast: torch.dtype | None = None, budget: int = BUDGET
) -> list[list[Floats]]:
    """Of every run, as the evaluations inside training compute it."""
    examples = some_sentences()
    # One sentence has a word that no example reads, one has none at all.
    words = [len(own.starts) + (own.sentence == 3) for own in examples] + [0]
    tokens = one.tagger.head.runs * budget
    compute = compute or EagerForward(one.tagger, CPU, autocast)
    return run_emissions(compute, examples, words, tokens_per_batch=tokens)


def assert_near_runs(
    mine: list[list[Floats]], its: list[list[Floats]], tolerance: float = 2e-5
) -> None:
    assert len(mine) == len(its)
    for own, other in zip(mine, its, strict=True):
        for rows, expected in zip(own, other, strict=True):
            np.testing.assert_allclose(rows, expected, rtol=0, atol=tolerance)


def change(one: Built, seed: int = 0) -> None:
    """Other adapters and heads in the same memory, as an optimizer makes them."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in trainable_parameters(one.tagger).values():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)


SHAPES: dict[str, dict[str, Any]] = {
    "one run": {},
    "runs that agree": {"seeds": (1, 2)},
    "runs that differ": {"seeds": (1, 2, 2), "string": ("0011", "1100", "1111")},
    "first": {"label_at": "first"},
    "mean": {"seeds": (1, 2), "label_at": "mean"},
    "window": {"family": "mistral", "changes": {"sliding_window": 3}},
    "weights dequantised in the step": {"resident": "no"},
    "bfloat16": {"dtype": torch.bfloat16, "quantize": "none", "resident": "no"},
}


@pytest.mark.parametrize("name", SHAPES)
def test_answers_are_those_of_the_eager_forward(name: str, poisoned: None) -> None:
    """At first sight, captured, and replayed while training changes what is read in place."""
    one, autocast = built(**SHAPES[name]), SHAPES[name].get("dtype")
    compute = static(one, autocast)
    before = None
    for number in range(3):
        expected, mine = (evaluation(one, way, autocast) for way in (None, compute))
        assert_near_runs(mine, expected, 0.15 if autocast else 2e-5)
        assert one.tagger.training, "the mode is as before"
        difference = 0.0 if before is None else abs(mine[-1][0] - before[-1][0]).max()
        assert number == 0 or difference > 1e-3, "other adapters, the same answers"
        before = mine
        change(one, number)
    assert 0 < len(compute.rooms.kept) <= 5
    # A word that nobody reads, and a sentence without any.
    assert mine[0][3][-1].tolist() == [0.0] + [-np.inf] * 4 and mine[0][-1].shape == (0, 5)


def test_equal_sizes_are_equal_in_every_bit() -> None:
    """A replay is the eager forward over the memory of its room; what was there before is not in
    it, whatever that was."""
    one, own = built((1, 2)), some_sentences(4)
    one.tagger.eval()
    compute = static(one)
    batch, other = (batch_of(compute, each, 64) for each in (own, own[::-1]))
    assert batch.room == other.room
    first = [compute(batch), compute(batch).clone()][1]
    captured = compute.rooms.find(batch.room, pytest.fail)  # type: ignore[arg-type]
    assert captured is not None and torch.equal(
        EagerForward(one.tagger, CPU).log_probabilities(captured._pack.read()), first
    )
    assert not torch.equal(compute(other), first)
    assert torch.equal(compute(batch), first)


def test_one_run_sentence_by_sentence_in_order() -> None:
    """As a labeler predicts, with windows of a sentence and a sentence read in part."""
    one = built(string="1111")
    one.tagger.train()
    own = [
        example([1, 2], sentence=0),
        example([3], sentence=0, first_word=2),
        example([2, 2], sentence=3),
    ]
    compute = static(one)
    for budget in (1, 9, 10_000):
        more = {"tokens_per_batch": budget, "device": CPU}
        found = [
            emissions(one.tagger, own, [3, 2, 0, 4], compute=way, **more)
            for way in (None, compute, compute)
        ]
        for rows in found[1:]:
            assert_near_runs([rows], [found[0]])
        assert one.tagger.training, "the mode is as before"
    assert compute.rooms.kept


def test_training_and_evaluation_take_turns(poisoned: None) -> None:
    """Dropout of the heads comes and goes; neither changes what the other computes."""
    task, config = build_task(9), replace(CONFIG, epochs=1, batch_size=3)
    one, other = built((1, 2)), built((1, 2))
    step = StaticStep(EagerStep(one.tagger, one.clock, config, CPU, None), Reruns(), print)
    compute = static(one, graphs=step.graphs)
    for done in range(3):
        # One update; three of them are the epoch.
        train(one, task, config, done=done, stop=1, lr=1e-3, compute=step)
        train(other, task, config, done=done, stop=1, lr=1e-3)
        for _ in range(2):
            assert_near_runs(evaluation(one, compute), evaluation(one, None))
    assert step.rooms.kept and compute.rooms.kept
    for run in (0, 1):
        assert_near(one.weights(run), other.weights(run), 2e-5)


def test_scores_that_are_no_numbers_are_refused() -> None:
    """Else every word would silently be the label that happens to come first."""
    one, own = built(), [example([1], sentence=n) for n in (1, 2, 3)]
    compute = static(one)

    def predict() -> None:
        more = {"tokens_per_batch": 2, "device": CPU, "compute": compute}
        emissions(one.tagger, own, [1] * 4, **more)

    predict()
    assert compute.rooms.kept
    one.tagger.head.bias.data[0, 1] = torch.nan
    with pytest.raises(InputError, match=r"sentence 2: .*finite scores.*--dtype"):
        predict()
    with pytest.raises(NotFinite, match="by run 0 are not finite"):
        evaluation(one, static(one))


def test_a_forward_reads_nothing_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without contents refuse to be read; a graph would not even ask them."""
    one = built((1, 2), string=("0011", "0110"), quantize="none")
    one.tagger.to("meta").eval()
    # Which knows no autocast.
    monkeypatch.setattr(torch, "autocast", lambda *given, **named: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    eager = EagerForward(one.tagger, torch.device("meta"))
    compute = StaticForward(eager, Reruns(), print)
    batch = batch_of(compute, sentences([3, 1]), BUDGET)
    captured = CapturedForward(batch, eager, Reruns())
    captured.replay()
    assert captured.logs.shape == (2, batch.pack.labels.shape[1], 5) and captured.logs.is_meta
    with pytest.raises((RuntimeError, NotImplementedError)):
        captured.logs.tolist()


def test_the_host_packs_while_the_device_computes() -> None:
    """Each answer is read when the next forward is launched, and before another pack is made."""
    one, events = built(), list[str]()
    one.tagger.eval()

    class Noted(EagerForward):
        def __call__(self, batch: Batch) -> torch.Tensor:
            events.append(f"launch {batch.examples[0].sentence}")
            return super().__call__(batch)

    compute = Noted(one.tagger, CPU)

    def packed() -> Any:
        for number in range(3):
            events.append(f"pack {number}")
            yield batch_of(compute, [example([2], sentence=number)], BUDGET)

    for batch, logs in log_probabilities(compute, packed()):
        assert logs.shape == (1, 1, 5)
        events.append(f"read {batch.examples[0].sentence}")
    assert events == [
        *("pack 0", "launch 0", "pack 1", "launch 1", "read 0"),
        *("pack 2", "launch 2", "read 1", "read 2"),
    ]
    assert list(log_probabilities(compute, [])) == []


def test_the_answers_of_a_gpu_are_copied_behind_its_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """To pinned memory, an event behind the copy, which alone is waited for, one pack late."""
    events, empty, copy = list[str](), torch.empty, torch.Tensor.copy_
    one = built()

    class Event:
        def record(self, stream: str) -> None:
            events.append(f"event on {stream}")

        def synchronize(self) -> None:
            events.append("wait")

    def made(*shape: Any, **named: Any) -> torch.Tensor:
        events.append("pinned" if named["pin_memory"] else "pageable")
        return empty(*shape, **named)

    def copied(self: torch.Tensor, rows: torch.Tensor, non_blocking: bool) -> torch.Tensor:
        events.append(f"copy of {tuple(rows.shape)} {'behind' if non_blocking else 'awaited'}")
        return copy(self, rows, non_blocking=non_blocking)

    class OnDevice(EagerForward):
        def __call__(self, batch: Batch) -> torch.Tensor:
            events.append("launch")
            return empty(1, 9, 5, dtype=torch.float64, device="cuda")

    compute = OnDevice(one.tagger, CPU)
    batches = [batch_of(compute, sentences([size]), BUDGET) for size in (2, 4)]
    monkeypatch.setattr(torch, "empty", made)
    monkeypatch.setattr(torch.Tensor, "copy_", copied)
    monkeypatch.setattr(torch.Tensor, "numpy", lambda tensor: events.append("read"))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", str)
    # Tensors without contents, of a device that is not here.
    with FakeTensorMode():
        assert len(list(log_probabilities(compute, batches))) == 2
    assert events == [
        *("launch", "pinned", "copy of (1, 2, 5) behind", "event on cuda:0"),
        *("launch", "pinned", "copy of (1, 4, 5) behind", "event on cuda:0"),
        *("wait", "read", "wait", "read"),
    ]


def test_answers_that_wait_are_not_written_over() -> None:
    """A replay answers in the same memory as the one before."""
    one = built()
    one.tagger.eval()
    compute = static(one)
    batches = [batch_of(compute, [example([2], sentence=n)], BUDGET) for n in (0, 0, 1, 0)]
    found = [logs.copy() for _, logs in log_probabilities(compute, batches)]
    assert len(compute.rooms.kept) == 1
    assert np.array_equal(found[1], found[3]) and not np.array_equal(found[1], found[2])


def test_a_room_is_captured_when_it_is_met_again() -> None:
    """One that never is costs no capture."""
    one, captures = built(), list[bool]()
    one.tagger.eval()

    class Counted(Reruns):
        def capture(self, function: Callable[[], None]) -> Callable[[], None]:
            captures.append(True)
            return super().capture(function)

    compute = static(one, graphs=Counted())
    small, large = (batch_of(compute, sentences([size]), 64) for size in (3, 20))
    for batch, expected in ((small, 0), (large, 0), (small, 1), (small, 1), (large, 2)):
        compute(batch)
        assert len(captures) == expected


def test_where_a_capture_fails_the_rest_is_computed_eagerly() -> None:
    class Broken(Reruns):
        def capture(self, function: Callable[[], None]) -> Callable[[], None]:
            function()
            raise RuntimeError("operation not permitted\nwhen stream is capturing")

    one, said = built((1, 2)), list[str]()
    compute = static(one, graphs=Broken(), say=said.append)
    expected = evaluation(one, None)
    for _ in range(3):
        assert_near_runs(evaluation(one, compute), expected)
    (line,) = said
    assert "not permitted when stream is capturing" in line and compute.rooms.kept == []
    assert compute.room([sentences([3])], 64) is None


def test_strings_that_are_tried_on_one_run_are_computed_eagerly() -> None:
    """A one-shot reads the same sentences under every string; packs differ in their flags."""
    found = assembled(string=["0011", "0000"], mixed=True)
    compute = StaticForward(EagerForward(found.tagger, CPU), Reruns(), print)
    bits = [[False] * 4, [True] * 4]
    for _ in range(2):
        batch = batch_of(compute, sentences([2, 3]), 64, bits)
        assert batch.room is None and batch.pack.words == (10,)
    assert compute.rooms.kept == []


@needs_shared
@pytest.mark.parametrize(
    ("file", "most"), [("conll2000/test.txt", 6), ("wnut17/emerging.test.annotated", 7)]
)
def test_real_sentences_need_few_rooms_and_little_filling(file: str, most: int) -> None:
    """Of packs of the default budget, of one that is no round number, and of a small one."""
    aligner = Aligner(load_base("tiny").tokenizer)
    own = build_examples(
        read(DATA / file).sentences, aligner, max_length=512, overflow="window"
    ).examples
    for budget in (5000, 2048):
        filled, kept = list[float](), set()
        for group in under_budget(by_length(own), budget):
            room = room_for([group], budget)
            kept.add(room)
            filled.append(1 - sum(len(one.ids) for one in group) / room.tokens)
            assert room.tokens <= budget
        assert len(kept) <= most < MOST_ROOMS
        assert sum(filled) / len(filled) < 0.03


def test_a_budget_is_a_size_of_its_own() -> None:
    assert room_tokens(4900) == 5120 and room_tokens(4900, 5000) == 5000
    assert room_tokens(4000, 5000) == 4096 and room_tokens(5001, 5000) == 5120
    assert room_tokens(0, 7) == 7 and room_tokens(3, 2) == 16


def test_a_stack_replays_evaluations_where_it_replays_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, place = list[str](), Place(device=CPU, dtype=torch.float32)
    config = Config(unmask=("0011",), cuda_graphs="on", batch_size=4)
    runs = [
        Run(config=replace(config, seed=(seed,)), folder=tmp_path / str(seed)) for seed in (1, 2)
    ]
    stack = Stack(runs, assembled(seeds=(1, 2)), config)
    assert isinstance(stack.forward(place, said.append), EagerForward)
    assert said == ["  CUDA graphs: off, the device is cpu"]
    step = StaticStep(EagerStep(stack.tagger, stack.clock, config, CPU, None), Reruns(), print)
    monkeypatch.setattr("lmsl.training.stack.choose_step", lambda *given: step)
    stack.keep([0, 1])
    compute = stack.forward(place, said.append)
    assert isinstance(compute, StaticForward) and compute.tagger is stack.tagger
    assert stack.forward(place, said.append) is compute and compute._graphs is step.graphs
    # What was captured belongs to parameters that are no more.
    stack.keep([1])
    assert stack.forward(place, said.append) is not compute
    step.rooms.failed = True
    stack.keep([0])
    assert isinstance(stack.forward(place, said.append), EagerForward)


def test_without_a_gpu_it_is_said_and_done_eagerly(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = built()
    for asked, expected in (("off", []), ("on", ["CUDA graphs: off, the device is cpu"])):
        said: list[str] = []
        how = {"cuda_graphs": asked, "attention": "auto", "say": said.append}
        assert isinstance(choose_forward(one.tagger, CPU, None, **how), EagerForward)
        assert said == expected
    capsys.readouterr()
    labeler = lmsl.Labeler.load(run, device="cpu", cuda_graphs="on")
    assert "CUDA graphs: off, the device is cpu" in capsys.readouterr().err
    plain = lmsl.Labeler.load(run, device="cpu")
    assert capsys.readouterr().err == ""
    texts = ["The guide met Stetol near the gate.", "Foris"]
    assert labeler.predict(texts) == plain.predict(texts)
    with pytest.raises(InputError, match="--cuda-graphs: expected one of off, on, got 'yes'"):
        lmsl.Labeler.load(run, device="cpu", cuda_graphs="yes")


def test_a_labeler_predicts_by_what_it_is_given(run: Path) -> None:
    plain = lmsl.Labeler.load(run, device="cpu", say=Console(quiet=True).say)
    compute = StaticForward(EagerForward(plain.tagger, CPU), Reruns(), print)
    replayed = lmsl.Labeler(plain.tagger, plain._aligner, plain.info, CPU, None, compute)
    texts: Sequence[Any] = ["The guide met Stetol near the gate.", [], "Foris", ["a"] * 40]
    places = [
        [[replace(one, score=0.0) for one in found] for found in own.predict(texts)]
        for own in (plain, replayed, replayed, replayed)
    ]
    assert places[1:] == places[:1] * 3 and compute.rooms.kept
