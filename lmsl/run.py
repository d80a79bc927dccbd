"""Training from configuration to report, top to bottom.

    data -> base model -> stacks of runs -> loop (evaluate after every epoch)
    -> best weights of each run, alone -> report

Several unmask strings or seeds are several runs, each in its own directory. ``lmsl train`` trains
them one after another, ``lmsl sweep`` in stacks over one base; a run is the same either way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from lmsl.config.config import DEFAULT_STRING, Config
from lmsl.config.tasks import idle_of_recipe
from lmsl.console import Console
from lmsl.data.formats.options import file_shape
from lmsl.data.splits import Splits
from lmsl.device import choose_device, choose_dtype
from lmsl.errors import InputError
from lmsl.generation.generator import Generator, load_run
from lmsl.generation.respondent import Respondent
from lmsl.run_directory.digests import Digests, base_digests
from lmsl.run_directory.folder import (
    check_place,
    is_pruned,
    making,
    next_folder,
    sweep_leftovers,
    writing,
)
from lmsl.run_directory.info import RunInfo
from lmsl.run_directory.lock import locked
from lmsl.search.asked import OneShot, StackSize, check_alone, check_stack_size
from lmsl.search.oneshot import best_by_oneshot, check_oneshot
from lmsl.search.pruning import drop_losers
from lmsl.search.summary import summarise
from lmsl.tagger.assemble import Assembled
from lmsl.tagger.base import Base, load_base
from lmsl.tagger.labeler import Labeler
from lmsl.tagger.source import TINY, from_hub
from lmsl.training.data import check_known_folders, data_digests, read_splits
from lmsl.training.epochs import fit
from lmsl.training.inputs import prepare, training_task
from lmsl.training.optim import resolve_optimizer
from lmsl.training.results import write_run
from lmsl.training.runs import (
    Run,
    check_folders,
    find_progress,
    in_stacks,
    planned_runs,
    stacks_line,
)
from lmsl.training.schedule import epoch_ends, length_line
from lmsl.training.session import Session
from lmsl.training.stack import Place, alone
from lmsl.training.warmup import check_warm_up, warm_up

Trained = Labeler | Generator


def train(
    config: Config,
    console: Console | None = None,
    *,
    stack: StackSize = 1,
    prune: bool = False,
) -> list[Trained]:
    """Train every run of ``config`` and write its directory; one Labeler for each run, or one
    Generator.

        >>> settings = lmsl.Config(unmask=("0000", "0011"), data="data", max_steps=2, output="two")
        >>> [labeler.info.unmask for labeler in lmsl.train(settings)]
        ['0000', '0011']

    Args:
        config: several unmask strings or seeds make several runs.
        console: where to tell how it goes.
        stack: how many runs are trained at once; ``auto``: as many as fit into memory.
        prune: after each epoch drop the strings that cannot win any more, see
            ``lmsl.search.racing``; a pruned run gives no Labeler.

    Raises:
        InputError: bad input; nothing is written then.
        TrainingError: a loss that is not finite, or a full disk.
    """
    found = list(train_runs(config, console, stack=stack, prune=prune))
    return [
        labeler or load_run(run.folder, config.device, config.attention)
        for run, labeler in sorted(found, key=lambda pair: pair[0].number)
    ]


def train_runs(
    config: Config,
    console: Console | None = None,
    *,
    stack: StackSize = 1,
    prune: bool = False,
    oneshot: OneShot | None = None,
    splits: Splits | None = None,
) -> Iterator[tuple[Run, Trained | None]]:
    """As ``train``, run by run as they end: who drops each Labeler keeps no weights in memory.

    A run that an earlier process finished comes without a Labeler. With ``oneshot`` only the runs
    of the strings that it puts first are trained.

    Args:
        splits: the data of ``config``, where it has been read already.
    """
    if not isinstance(config, Config):
        raise InputError(f"train: expected a lmsl.Config, got {type(config).__name__}")
    check_stack_size(stack)
    check_alone(config, stack, prune=prune, oneshot=oneshot)
    console = console or Console()
    output = config.output or next_folder()
    check_place(output)
    check_known_folders(config)
    check_warm_up(config)
    splits = splits or read_splits(config)
    with locked(output, console.say):
        session, runs = _begin(config, output, console, oneshot, splits)
        if oneshot is not None:
            runs = best_by_oneshot(session, runs, output, oneshot)
        yield from _train_all(session, runs, stack, prune)
        if len(runs) > (1 if oneshot is None else 0):
            summarise(output, [run.folder for run in runs], console)


def _begin(
    config: Config, output: Path, console: Console, oneshot: OneShot | None, splits: Splits
) -> tuple[Session, list[Run]]:
    """Everything that all runs share, and the runs, before anything is written."""
    device = choose_device(config.device)
    place = Place(device=device, dtype=choose_dtype(config.dtype, device))
    resolve_optimizer(config.optimizer, device)
    if config.revision is not None and not from_hub(config.model):
        raise InputError(
            f"--revision {config.revision}: expected a model of the hub, got --model "
            f"{config.model}, which is here; leave it out"
        )
    for idle in idle_of_recipe(config):
        console.say(idle)
    if from_hub(config.model):
        console.say(f"loading {config.model} from the Hugging Face hub or its cache")
    base = load_base(
        config.model,
        revision=config.revision,
        exit_layer=config.exit_layer,
        # Steps are too small for 16 bits: weights that are trained are kept in 32.
        dtype=place.dtype if config.tune == "lora" else torch.float32,
        causal_lm=config.task == "generate" or config.warmup_mntp > 0,
    )
    config = _with_string(config, base, console)
    digests = Digests(
        base=base_digests(base.folder, console.say),
        data=data_digests(splits),
    )
    runs = planned_runs(config, output, base.depth, digests, console)
    check_folders(runs, output, config)
    if oneshot is not None:
        check_oneshot(runs, config, output, oneshot)
    console.say(
        f"model: {base.name}, {base.depth} layers, on {device}; attention {config.attention}"
    )
    for note in base.notes:
        console.say(f"  {note}")
    data = prepare(config, base, splits, console)
    task = training_task(data)
    if (line := length_line(len(task), config)) is not None:
        console.say(f"  {line}")
    session = Session(config=config, base=base, data=data, task=task, place=place, console=console)
    if config.resume:
        find_progress([run for run in runs if not run.ended], len(task), console.say)
    return session, runs


def _with_string(config: Config, base: Base, console: Console) -> Config:
    """The configuration, with the string that its model has by default."""
    if config.unmask:
        return config
    if base.kind == "decoder":
        string, why = DEFAULT_STRING, "chosen for you; --unmask grid compares all sixteen"
    else:
        string, why = "full", f"{base.name} is an encoder, whose layers see to both sides"
    console.say(f"unmask {string}: {why}")
    return replace(config, unmask=(string,))


def _train_all(
    session: Session, runs: Sequence[Run], size: StackSize, prune: bool
) -> Iterator[tuple[Run, Trained | None]]:
    """Train the runs that are not finished, in stacks, epoch by epoch where losers are dropped."""
    resume, say = session.config.resume, session.console.say
    for run in runs:
        if resume and run.ended:
            how = "pruned" if is_pruned(run.folder) else "finished"
            say(f"run: {run.name} -> {run.folder}\n  {how} already")
            with writing(run.folder):
                sweep_leftovers(run.folder)
            if how == "finished":
                yield run, None
    waiting = [run for run in runs if not (resume and run.ended)]
    if not waiting:
        return
    size = session.stack_size(waiting) if size == "auto" else size
    if size > 1 and len(waiting) > 1:
        say(stacks_line(waiting, size))
    ends = epoch_ends(len(session.task), session.config)
    for until in ends if prune else ends[-1:]:
        behind = [run for run in waiting if not run.over and run.progress.updates < until]
        for group in in_stacks(behind, size):
            yield from _train_stack(session, group, until, prune)
        for run in waiting:
            # Over before this process began, but for its report.
            if run.over and not run.reported:
                yield run, _finish(session, run)
        waiting = [run for run in waiting if not run.over]
        if prune and waiting:
            waiting = drop_losers(waiting, session.console)


def _train_stack(
    session: Session, group: Sequence[Run], until: int, compared: bool
) -> Iterator[tuple[Run, Trained]]:
    """Train some runs together, then report on those that have come to their end."""
    session.announce(group)
    stack = session.stack_of(group)
    anew = session.config.overwrite and not session.config.resume and not stack.updates
    with making([run.folder for run in group], overwrite=anew):
        if session.config.warmup_mntp and not group[0].progress.begun:
            warm_up(stack, session.base, session.data, session.place, session.console)
        fit(
            stack,
            session.task,
            session.data,
            session.place,
            session.console,
            until=until,
            compared=compared,
            peak=session.peak,
        )
    if all(run.over for run in group):
        session.say_peak()
    for run in group:
        if run.over:
            yield run, _finish(session, run)


def _finish(session: Session, run: Run) -> Trained:
    """Evaluate the selected weights of a run by that run alone, and write its directory."""
    data, place = session.data, session.place
    assembled = alone(run, session.base, len(data.splits.labels), place)
    info = _info(session, run, assembled)
    trained = _trained(session, assembled, info)
    if session.announced != 1:
        session.console.say(f"run: {run.name} -> {run.folder}")
    with writing(run.folder):
        write_run(trained, run.config, run.folder, data, run.progress, session.console)
    run.reported = True
    run.progress.kept_weights = {}
    return trained


def _trained(session: Session, assembled: Assembled, info: RunInfo) -> Trained:
    """The run in use."""
    data, place = session.data, session.place
    if data.prompter is None:
        return Labeler(assembled.tagger, data.aligner, info, place.device, place.autocast)
    respondent = Respondent.of(
        assembled.tagger,
        assembled.base,
        data.prompter,
        seed=info.seed,
        tokens_per_batch=info.tokens_per_batch,
        device=place.device,
        autocast=place.autocast,
    )
    return Generator(respondent, info)


def _info(session: Session, run: Run, assembled: Assembled) -> RunInfo:
    config = run.config
    return RunInfo(
        unmask=run.string,
        labels=session.data.splits.labels,
        base=_lasting_name(session.base.name),
        revision=session.base.revision,
        lora=assembled.lora,
        label_at=config.label_at,
        words=config.words,
        tokenization=session.data.aligner.mode,
        decode=config.decode,
        repeat=config.repeat,
        exit_layer=config.exit_layer,
        context=config.context,
        max_length=config.max_length,
        overflow=config.overflow,
        tokens_per_batch=config.tokens_per_batch,
        quantize=config.frozen,
        block="plain" if assembled.tagger.block is None else "own",
        dtype=config.dtype,
        seed=run.seed,
        files=file_shape(config),
        task=config.task,
        generation=None if session.data.prompter is None else session.data.prompter.generation,
        digests=run.digests,
    )


def _lasting_name(model: str) -> str:
    """A folder or file by its whole path, so that the run loads from anywhere; other names as they
    are."""
    place = Path(model).expanduser()
    return str(place.resolve()) if model != TINY and place.exists() else model
