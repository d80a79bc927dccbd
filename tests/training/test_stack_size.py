"""How runs are cut into stacks, and what a stack is said to need."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from lmsl.cli import main
from lmsl.config.config import Config
from lmsl.packs.packing import pack
from lmsl.packs.sizes import room_for
from lmsl.training.checkpoint import Progress
from lmsl.training.memory import PASSING, kept_bytes
from lmsl.training.runs import Run, in_stacks, stacks_line
from lmsl.training.schedule import draw_updates, total_updates
from lmsl.training.stack import Place, Stack
from lmsl.training.stack_size import largest_pack, run_bytes
from tests.layers.block_tools import assembled
from tests.small_runs import SHORT
from tests.tagger.tagger_tools import CPU, build_task

PLACE = Place(device=CPU, dtype=torch.float32)
CONFIG = Config(unmask=("0101",), batch_size=4, epochs=3, max_steps=7)


def runs(count: int, seeds: int = 1, config: Config = CONFIG) -> list[Run]:
    return [
        Run(config=replace(config, seed=(1 + number % seeds,)), folder=Path(f"none/{number}"))
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [(16, 16, [16]), (16, 15, [8, 8]), (17, 6, [6, 5, 6]), (3, 1, [1, 1, 1]), (2, 9, [2])],
)
def test_stacks_are_as_equal_as_possible(count: int, size: int, expected: list[int]) -> None:
    stacks = in_stacks(runs(count), size)
    assert sorted(map(len, stacks)) == sorted(expected)
    assert max(map(len, stacks)) <= size
    assert len({run.folder for own in stacks for run in own}) == count


def test_how_runs_are_cut_is_said() -> None:
    assert stacks_line(runs(16), 8) == "16 runs in 2 stacks of 8"
    assert stacks_line(runs(17), 9) == "17 runs in 2 stacks of up to 9"
    assert stacks_line(runs(3), 4) == "3 runs in 1 stack of 3"


def test_runs_of_one_seed_are_neighbours() -> None:
    stacks = in_stacks(runs(6, seeds=2), 3)
    assert [[run.seed for run in own] for own in stacks] == [[1, 1, 1], [2, 2, 2]]
    in_order = runs(6, seeds=2)
    assert [own[0] for own in in_stacks(in_order, 1)] == in_order


def test_only_runs_that_are_equally_far_share_a_stack() -> None:
    mixed = runs(5)
    for run in mixed[:2]:
        run.progress = Progress(updates=3)
    assert [len(own) for own in in_stacks(mixed, 8)] == [2, 3]


@pytest.mark.parametrize("budget", [1, 30, 10_000])
def test_the_largest_pack_is_the_largest_of_all_updates(budget: int) -> None:
    task, several = build_task(11), runs(3, 3, replace(CONFIG, tokens_per_batch=budget))
    found = sum(len(example.ids) for example in largest_pack(several, task))
    sizes = [
        sum(len(example.ids) for index in drawn for example in task.examples[index])
        for run in several
        for drawn in islice(draw_updates(11, run.config, run.seed), total_updates(11, CONFIG))
    ]
    if budget == 10_000:
        assert found == max(sizes)
    elif budget == 30:
        assert 0.5 * budget < found <= budget
    else:
        assert found == max(len(e.ids) for own in task.examples for e in own)


@pytest.mark.parametrize("block", ["own", "plain"])
def test_a_stack_keeps_as_much_as_its_runs_alone(block: str) -> None:
    """What is measured on one run has to hold for a stack of four."""
    task, config = build_task(8), replace(CONFIG, lora_dropout=0.0, head_dropout=0.0)
    examples = [example for own in task.examples for example in own]
    kept = []
    for count in (1, 4):
        seeds = tuple(range(count))
        stack = Stack(runs(count), assembled(block=block, seeds=seeds), config)
        batch = pack([examples] * count, [task.labels] * count, CPU)
        kept.append(kept_bytes(stack.tagger, batch, stack.clock))
    assert kept[1] == pytest.approx(4 * kept[0], rel=0.1)
    stack = Stack(runs(1), assembled(block=block), config)
    before = [view.clone() for view in stack.parameters.views[0].values()]
    small, large = (run_bytes(stack, part, task, PLACE) for part in (examples[:2], examples))
    assert 0 < small < large
    after = stack.parameters.views[0].values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(view.grad is None for view in after), "measuring leaves nothing behind"


def test_captured_steps_need_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filling, and fresh gradients beside their sums."""
    task, found = build_task(8), []
    examples = [example for own in task.examples for example in own]
    stack = Stack(runs(1), assembled(), replace(CONFIG, cuda_graphs="on"))
    for captured in (False, True):
        monkeypatch.setattr(
            "lmsl.training.stack_size.will_capture", lambda *given, now=captured: now
        )
        found.append(run_bytes(stack, examples, task, PLACE))
    room = room_for([examples], CONFIG.tokens_per_batch)
    filled = pack([examples], [task.labels], CPU, room=room)
    kept = [
        kept_bytes(stack.tagger, batch, stack.clock)
        for batch in (pack([examples], [task.labels], CPU), filled)
    ]
    trained = sum(view.nbytes for view in stack.parameters.views[0].values())
    assert filled.ids.shape[1] > sum(len(example.ids) for example in examples)
    more = trained + int((1 + PASSING) * kept[1]) - int((1 + PASSING) * kept[0])
    assert found[1] - found[0] == more > trained


def test_the_choice_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With little memory two runs are two stacks."""
    from lmsl.training import stack_size

    monkeypatch.setattr(stack_size, "usable_memory", lambda device: 1)
    line = ["sweep", "--unmask", "0011", "0000", "--data", str(data), *SHORT, "--max-steps", "1"]
    assert main([*line, "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "--stack auto: a run needs 0.0" in said and "1 at once" in said
    assert said.count("run: unmask") == 2 and "stack of" not in said
