"""The run that the benchmark of prediction predicts with, and the sentences it is asked about.

A run is trained for a moment, causal, so that transformers computes the same function, saved, and
loaded again as a user would. Where only lengths of sentences are known, the model, whichever it
is, gets a tokenizer of random words (``benchmarks.shared.model_folder``), so that tokenisation is
part of everybody's work there too.
"""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.shared import lengths, shapes
from benchmarks.shared.labelled import labelled, record_name
from benchmarks.shared.model_folder import as_words, text_ids, write_model
from benchmarks.shared.timing import CannotRun
from lmsl.config.config import Config
from lmsl.console import Console
from lmsl.data.tags.sentence import Dataset, Sentence
from lmsl.data.write import write_columns
from lmsl.layers.quantize import NF4Linear
from lmsl.run import train
from lmsl.tagger.inference import EagerForward
from lmsl.tagger.labeler import Labeler
from lmsl.training.loop import Task
from lmsl.training.stack import Place

# Sentences that the run is trained on.
TRAINED = 200


@dataclass(frozen=True, kw_only=True)
class Material:
    """A model by a name that lmsl and transformers load, and labelled sentences."""

    model: str
    data: Dataset
    name: str
    """Of the data, for the record."""

    @property
    def sentences(self) -> list[list[str]]:
        return [list(sentence.words) for sentence in self.data.sentences if sentence.words]


def material(
    model: str, data: str, *, sentences: int | None, place: Place, seed: int, running: ExitStack
) -> Material:
    """Model and sentences.

    Args:
        model: hub id, folder, ``tiny`` or ``shape:NAME``.
        data: labelled file, ``synthetic`` or ``lengths:NAME``.
        sentences: how many are made, where they are made; None is as many as the data has.
        place: where random weights are drawn.
        running: takes the folder of a model away again.

    Raises:
        InputError: no such data, or a shape, which has no tokenizer, with a text.
    """
    known = lengths.lengths_of(data, model)
    if known is None:
        found = labelled(data, "test", sentences if data == "synthetic" else None)
        return Material(model=model, data=found, name=record_name(found))
    base = shapes.base_of(model, place.device, place.dtype)
    task = lengths.length_task(
        known,
        sentences=max(sentences or known.count, TRAINED),
        vocabulary=text_ids(base.decoder.config.get_text_config().vocab_size),
        seed=seed,
    )
    folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
    write_model(base, folder)
    return Material(model=str(folder), data=_random_words(task, data), name=data)


def _random_words(task: Task, source: str) -> Dataset:
    """Every label begins an entity: as many tags as the data has, all of them well-formed."""
    sentences = tuple(
        Sentence(words=tuple(words), tags=tuple(_tag(label) for label in labels))
        for words, labels in zip(as_words(task), task.labels, strict=True)
    )
    return Dataset(sentences=sentences, plain=False, source=source)


def _tag(label: int) -> str:
    return "O" if label == 0 else f"B-{(label + 1) // 2}"


def trained_run(found: Material, folder: Path, *, updates: int, seed: int, place: Place) -> Path:
    """Train a causal run for a moment on the head of the data; its directory."""
    some: Sequence[Sentence] = found.data.sentences[:TRAINED]
    file = folder / "train.conll"
    write_columns(file, some, [sentence.tags or () for sentence in some])
    config = Config(
        unmask=("causal",),
        model=found.model,
        train=file,
        dev=file,
        seed=(seed,),
        max_steps=updates,
        epochs=-(-updates * 16 // len(some)),
        patience=None,
        device=place.device.type,
        output=folder / "run",
    )
    train(config, Console(quiet=True))
    return folder / "run"


def loaded(
    run: Path, place: Place, *, resident: bool, cuda_graphs: Literal["off", "on"] = "off"
) -> Labeler:
    """A run as a user loads it, with its NF4 weights kept dequantised or not.

    Args:
        cuda_graphs: as ``--cuda-graphs``.

    Raises:
        CannotRun: there is no memory to keep them beside what is there already, or packs cannot be
            replayed.
    """
    said: list[str] = []
    labeler = Labeler.load(
        run,
        device=place.device.type,
        resident="auto" if resident else "no",
        cuda_graphs=cuda_graphs,
        say=said.append,
    )
    if cuda_graphs == "on" and isinstance(labeler._compute, EagerForward):
        raise CannotRun("; ".join(said))
    layers = [layer for layer in labeler.tagger.modules() if isinstance(layer, NF4Linear)]
    if resident and any(layer.resident is None for layer in layers):
        raise CannotRun("no memory to keep its weights dequantised beside the others")
    return labeler
