"""What all runs of one command share: data, base model, device; and the stack at work on them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lmsl.config.config import Config
from lmsl.console import Console
from lmsl.tagger.base import Base
from lmsl.training.captured_step import will_capture
from lmsl.training.inputs import Prepared
from lmsl.training.loop import Task
from lmsl.training.memory import expected_memory
from lmsl.training.optim import resolve_optimizer
from lmsl.training.recompute import choose_recomputed
from lmsl.training.runs import Run
from lmsl.training.stack import Place, Stack, assemble_runs
from lmsl.training.stack_size import stack_fit


@dataclass(kw_only=True)
class Session:
    """One base and one set of data, for stack after stack."""

    config: Config
    base: Base
    data: Prepared
    task: Task
    place: Place
    console: Console
    stack: Stack | None = field(default=None)
    """The one at work. There is at most one: assembly changes the base in place."""
    announced: int = 0
    """Runs of the group that is trained."""

    def announce(self, group: Sequence[Run]) -> None:
        """Say which runs are trained now."""
        self.announced = len(group)
        if len(group) == 1:
            self.console.say(f"run: {group[0].name} -> {group[0].folder}")
            return
        self.console.say(f"stack of {len(group)} runs:")
        for seed in dict.fromkeys(run.seed for run in group):
            strings = " ".join(run.string for run in group if run.seed == seed)
            self.console.say(f"  seed {seed}: {strings}")

    def stack_of(self, group: Sequence[Run]) -> Stack:
        """The stack at work, reduced to these runs, where it has them all; else a new one."""
        at_work = [] if self.stack is None else self.stack.runs
        if self.stack is not None and set(group) <= set(at_work):
            if len(group) < len(at_work):
                self.stack.keep([at_work.index(run) for run in group])
            return self.stack
        # The old one first gives back its memory.
        self.stack = None
        classes = len(self.data.splits.labels)
        assembled = assemble_runs(group, self.config, self.base, classes, self.place)
        self.stack = Stack(group, assembled, self.config)
        for note in self.stack.notes:
            self.console.say(f"  {note}")
        optimizer = resolve_optimizer(self.config.optimizer, self.place.device)
        self.console.say(f"  learning rate {self.stack.lr:.2g}, {optimizer}")
        expected = expected_memory(
            self.stack.tagger,
            self.task,
            self.config,
            clock=self.stack.clock,
            device=self.place.device,
            autocast=self.place.autocast,
            captured=will_capture(self.stack.tagger, self.config, self.place.device),
        )
        expected, chosen = choose_recomputed(
            self.stack.tagger, self.config.checkpointing, expected, self.place.device
        )
        self.console.say(f"  {chosen}")
        self.console.say(f"  {expected.line()}")
        if self.stack.updates:
            self.console.say(f"  going on after update {self.stack.updates}")
        elif self.config.resume:
            self.console.say("  no checkpoint to go on from: beginning anew")
        return self.stack

    def stack_size(self, runs: Sequence[Run]) -> int:
        """How many of these runs to train at once: as many as fit into memory."""
        if len(runs) == 1:
            return 1
        fit = stack_fit(self.stack_of(runs[:1]), runs, self.task, self.place)
        self.console.say(fit.line(len(runs)))
        return fit.size
