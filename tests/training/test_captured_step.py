"""The step of fixed sizes against the eager one; ``Reruns`` stands in for graphs."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lmsl
from lmsl.config.config import Config
from lmsl.data.tags.vocabulary import IGNORED_ID
from lmsl.layers import lora
from lmsl.layers.dropout import dropout_mask
from lmsl.layers.lora import trainable_parameters
from lmsl.packs import sizes
from lmsl.packs.packing import Room, pack
from lmsl.packs.sizes import room_for, rounded_up
from lmsl.tagger.graphs import Reruns
from lmsl.training.captured_step import (
    Captured,
    Gradients,
    StaticStep,
    choose_step,
    why_not_captured_step,
    will_capture,
)
from lmsl.training.eager_step import EagerStep, MicroBatch
from lmsl.training.loop import Task, Update
from tests.layers.block_tools import assembled, built, sentences
from tests.small_runs import train as train_command
from tests.tagger.tagger_tools import CPU, Built, build_tagger, build_task, example
from tests.training.training_tools import CONFIG, assert_near, train

UNKNOWN_ID = 10**6
CUDA = torch.device("cuda")


def static(one: Built, config: Config = CONFIG, **more: Any) -> StaticStep:
    eager = EagerStep(one.tagger, one.clock, config, CPU, None)
    settings: dict[str, Any] = {"graphs": Reruns(), "say": print, "most": 16}
    return StaticStep(eager, **settings | more)


def micro_batch(examples: Sequence[Any], labels: Any, one: Built) -> MicroBatch:
    room, runs = room_for(examples), len(examples)
    return MicroBatch(
        pack=pack(examples, [labels] * runs, CPU, one.tagger.bits, room=room),
        room=room,
        step=0,
        token_offset=(0,) * runs,
        word_offset=(0,) * runs,
    )


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is not loaded anew before a replay is an index out of range or a NaN in it, and
    the clock of the host, which a graph does not see, is wrong."""
    load = Captured.load

    def spoil_and_load(self: Captured, *arguments: Any) -> None:
        for own in self._pack.tensors():
            own.fill_(True if own.dtype == torch.bool else UNKNOWN_ID)
        self._place.fill_(-1)
        self._weights.fill_(torch.nan)
        self.losses.fill_(torch.nan)
        load(self, *arguments)
        elsewhere = (999,) * len(self.losses)
        self._eager.clock.set(step=999, token_offset=elsewhere, word_offset=elsewhere)

    monkeypatch.setattr(Captured, "load", spoil_and_load)


def compare(
    make: Callable[[], Built], task: Task, config: Config, tolerance: float = 2e-5
) -> tuple[list[Update], StaticStep]:
    """A training by either step, update by update and weight by weight."""
    eager, other = make(), make()
    expected = train(eager, task, config, lr=1e-3)
    compute = static(other, config)
    found = train(other, task, config, lr=1e-3, compute=compute)
    assert len(found) == len(expected) > 0
    for mine, its in zip(found, expected, strict=True):
        assert mine.loss == pytest.approx(its.loss, rel=tolerance)
        assert mine.grad_norm == pytest.approx(its.grad_norm, rel=5 * tolerance)
        assert mine.tokens_of == its.tokens_of
    for run in range(len(eager.parameters.views)):
        assert_near(other.weights(run), eager.weights(run), tolerance)
    return found, compute


SHAPES: dict[str, dict[str, Any]] = {
    "one run": {"task": build_task(5)},
    "several micro-batches": {"task": build_task(5), "tokens_per_batch": 30},
    "sentence by sentence": {"task": build_task(4), "tokens_per_batch": 1},
    "focal, parts left out": {"task": build_task(4), "loss": "focal", "keep_every": 2},
    "runs of unequal size": {"task": build_task(5), "seeds": (1, 2, 2), "batch_size": 2},
    "runs that differ": {"task": build_task(5), "seeds": (1, 2), "string": ("0011", "1100")},
    "first": {"task": build_task(4), "label_at": "first"},
    "mean": {"task": build_task(4), "seeds": (1, 2), "label_at": "mean"},
    "qwen3": {"task": build_task(4), "family": "qwen3"},
    "window": {"task": build_task(4), "family": "mistral", "changes": {"sliding_window": 3}},
    "weights dequantised in the step": {"task": build_task(4), "resident": "no"},
}


@pytest.mark.parametrize("name", SHAPES)
def test_training_is_that_of_the_eager_step(name: str, poisoned: None) -> None:
    given = dict(SHAPES[name])
    task = given.pop("task")
    settings = {key: given.pop(key) for key in [*given] if key in Config.__dataclass_fields__}
    of_model = {key: settings.pop(key) for key in ("label_at", "resident") if key in settings}
    config = replace(CONFIG, **settings)
    _, compute = compare(lambda: built(**given, **of_model), task, config)
    assert compute.rooms.kept


def test_one_token_no_labels_and_no_sentence(poisoned: None) -> None:
    """An update of one sub-word, one without a label, one of a sentence that was left out."""
    task = build_task(5)
    single = replace(example([1]), ids=example([1]).ids[1:], starts=[0], ends=[1])
    examples = [[replace(single, sentence=0)], [], *task.examples[2:]]
    labels = [[2], [IGNORED_ID], [IGNORED_ID] * len(task.labels[2]), *task.labels[3:]]
    task = Task(examples=examples, labels=labels, names=task.names)
    found, _ = compare(lambda: built((1, 2)), task, replace(CONFIG, batch_size=1))
    assert {0, 1} <= {tokens for update in found for tokens in update.tokens_of}


def test_dropout_of_real_tokens_is_bitwise_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[list[torch.Tensor]] = []

    def noted(*arguments: Any, **settings: Any) -> torch.Tensor:
        masks[-1].append(dropout_mask(*arguments, **settings).clone())
        return masks[-1][-1]

    monkeypatch.setattr(lora, "dropout_mask", noted)
    task, config = build_task(4), replace(CONFIG, epochs=1, batch_size=2, tokens_per_batch=20)
    for way in ("eager", "static"):
        masks.append([])
        one = built((1, 2))
        train(one, task, config, compute=static(one) if way == "static" else None)
    eager, replayed = masks
    assert len(eager) >= 2 * 8 and not torch.equal(eager[0], eager[-8])
    for mask in eager:
        same = [other[:, : mask.shape[1]] for other in replayed if len(other[0]) > len(mask[0])]
        assert any(torch.equal(mask, other) for other in same)


def test_a_step_reads_nothing_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without contents refuse to be read; a graph would not even ask them."""
    one = built((1, 2), string=("0011", "0110"), quantize="none", dropout=0.0)
    one.tagger.to("meta")
    # Which knows no autocast.
    monkeypatch.setattr(torch, "autocast", lambda *given, **named: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    meta = torch.device("meta")
    eager = EagerStep(one.tagger, one.clock, CONFIG, meta, None)
    batch = micro_batch([sentences([3, 1]), sentences([2])], [[0] * 9] * 9, one)
    captured = Captured(batch, eager, Gradients(one.tagger), Reruns())
    captured.replay()
    assert captured.losses.shape == (2,) and captured.losses.is_meta
    with pytest.raises((RuntimeError, NotImplementedError)):
        captured.losses.tolist()


def test_a_first_capture_in_the_middle_of_an_update_keeps_what_was_added() -> None:
    one = built(dropout=0.0)
    step = static(one)
    step.begin_update()
    for total in step._gradients._sums:
        total.fill_(1.5)
    calls = []

    class Counted(Reruns):
        def capture(self, function: Callable[[], None]) -> Callable[[], None]:
            def counted() -> None:
                calls.append(True)
                function()

            return super().capture(counted)

    batch = micro_batch([sentences([3, 2])], [[1] * 9] * 2, one)
    captured = Captured(batch, step._eager, step._gradients, Counted())
    assert calls
    assert all(bool((total == 1.5).all()) for total in step._gradients._sums)
    captured.load(batch, torch.ones(1))
    captured.replay()
    assert not any(bool((total == 1.5).all()) for total in step._gradients._sums)


def test_rooms_that_are_too_many_are_given_up() -> None:
    """The one not used for longest goes first, it is said once, and nothing is lost by it."""
    one, weights, said = built(dropout=0.0), torch.ones(1), list[str]()
    few, many = static(one, say=said.append, most=2), static(one, say=said.append)
    small, middle, large = (
        micro_batch([sentences([count])], [[1] * 40], one) for count in (2, 12, 20)
    )
    losses, sums = [], []
    for step in (few, many):
        one.parameters.zero_gradients()
        step.begin_update()
        batches = (small, middle, small, large, middle)
        losses.append([float(step(batch, weights)) for batch in batches])
        assert step.rooms.kept[-2:] == [large.room, middle.room]
        sums.append([total.clone() for total in step._gradients._sums])
    assert len(few.rooms.kept) == 2 and len(many.rooms.kept) == 3
    (line,) = said
    assert "more than 2 sizes" in line
    assert losses[0] == losses[1] and len(set(losses[0])) == 3
    assert all(map(torch.equal, *sums))


def test_where_a_capture_fails_the_rest_is_computed_eagerly() -> None:
    class Broken(Reruns):
        def __init__(self) -> None:
            self.left = 1

        def capture(self, function: Callable[[], None]) -> Callable[[], None]:
            self.left -= 1
            if self.left < 0:
                function()
                raise RuntimeError("operation not permitted\nwhen stream is capturing")
            return super().capture(function)

    task, said = build_task(9), list[str]()
    one, other = built(), built()
    step = static(one, graphs=Broken(), say=said.append)
    config = replace(CONFIG, epochs=1, tokens_per_batch=30)
    found = train(one, task, config, compute=step)
    expected = train(other, task, config)
    (line,) = said
    assert "not permitted when stream is capturing" in line and step.rooms.kept == []
    assert step.room([sentences([3])]) is None
    for mine, its in zip(found, expected, strict=True):
        assert mine.loss == pytest.approx(its.loss, rel=2e-5)
    assert_near(one.weights(), other.weights(), 1e-4)


def test_kernels_replay_with_other_lengths_in_the_same_buffers(
    poisoned: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One capture, by Triton's interpreter; the plan follows its buffer within its capacity."""
    # Interpreted programs are slow: one for each sequence and head, empty ones too.
    monkeypatch.setattr(sizes, "_LEAST_SEQUENCES", 4)
    monkeypatch.setattr(sizes, "_LEAST_BOUND", 16)
    one = build_tagger((1,), dropout=0.3)
    found = []
    for impl in ("triton", "sdpa"):
        lmsl.unmask(one.tagger.decoder, "01", attention=impl)
        one.tagger.train()
        step = (
            static(one)
            if impl == "triton"
            else EagerStep(one.tagger, one.clock, CONFIG, CPU, None)
        )
        one.parameters.zero_gradients()
        step.begin_update()
        batches = [micro_batch([sentences(own)], [[1] * 9] * 3, one) for own in ([2, 1, 1], [6])]
        losses = [float(step(batch, torch.ones(1))) for batch in batches]
        gradients = trainable_parameters(one.tagger).values()
        found.append((losses, [p.grad.clone() for p in gradients]))
        assert impl == "sdpa" or len(step.rooms.kept) == 1
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("short", ["tokens", "words", "sequences", "longest"])
def test_a_pack_beyond_its_room_is_an_error(short: str) -> None:
    own = [sentences([9, 9, 9]), sentences([1])]
    needed = {"tokens": 60, "words": 27, "sequences": 8, "longest": 30}
    assert pack(own, None, CPU, room=Room(**needed)).ids.shape == (1, 120)
    with pytest.raises(AssertionError, match="room"):
        pack(own, None, CPU, room=Room(**needed | {short: 2}))


def test_a_filled_pack_holds_what_the_other_holds() -> None:
    own = [sentences([3, 4]), sentences([2])]
    labels = [[[1] * 9] * 9] * 2
    bits = [[True, False], [False, False]]
    plain = pack(own, labels, CPU, bits)
    room = Room(tokens=50, words=20, sequences=16, longest=24)
    filled = pack(own, labels, CPU, bits, room=room)
    assert (filled.tokens, filled.words) == (plain.tokens, plain.words)
    for run, (tokens, words) in enumerate(zip(plain.tokens, plain.words, strict=True)):
        for name, count in (("ids", tokens), ("positions", tokens)):
            rows = [getattr(one, name).view(2, -1)[run, :count] for one in (plain, filled)]
            assert torch.equal(*rows), name
        for name in ("starts", "ends", "labels"):
            rows = [getattr(one, name)[run, :words] for one in (plain, filled)]
            assert torch.equal(*rows), name
        assert bool((filled.labels[run, words:] == IGNORED_ID).all())
    starts = filled.attention.cu_seqlens
    assert starts.numel() == 17 and starts[-1] == 100 and 50 in starts.tolist()
    assert int(starts.diff().max()) <= 24 and int(filled.positions.max()) < 24
    assert filled.attention.is_causal is not None
    flags = filled.attention.is_causal[0]
    owner = [int(start) >= 50 for start in starts[:-1]]
    assert isinstance(flags, torch.Tensor) and flags.tolist() == owner
    moved = filled.mapped(torch.clone)
    assert len(moved.tensors()) == len(filled.tensors()) == 7
    assert all(map(torch.equal, moved.tensors(), filled.tensors()))
    # What was derived from a plan belongs to the device it was derived on.
    assert moved.attention.plan.cache is not filled.attention.plan.cache


@hypothesis.example(2, 1)
@given(st.integers(0, 10**6), st.integers(1, 64))
def test_sizes_are_rounded_up_to_few(size: int, least: int) -> None:
    found = rounded_up(size, least)
    assert max(size, least) <= found and rounded_up(found, least) == found
    assert found == least or found <= 1.25 * size + 1
    assert len({rounded_up(other, 16) for other in range(256, 512)}) == 5


@given(st.lists(st.lists(st.integers(1, 90), max_size=9), min_size=1, max_size=4))
def test_every_batch_fits_its_room(counts: list[list[int]]) -> None:
    runs = [sentences(own) for own in counts]
    room = room_for(runs)
    made = pack(runs, None, CPU, room=room)
    assert made.ids.shape == (1, len(runs) * room.tokens)
    assert made.labels.shape == (len(runs), room.words)
    assert made.attention.plan.sequences == room.sequences
    assert room_for([own[::-1] for own in runs[::-1]]) == room


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "plain block": ({"block": "plain"}, "transformers' own forward"),
    "eager attention": ({"attention": "eager"}, "lengths on the host"),
    "one-shot": ({"string": ["0011", "0000"], "mixed": True}, "draws its own string"),
    "rotary": ({"changes": {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}}, "dynamic"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_the_same_work_every_time_is_not_captured(name: str) -> None:
    of_model, reason = REFUSED[name]
    found = assembled(**of_model).tagger
    config = replace(CONFIG, attention=of_model.get("attention", "auto"))
    assert reason in str(why_not_captured_step(found, config, CUDA))


def test_steps_that_recompute_are_not_captured() -> None:
    found = assembled().tagger
    assert why_not_captured_step(found, CONFIG, CUDA) is None
    found.recompute(1)
    assert "--checkpointing" in str(why_not_captured_step(found, CONFIG, CUDA))


def test_without_a_gpu_it_is_said_and_done_eagerly() -> None:
    one, said = built(), list[str]()
    choose = lambda config: choose_step(  # noqa: E731
        one.tagger, one.clock, config, CPU, None, said.append
    )
    assert isinstance(choose(CONFIG), EagerStep) and said == []
    assert isinstance(choose(replace(CONFIG, cuda_graphs="on")), EagerStep)
    assert said == ["  CUDA graphs: off, the device is cpu"]
    asked = replace(CONFIG, cuda_graphs="on")
    assert will_capture(one.tagger, asked, CUDA)
    assert not will_capture(one.tagger, CONFIG, CUDA)
    assert not will_capture(one.tagger, asked, CPU)


def test_the_command_says_it_once_and_trains(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train_command(data, tmp_path / "run", "--max-steps", "2", "--cuda-graphs", "on")
    said = capsys.readouterr()
    assert (said.out + said.err).count("CUDA graphs: off, the device is cpu") == 1
    assert "cuda_graphs: 'on'" in (run / "config.yaml").read_text()
    assert (run / "metrics.json").exists()
