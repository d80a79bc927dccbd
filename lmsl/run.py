"""A training run from configuration to report, top to bottom.

    data -> model -> optimizer -> loop (evaluate after every epoch) -> best weights -> report

Several unmask strings or seeds are several runs, each in its own directory.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from lmsl.assemble import Assembled, LoRA, assemble
from lmsl.base import TINY, Base, from_hub, load_base
from lmsl.bits import expand_strings, layer_bits
from lmsl.checkpoint import (
    Progress,
    load_checkpoint,
    refuse_other_settings,
    restore,
    save_checkpoint,
)
from lmsl.config import Config, dump_config
from lmsl.console import Bar, Console
from lmsl.device import choose_device, choose_dtype
from lmsl.dropout import DropoutClock
from lmsl.errors import InputError, TrainingError
from lmsl.inputs import Prepared, prepare, training_task
from lmsl.labeler import Labeler
from lmsl.loop import Update, total_updates, training_updates
from lmsl.lora import RunParameters, trainable_parameters
from lmsl.optim import build_optimizer, default_lr, resolve_optimizer
from lmsl.results import Log, report
from lmsl.run_directory import (
    RunInfo,
    check_output,
    check_sweep,
    is_finished,
    making,
    next_folder,
    writing,
)
from lmsl.sentence import file_shape
from lmsl.source import read_text
from lmsl.sweep import summarise


def train(config: Config, console: Console | None = None) -> list[Labeler]:
    """Train every run of ``config`` and write its directory; one Labeler for each run.

    Raises:
        InputError: bad input; nothing is written then.
        TrainingError: a loss that is not finite, or a full disk.
    """
    return list(train_runs(config, console))


def train_runs(config: Config, console: Console | None = None) -> Iterator[Labeler]:
    """As ``train``, run by run: who drops each Labeler holds one model at a time, not all."""
    console = console or Console()
    output = config.output or next_folder()
    device = choose_device(config.device)
    resolve_optimizer(config.optimizer, device)
    if from_hub(config.model):
        console.say(f"loading {config.model} from the Hugging Face hub or its cache")
    bases = [_load(config, device)]
    depth = bases[0].depth
    runs = _runs(config, output, depth, console)
    _check_folders(runs, output, config)
    console.say(
        f"model: {bases[0].name}, {depth} layers, on {device}; attention {config.attention}"
    )
    data = prepare(config, bases[0], console)
    for one, folder in runs:
        console.say(f"run: unmask {one.unmask[0]}, seed {one.seed[0]} -> {folder}")
        if config.resume and is_finished(folder):
            console.say("  finished already")
            yield Labeler.load(folder, config.device, config.attention)
            continue
        # Assembly changes the decoder in place, so every run after the first loads it again.
        base = bases.pop() if bases else _load(config, device)
        yield train_one(one, folder, base, data, device, console)
        del base
    if len(runs) > 1:
        summarise(output, [folder for _, folder in runs], console)


def train_one(
    config: Config,
    folder: Path,
    base: Base,
    data: Prepared,
    device: torch.device,
    console: Console,
) -> Labeler:
    """Train one run (one string, one seed), select its weights, report and save them."""
    dtype = choose_dtype(config.dtype, device)
    assembled = assemble_run(config, base, len(data.splits.labels), device, dtype)
    for note in assembled.notes:
        console.say(f"  {note}")
    info = _info(config, base, data, assembled)
    autocast = None if dtype == torch.float32 else dtype
    labeler = Labeler(assembled.tagger, data.aligner, info, device, autocast)

    with making(folder, overwrite=config.overwrite and not config.resume):
        progress = _fit(config, folder, labeler, assembled.clock, data, console)
    restore(trainable_parameters(assembled.tagger), progress.kept_weights)
    with writing(folder):
        report(labeler, config, folder, data, progress, console)
    return labeler


def _fit(
    config: Config,
    folder: Path,
    labeler: Labeler,
    clock: DropoutClock,
    data: Prepared,
    console: Console,
) -> Progress:
    """Make all updates, evaluating on dev and saving a checkpoint after every epoch."""
    trained = trainable_parameters(labeler.tagger)
    parameters = RunParameters(trained, runs=1)
    lr = default_lr(labeler.tagger.head.hidden) if config.lr is None else config.lr
    console.say(f"  learning rate {lr:.2g}, {resolve_optimizer(config.optimizer, labeler.device)}")
    optimizer = build_optimizer(
        parameters.views[0],
        name=config.optimizer,
        lr=lr,
        beta2=config.beta2,
        epsilon=config.epsilon,
        weight_decay=config.weight_decay,
    )
    progress, settings, task = Progress(), dump_config(config), training_task(data)
    if config.resume:
        progress = load_checkpoint(folder, trained, optimizer, settings) or progress
        console.say(
            f"  going on after update {progress.updates}"
            if progress.updates
            else "  no checkpoint to go on from: beginning anew"
        )
    log = Log(folder / "log.jsonl", progress.updates)
    updates = training_updates(
        labeler.tagger,
        task,
        config,
        clock=clock,
        parameters=parameters,
        optimizers=[optimizer],
        peak_lr=lr,
        device=labeler.device,
        autocast=labeler.autocast,
        done=progress.updates,
    )
    began = time.monotonic() - progress.seconds
    with console.bar("training", total_updates(len(task), config), progress.updates) as bar:
        while not _out_of_patience(config, progress) and (update := next(updates, None)):
            bar.advance(update)
            log.update(update)
            if update.ends_epoch:
                score = _evaluate_dev(labeler, data, update, log, bar, console)
                seconds = time.monotonic() - began
                progress.note(update, score, seconds, trained, keep_last=config.select == "last")
                with writing(folder):
                    log.flush()
                    save_checkpoint(folder, progress, trained, optimizer, settings)
    if _out_of_patience(config, progress):
        console.say(f"  stopped: no better dev score in {progress.bad_epochs} epochs")
    return progress


def _out_of_patience(config: Config, progress: Progress) -> bool:
    return config.patience is not None and progress.bad_epochs >= config.patience


def _load(config: Config, device: torch.device) -> Base:
    return load_base(
        config.model,
        revision=config.revision,
        exit_layer=config.exit_layer,
        dtype=choose_dtype(config.dtype, device),
    )


def _strings(config: Config, depth: int, console: Console) -> list[str]:
    """The strings of all runs; those that an early exit makes equal are one."""
    chosen: dict[tuple[bool, ...], str] = {}
    for string in expand_strings(config.unmask, depth, config.groups):
        bits = layer_bits(string, depth)[: config.exit_layer]
        if bits in chosen:
            console.say(f"unmask {string}: the same run as {chosen[bits]}, trained once")
        else:
            chosen[bits] = string
    return list(chosen.values())


def _runs(config: Config, output: Path, depth: int, console: Console) -> list[tuple[Config, Path]]:
    """The configuration and the folder of every run."""
    ones = [
        replace(config, unmask=(string,), seed=(seed,))
        for string in _strings(config, depth, console)
        for seed in config.seed
    ]
    if len(ones) == 1:
        return [(ones[0], output)]
    return [(one, output / one.unmask[0] / f"seed{one.seed[0]}") for one in ones]


def _check_folders(runs: list[tuple[Config, Path]], output: Path, config: Config) -> None:
    """Refuse, before anything is written, every folder that a run must not go to."""
    if len(runs) > 1:
        check_sweep(output)
    for one, folder in runs:
        check_output(folder, overwrite=config.overwrite, resume=config.resume)
        if config.resume and is_finished(folder):
            before = read_text(folder / "config.yaml")
            refuse_other_settings(folder, before, dump_config(one))


def assemble_run(
    config: Config, base: Base, classes: int, device: torch.device, dtype: torch.dtype
) -> Assembled:
    """The tagger of a run as its configuration wants it, over a base just loaded."""
    return assemble(
        base,
        string=config.unmask[0],
        classes=classes,
        label_at=config.label_at,
        lora=LoRA(
            rank=config.lora_rank,
            alpha=config.lora_alpha,
            dropout=config.lora_dropout,
            targets=config.lora_targets,
        ),
        head_dropout=config.head_dropout,
        seeds=config.seed,
        quantize=config.quantize,
        resident=config.resident,
        device=device,
        dtype=dtype,
        attention=config.attention,
        block=config.block,
        checkpointing=config.checkpointing,
    )


def _info(config: Config, base: Base, data: Prepared, assembled: Assembled) -> RunInfo:
    return RunInfo(
        unmask=config.unmask[0],
        labels=data.splits.labels,
        base=_lasting_name(base.name),
        revision=base.revision,
        lora=assembled.lora,
        label_at=config.label_at,
        words=config.words,
        tokenization=data.aligner.mode,
        decode=config.decode,
        repeat=config.repeat,
        exit_layer=config.exit_layer,
        context=config.context,
        max_length=config.max_length,
        overflow=config.overflow,
        tokens_per_batch=config.tokens_per_batch,
        quantize=config.quantize,
        block="plain" if assembled.tagger.block is None else "own",
        dtype=config.dtype,
        seed=config.seed[0],
        files=file_shape(config),
    )


def _lasting_name(model: str) -> str:
    """A folder by its whole path, so that the run loads from anywhere; other names as they are."""
    folder = Path(model).expanduser()
    return str(folder.resolve()) if model != TINY and folder.is_dir() else model


def _evaluate_dev(
    labeler: Labeler, data: Prepared, update: Update, log: Log, bar: Bar, console: Console
) -> float:
    """The dev score that selection goes by: F1, or accuracy where tags are plain."""
    try:
        tagged = labeler.tag(data.splits.dev.sentences, data.dev)
    except InputError as error:
        raise TrainingError(f"dev, after update {update.step}: {error}; or lower --lr") from error
    metrics = labeler.metrics(data.splits.dev, tagged)
    log.dev(update, metrics)
    name = "accuracy" if data.splits.labels.plain else "f1"
    score = float(metrics[name])
    bar.dev(name, score)
    loss = sum(update.loss) / len(update.loss)
    console.say(f"  epoch {update.epoch}: loss {loss:.4f}, dev {name} {100 * score:.2f}")
    return score
