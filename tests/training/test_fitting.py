"""As few layers as memory asks for are computed again, and as many runs as fit go together."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsl.cli import main
from lmsl.config.choices import Checkpointing
from lmsl.config.config import Config
from lmsl.packs.packing import pack
from lmsl.tagger.tagger import Tagger
from lmsl.training import fitting
from lmsl.training.fitting import choose_recomputed, least_recomputed, runs_at_once
from lmsl.training.memory import Memory, expected_memory, kept_bytes
from tests.layers.block_tools import assembled
from tests.small_runs import SHORT, same_files, train
from tests.tagger.tagger_tools import CPU, build_task

MEMORY = Memory(
    weights=10_000,
    adapters=50,
    optimizer=100,
    per_token=80.0,
    tokens=100,
    layers=8,
    per_input=2,
    passing=0.0,
)
FOUR = replace(MEMORY, layers=4)
FOR_TWO = FOUR.to_come + replace(FOUR, recomputed=2).activations
CONFIG = Config(unmask=("0101",), batch_size=16, tokens_per_batch=4096)


@given(st.integers(-100, 20_000))
def test_no_layer_more_than_has_to_be(room: int) -> None:
    count = least_recomputed(MEMORY, room)
    assert 0 <= count <= MEMORY.layers
    if count < MEMORY.layers:
        assert replace(MEMORY, recomputed=count).activations <= room
    if count:
        assert replace(MEMORY, recomputed=count - 1).activations > room


def test_activations_shrink_with_every_layer_but_the_first() -> None:
    """One layer is computed again at a time, and is in memory then."""
    sizes = [replace(MEMORY, recomputed=count).activations for count in range(9)]
    assert sizes[0] == 8_000 and sizes[1] == 8_000 + 200
    assert all(one - other == 800 for one, other in pairwise(sizes[1:]))
    # The inputs of all layers, and one layer.
    assert sizes[8] == 8 * 200 + 1_000


def test_what_is_expected_is_kept() -> None:
    """Inputs of recomputed layers are held by autograd unseen: they are added here."""
    found = assembled(changes={"num_hidden_layers": 4}, string="0011")
    task = build_task(12)
    whole = expected_memory(found.tagger, task, CONFIG, clock=found.clock, device=CPU)
    examples = [example for own in task.examples for example in own]
    batch = pack([examples], None, CPU)
    tokens = batch.ids.shape[1]
    for layers in (1, 2, 3, 4):
        found.tagger.recompute(layers)
        seen = kept_bytes(found.tagger, batch, found.clock) + layers * tokens * whole.per_input
        expected = replace(whole, recomputed=layers, tokens=tokens, passing=0.0).activations
        once_again = whole.per_token / whole.layers * tokens
        assert abs(expected - once_again - seen) < 0.1 * whole.per_token * tokens


@pytest.fixture(scope="module")
def own() -> Tagger:
    """With a forward of ours; that of transformers cannot be told to keep again."""
    return assembled().tagger


@pytest.mark.parametrize(
    ("choice", "room", "count", "words"),
    [
        ("no", 0, 0, "kept (--checkpointing no)"),
        ("yes", 1 << 40, 4, "recomputed in all 4 layers (--checkpointing yes)"),
        ("auto", 1 << 40, 0, "kept (--checkpointing auto: "),
        ("auto", 0, 4, "recomputed in 4 of 4 layers (--checkpointing auto: "),
        ("auto", FOR_TWO, 2, "recomputed in 2 of 4 layers (--checkpointing auto: "),
    ],
)
@pytest.mark.parametrize("block", ["auto", "plain"])
def test_choice_and_words(
    choice: Checkpointing,
    room: int,
    count: int,
    words: str,
    block: str,
    own: Tagger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The forward of transformers knows all or nothing."""
    monkeypatch.setattr(fitting, "usable_memory", lambda device: room)
    tagger = own if block == "auto" else assembled(block=block).tagger
    tagger.recompute(0)
    memory, said = choose_recomputed(tagger, choice, FOUR, CPU)
    if block == "plain" and count:
        count, words = 4, words.replace(" 2 of", " 4 of")
    assert words in said
    assert (memory.recomputed, tagger.recomputed) == (count, count)
    switched_on = any(getattr(m, "gradient_checkpointing", False) for m in tagger.modules())
    assert switched_on == (block == "plain" and count > 0)


def test_a_training_short_of_memory_ends_with_the_same_bits(
    run: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(fitting, "usable_memory", lambda device: 4 << 20)
    other = train(data, tmp_path / "other")
    said = capsys.readouterr()
    assert "layers (--checkpointing auto" in said.out + said.err
    same_files(run, other, "adapter_model.safetensors", "head.safetensors", "log.jsonl")


@pytest.mark.parametrize("block", ["own", "plain"])
def test_a_stack_takes_as_much_as_its_runs_alone(block: str) -> None:
    """What is expected of one run has to hold for a stack of four."""
    task, found = build_task(8), []
    for count in (1, 4):
        own = assembled(block=block, seeds=tuple(range(count)))
        found.append(expected_memory(own.tagger, task, CONFIG, clock=own.clock, device=CPU))
    assert found[1].of_runs == pytest.approx(4 * found[0].of_runs, rel=0.1)
    assert found[1].weights == pytest.approx(found[0].weights, rel=0.01)


@given(st.integers(-100, 200_000), st.integers(1, 16))
def test_as_many_runs_as_fit(room: int, runs: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "usable_memory", lambda device: room)
        size, line = runs_at_once(MEMORY, runs, CPU)
    assert 1 <= size <= runs and line.endswith(f": {size} at once")
    assert size == 1 or size * MEMORY.of_runs <= room
    assert size == runs or (size + 1) * MEMORY.of_runs > room


def test_the_choice_of_a_sweep_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With little memory two runs are two stacks, and each says what it took."""
    monkeypatch.setattr(fitting, "usable_memory", lambda device: 1)
    line = ["sweep", "--unmask", "0011", "0000", "--data", str(data), *SHORT, "--max-steps", "1"]
    assert main([*line, "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "--stack auto: a run needs " in said and "1 at once" in said
    assert said.count("run: unmask") == 2 and "stack of" not in said
    assert said.count("were expected") == 2
