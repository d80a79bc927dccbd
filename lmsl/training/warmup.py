"""Masked next-token prediction before any label: adapters learn to use what layers newly see.

A decoder whose mask is taken off gives out hidden states that nothing was trained on. BehnamGhader
et al. 2024 (LLM2Vec, arXiv 2404.05961) found that a short training on text alone repairs that:
some sub-words are replaced by a mask token, and each is predicted where the language-model head
was trained to predict it, from the hidden state of the sub-word before it. Here the text is that
of the training sentences, adapters alone are trained, under the string of their run, and the
optimizer begins anew for the labels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from lmsl.config.config import Config
from lmsl.console import Console
from lmsl.errors import InputError
from lmsl.layers.lora import RunParameters, trainable_parameters
from lmsl.packs.examples import Example
from lmsl.run_directory.folder import writing
from lmsl.tagger.assemble import language_head
from lmsl.tagger.base import Base
from lmsl.tagger.tagger import Tagger
from lmsl.training.inputs import Prepared
from lmsl.training.loop import Task, training_updates
from lmsl.training.optim import optimizers_of
from lmsl.training.stack import Place, Stack
from lmsl.wording import counted

MASKED = 0.2
"""Share of the sub-words, as in LLM2Vec for Llama-2."""
BLANK = "_"
"""Stands for a sub-word where the tokenizer has no mask token, as there."""
_SEED = 2404_05961


def warm_up(stack: Stack, base: Base, data: Prepared, place: Place, console: Console) -> None:
    """Train the adapters of a stack that has made no update; its optimizers stay as they are.

    A checkpoint is written behind it, none inside it.

    Raises:
        InputError: the tokenizer has neither a mask token nor one sub-word for ``_``.
        TrainingError: a loss that is not finite.
    """
    assert not stack.updates and base.causal_lm is not None
    config, name = stack.config, mask_token(base.tokenizer)
    steps = config.warmup_mntp
    task = masked_task(data.train.examples, steps * config.batch_size, name[1])
    config = replace(config, max_steps=None, epochs=1, keep_every=1, loss="ce", patience=None)
    tagger = _language_model(stack.tagger, base, place)
    parameters = RunParameters(trainable_parameters(tagger), tagger.head.runs)
    losses = []
    with _nothing_kept(console), console.bar("warming up", steps, 0) as bar:
        for update in training_updates(
            tagger,
            task,
            config,
            clock=stack.clock,
            parameters=parameters,
            optimizers=optimizers_of(parameters, config, stack.lr),
            peak_lr=stack.lr,
            device=place.device,
            autocast=place.autocast,
        ):
            bar.advance(update.step, update.loss, update.tokens)
            losses.append(sum(update.loss) / len(update.loss))
    part = -(-len(losses) // 10)
    first, last = (sum(some) / part for some in (losses[:part], losses[-part:]))
    console.say(
        f"  warm-up: {counted(steps, 'update')} of masked next-token prediction, "
        f"{MASKED:.0%} of the sub-words become {name[0]!r}: loss {first:.2f} in the first tenth, "
        f"{last:.2f} in the last"
    )
    for run in stack.runs:
        run.progress.warmed = True
    with writing(stack.runs[0].folder):
        stack.save()


@contextmanager
def _nothing_kept(console: Console) -> Iterator[None]:
    """Say what becomes of a warm-up that is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        console.say("  the warm-up has no checkpoints: --resume begins with it anew")
        raise


def check_warm_up(config: Config) -> None:
    """Refuse a warm-up that could teach nothing, or not what it is for."""
    for flag, given, why in (
        ("--tune full", config.tune == "full", "it trains adapters"),
        ("--repeat", config.repeat > 0, "a masked sub-word would stand in the copy before"),
    ):
        if config.warmup_mntp and given:
            raise InputError(f"--warmup-mntp {config.warmup_mntp}: not with {flag}, {why}")


def mask_token(tokenizer: Any) -> tuple[str, int]:
    """What stands for a masked sub-word, and its id.

    Raises:
        InputError: there is nothing.
    """
    if getattr(tokenizer, "mask_token_id", None) is not None:
        return str(tokenizer.mask_token), int(tokenizer.mask_token_id)
    number = tokenizer.convert_tokens_to_ids(BLANK)
    if number is None or number == tokenizer.unk_token_id:
        raise InputError(
            f"--warmup-mntp: the tokenizer has no mask token, and no sub-word {BLANK!r} to stand "
            "for one"
        )
    return BLANK, int(number)


def masked_task(examples: Sequence[Example], count: int, mask: int) -> Task:
    """So many masked sentences: what stands before each mask is read, its label is the sub-word.

    The examples are gone through as often as that takes, masked differently each time.
    """
    usable = [example for example in examples if len(example.ids) > 1]
    if not usable:
        raise InputError("--warmup-mntp: expected sentences of two sub-words, found none")
    random = np.random.default_rng(_SEED)
    masked, labels = [], []
    for number in range(count):
        ids = usable[number % len(usable)].ids.copy()
        places = 1 + np.flatnonzero(random.random(len(ids) - 1) < MASKED).astype(np.int32)
        if not len(places):
            places = random.integers(1, len(ids), size=1, dtype=np.int32)
        labels.append(ids[places].tolist())
        ids[places] = mask
        masked.append(
            [Example(ids=ids, sentence=number, first_word=0, starts=places - 1, ends=places)]
        )
    return Task(examples=masked, labels=labels, names=[f"masked {n}" for n in range(count)])


def _language_model(tagger: Tagger, base: Base, place: Place) -> Tagger:
    """The same decoder and adapters under the head of the language model."""
    head = language_head(base, tagger.head.runs).to(place.device)
    return Tagger(
        tagger.decoder, head, "last", tagger.block, tagger.bits, tagger.mixture, tagger.calling
    )
