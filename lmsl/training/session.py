"""What all runs of one command share: data, base model, device; and the stack at work on them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lmsl.config.config import Config
from lmsl.console import Console
from lmsl.tagger.assemble import why_alone
from lmsl.tagger.base import Base
from lmsl.training.captured_step import will_capture
from lmsl.training.fitting import choose_recomputed, runs_at_once
from lmsl.training.inputs import Prepared
from lmsl.training.loop import Task
from lmsl.training.memory import Memory, expected_memory, most_tokens
from lmsl.training.optim import resolve_optimizer
from lmsl.training.peak import Peak
from lmsl.training.runs import Run
from lmsl.training.stack import Place, Stack, assemble_runs


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
    expected: Memory | None = field(default=None)
    """What it will take."""
    peak: Peak | None = field(default=None)
    """What it takes."""
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
            # That a CPU is no GPU goes without saying.
            plain = self.place.device.type == "cpu" and not self.console.verbose
            self.console.say(f"  {note.partition('; not by ')[0] if plain else note}")
        optimizer = resolve_optimizer(self.config.optimizer, self.place.device)
        nothing = "" if self.stack.lr else ", which trains nothing"
        self.console.say(f"  learning rate {self.stack.lr:.2g}{nothing}, {optimizer}")
        self.expected = self._made_to_fit(self.stack)
        held = self.expected.weights + self.expected.adapters
        held += self.expected.optimizer if self.stack.updates else 0
        self.peak = Peak(self.place.device, held)
        if self.stack.updates:
            self.console.say(f"  going on after update {self.stack.updates}")
        elif group[0].progress.warmed:
            self.console.say("  going on after the warm-up")
        elif self.config.resume:
            self.console.say("  no checkpoint to go on from: beginning anew")
        return self.stack

    def stack_size(self, runs: Sequence[Run]) -> int:
        """How many of these runs to train at once: as many as fit into memory."""
        if len(runs) == 1:
            return 1
        if self.config.tune == "full":
            return self._one_at_a_time(padded=False)
        # Nobody is told of a stack that is there to be counted.
        counted = replace(self, console=Console(quiet=True), stack=None)
        tagger = counted.stack_of(runs[:1]).tagger
        if tagger.calling.padded:
            return self._one_at_a_time(padded=True)
        assert counted.expected is not None
        captured = will_capture(tagger, self.config, self.place.device)
        seeds = [run.seed for run in runs]
        tokens = most_tokens(self.task, self.config, seeds, captured=captured)
        one = replace(counted.expected, tokens=tokens)
        size, line = runs_at_once(one, len(runs), self.place.device)
        self.console.say(line)
        return size

    def _one_at_a_time(self, *, padded: bool) -> int:
        why = why_alone(self.config.tune == "full", padded=padded)
        self.console.say(f"--stack auto: 1 at once, {why}")
        return 1

    def say_peak(self) -> None:
        """What the stack at work took, beside what was expected of it."""
        if self.peak is not None and self.expected is not None:
            self.console.say(f"  {self.peak.line(self.expected)}")

    def _made_to_fit(self, stack: Stack) -> Memory:
        """What the stack will take, with as many layers recomputed as that asks for."""
        device = self.place.device
        expected = expected_memory(
            stack.tagger,
            self.task,
            self.config,
            clock=stack.clock,
            device=device,
            autocast=self.place.autocast,
            captured=will_capture(stack.tagger, self.config, device),
        )
        choice = self.config.checkpointing
        expected, chosen = choose_recomputed(stack.tagger, choice, expected, device)
        self.console.say(f"  {chosen}")
        self.console.say(f"  {expected.line()}")
        return expected
