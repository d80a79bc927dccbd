"""How many runs fit into memory at once.

What a run needs is measured, not guessed: the largest update of the whole training goes forward
and backward once through a stack of one. On a GPU the allocator tells the peak; on a CPU, where
nobody does, the tensors kept for the backward are counted and a part is added for what comes and
goes. The rest is arithmetic: a stack of R needs R times as much, since only the frozen weights are
shared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from lmsl.device import usable_memory
from lmsl.packs.examples import Example
from lmsl.packs.packing import Pack, pack, under_budget
from lmsl.packs.sizes import room_for
from lmsl.training.captured_step import will_capture
from lmsl.training.eager_step import word_losses
from lmsl.training.loop import Task
from lmsl.training.memory import PASSING, kept_bytes
from lmsl.training.runs import Run
from lmsl.training.schedule import draw_updates, total_updates
from lmsl.training.stack import Place, Stack


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How many runs to train at once, and the figures behind it."""

    size: int
    bytes_of_run: int
    bytes_to_use: int

    def line(self, runs: int) -> str:
        """For people."""
        return (
            f"--stack auto: a run needs {_gib(self.bytes_of_run)} beside the base, "
            f"{_gib(self.bytes_to_use)} are there to use: {min(self.size, runs)} at once"
        )


def stack_fit(stack: Stack, runs: Sequence[Run], task: Task, place: Place) -> Fit:
    """Measure on a stack of one run, whose weights stay as they are."""
    need = run_bytes(stack, largest_pack(runs, task), task, place)
    to_use = usable_memory(place.device)
    return Fit(size=max(1, to_use // max(1, need)), bytes_of_run=need, bytes_to_use=to_use)


def largest_pack(runs: Sequence[Run], task: Task) -> Sequence[Example]:
    """The examples of the largest micro-batch that any of the runs will meet."""
    config = runs[0].config
    lengths = [sum(len(example.ids) for example in own) for own in task.examples]
    updates = (
        drawn
        for seed in dict.fromkeys(run.seed for run in runs)
        for drawn in islice(
            draw_updates(len(task), config, seed), total_updates(len(task), config)
        )
    )
    largest = max(updates, key=lambda drawn: sum(lengths[index] for index in drawn))
    examples = [example for index in largest for example in task.examples[index]]
    groups = under_budget(examples, config.tokens_per_batch)
    return max(groups, key=lambda group: sum(len(e.ids) for e in group), default=())


def run_bytes(stack: Stack, examples: Sequence[Example], task: Task, place: Place) -> int:
    """Memory that one more run of the stack takes, in bytes."""
    device = place.device
    captured = will_capture(stack.tagger, stack.config, device)
    room = room_for([examples], stack.config.tokens_per_batch) if captured else None
    batch = pack([examples], [task.labels], device, room=room)
    trained = sum(view.nbytes for view in stack.parameters.views[0].values())
    # The weights, their gradients and AdamW's two moments; where steps are captured, fresh
    # gradients beside their sums.
    held = (5 if captured else 4) * trained
    stack.tagger.train()
    stack.clock.set(step=0, token_offset=(0,), word_offset=(0,))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        _backward(stack, batch, place)
        passed = torch.cuda.max_memory_allocated(device) - before - trained
    else:
        passed = int((1 + PASSING) * kept_bytes(stack.tagger, batch, stack.clock, place.autocast))
    stack.parameters.zero_gradients()
    return held + passed


def _backward(stack: Stack, batch: Pack, place: Place) -> None:
    on = place.autocast is not None
    with torch.autocast(place.device.type, dtype=place.autocast, enabled=on):
        logits = stack.tagger(batch)
    word_losses(logits, batch, stack.config.loss).sum().backward()


def _gib(size: int) -> str:
    return f"{size / 2**30:,.2f} GiB"
