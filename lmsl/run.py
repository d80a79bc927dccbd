"""A training run from configuration to report, top to bottom.

    data -> model -> optimizer -> loop (evaluate after every epoch) -> best weights -> report

Several unmask strings or seeds are several runs, each in its own directory.
"""

import time
from dataclasses import replace
from pathlib import Path

import torch

from lmsl.assemble import Assembled, LoRA, assemble
from lmsl.bits import expand_strings, layer_bits
from lmsl.checkpoint import Progress, load_checkpoint, restore, save_checkpoint
from lmsl.config import Config, dump_config
from lmsl.console import Bar, Console
from lmsl.dropout import DropoutClock
from lmsl.inputs import Prepared, prepare, training_task
from lmsl.labeler import Labeler
from lmsl.loop import Update, total_updates, training_updates
from lmsl.lora import RunParameters, trainable_parameters
from lmsl.model import Base, choose_device, choose_dtype, load_base
from lmsl.optim import build_optimizer, default_lr, resolve_optimizer
from lmsl.results import Log, report, summarise
from lmsl.run_directory import (
    RunInfo,
    check_output,
    clear,
    is_finished,
    next_folder,
    writing,
)


def train(config: Config, console: Console | None = None) -> list[Labeler]:
    """Train every run of ``config`` and write its directory; one Labeler for each run.

    Raises:
        InputError: bad input; nothing is written then.
        TrainingError: a loss that is not finite, or a full disk.
    """
    console = console or Console()
    output = config.output or next_folder()
    device = choose_device(config.device)
    base = _load(config, device)
    runs = [(string, seed) for string in _strings(config, base, console) for seed in config.seed]
    folders = [_folder(output, string, seed, len(runs)) for string, seed in runs]
    for folder in folders:
        check_output(folder, overwrite=config.overwrite, resume=config.resume)
    console.say(
        f"model: {base.name}, {base.depth} layers, on {device}; attention {config.attention}"
    )
    data = prepare(config, base, console)
    labelers: list[Labeler] = []
    for (string, seed), folder in zip(runs, folders, strict=True):
        console.say(f"run: unmask {string}, seed {seed} -> {folder}")
        if config.resume and is_finished(folder):
            console.say("  finished already")
            labelers.append(Labeler.load(folder, config.device, config.attention))
            continue
        one = replace(config, unmask=(string,), seed=(seed,))
        # Assembly changes the decoder in place, so every run after the first loads it again.
        fresh = base if not labelers else _load(config, device)
        labelers.append(train_one(one, folder, fresh, data, device, console))
    if len(runs) > 1:
        summarise(output, folders, console)
    return labelers


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
    assembled = _assemble(config, base, data, device, dtype)
    for note in assembled.notes:
        console.say(f"  {note}")
    info = _info(config, base, data, assembled)
    autocast = None if dtype == torch.float32 else dtype
    labeler = Labeler(assembled.tagger, data.aligner, info, device, autocast)

    with writing(folder):
        if config.overwrite and not config.resume:
            clear(folder)
        folder.mkdir(parents=True, exist_ok=True)
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
        console.say(f"  going on after update {progress.updates}")
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


def _strings(config: Config, base: Base, console: Console) -> list[str]:
    """The strings of all runs; those that an early exit makes equal are one."""
    chosen: dict[tuple[bool, ...], str] = {}
    for string in expand_strings(config.unmask, base.depth, config.groups):
        bits = layer_bits(string, base.depth)[: config.exit_layer]
        if bits in chosen:
            console.say(f"unmask {string}: the same run as {chosen[bits]}, trained once")
        else:
            chosen[bits] = string
    return list(chosen.values())


def _folder(output: Path, string: str, seed: int, runs: int) -> Path:
    return output if runs == 1 else output / string / f"seed{seed}"


def _assemble(
    config: Config, base: Base, data: Prepared, device: torch.device, dtype: torch.dtype
) -> Assembled:
    return assemble(
        base,
        string=config.unmask[0],
        classes=len(data.splits.labels),
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
        checkpointing=config.checkpointing,
    )


def _info(config: Config, base: Base, data: Prepared, assembled: Assembled) -> RunInfo:
    return RunInfo(
        unmask=config.unmask[0],
        labels=data.splits.labels,
        base=base.name,
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
        dtype=config.dtype,
        seed=config.seed[0],
    )


def _evaluate_dev(
    labeler: Labeler, data: Prepared, update: Update, log: Log, bar: Bar, console: Console
) -> float:
    """The dev score that selection goes by: F1, or accuracy where tags are plain."""
    metrics = labeler.metrics(data.splits.dev, labeler.tag(data.splits.dev.sentences, data.dev))
    log.dev(update, metrics)
    name = "accuracy" if data.splits.labels.plain else "f1"
    score = float(metrics[name])
    bar.dev(name, score)
    loss = sum(update.loss) / len(update.loss)
    console.say(f"  epoch {update.epoch}: loss {loss:.4f}, dev {name} {100 * score:.2f}")
    return score
