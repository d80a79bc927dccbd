"""The data of a run: read, tokenised and turned into examples once, for all its runs alike."""

from dataclasses import dataclass
from typing import Any

from lmsl.config.config import Config
from lmsl.console import Console
from lmsl.data.splits import Splits
from lmsl.data.tags.sentence import Dataset
from lmsl.generation.examples import Prompter, next_ids
from lmsl.generation.prompt import choose_prompt
from lmsl.packs.alignment import CLOSED, JOINED, Aligner
from lmsl.packs.examples import Example, Examples, build_examples
from lmsl.tagger.base import Base
from lmsl.tagger.positions import check_positions
from lmsl.training.data import DEFAULT_DATA
from lmsl.training.loop import Task
from lmsl.wording import counted


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The data of all runs, read and tokenised once."""

    splits: Splits
    tokenizer: Any
    aligner: Aligner
    train: Examples
    dev: Examples
    test: Examples | None
    name: str
    prompter: Prompter | None = None
    """Where the runs write answers: who made the examples."""

    def evaluated(self) -> list[tuple[str, Dataset, Examples]]:
        """The splits that are scored."""
        pairs = [("dev", self.splits.dev, self.dev), ("test", self.splits.test, self.test)]
        return [(name, data, e) for name, data, e in pairs if data is not None and e is not None]


def prepare(config: Config, base: Base, splits: Splits, console: Console) -> Prepared:
    """Tokenise the data, and say everything that had to be chosen or repaired."""
    name = config.data or (str(config.train) if config.train else DEFAULT_DATA)
    aligner = Aligner(base.tokenizer, CLOSED if base.kind == "encoder" else JOINED)
    parts = {"train": splits.train, "dev": splits.dev, "test": splits.test}
    prompter, asked = None, list[str]()
    if config.task == "generate":
        prompter, asked = _prompter(config, base, splits, aligner)
    built, notes = dict[str, Examples](), list[str]()
    for split, dataset in parts.items():
        if dataset is not None:
            made = _examples(config, dataset, aligner, prompter, taught=split == "train")
            beyond = check_positions(base.decoder, dataset.sentences, made, config.repeat)
            notes += [f"  {split}: {line}" for line in (*made.notes.lines(), *beyond)]
            built[split] = made
    console.say(
        f"data: {name}: "
        + ", ".join(
            f"{k} {counted(len(d), 'sentence')}" for k, d in parts.items() if d is not None
        )
        + f"; {counted(len(splits.labels), 'label')}"
    )
    for note in (*splits.notes, *asked):
        console.say(f"  {note}")
    if splits.dev_tells_nothing and config.select == "best-dev":
        console.say("  dev holds no entity, so no epoch is better than another: the last is kept")
    for note in notes:
        console.say(note)
    return Prepared(
        splits=splits,
        tokenizer=base.tokenizer,
        aligner=aligner,
        train=built["train"],
        dev=built["dev"],
        test=built.get("test"),
        name=name,
        prompter=prompter,
    )


def training_task(data: Prepared) -> Task:
    """The training data as the loop wants it: examples and label ids by sentence."""
    sentences = data.splits.train.sentences
    by_sentence: list[list[Example]] = [[] for _ in sentences]
    for example in data.train.examples:
        by_sentence[example.sentence].append(example)
    known = data.splits.labels
    if data.prompter is None:
        labels = [known.ids(sentence.tags or ()) for sentence in sentences]
    else:
        labels = next_ids(data.train, len(sentences))
    return Task(
        examples=by_sentence,
        labels=labels,
        names=[sentence.where for sentence in sentences],
    )


def _prompter(
    config: Config, base: Base, splits: Splits, aligner: Aligner
) -> tuple[Prompter, list[str]]:
    """Who makes questions, and lines on how it asks."""
    generation, said = choose_prompt(config, splits.labels, base.tokenizer)
    prompter = Prompter(
        aligner,
        base.tokenizer,
        generation,
        splits.labels,
        max_length=config.max_length,
        overflow=config.overflow,
    )
    return prompter, [f"{said}; {counted(prompter.around, 'sub-word')} beside the sentence"]


def _examples(
    config: Config, dataset: Dataset, aligner: Aligner, prompter: Prompter | None, *, taught: bool
) -> Examples:
    if prompter is not None:
        if taught:
            return prompter.lessons(dataset.sentences, config.loss_on)
        return prompter.questions(dataset.sentences)
    return build_examples(
        dataset.sentences,
        aligner,
        max_length=config.max_length,
        overflow=config.overflow,
        repeat=config.repeat,
        context=config.context,
    )
