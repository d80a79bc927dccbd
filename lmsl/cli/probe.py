"""``lmsl probe``: what each layer of a model or a run really attends to."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from lmsl.data.formats.options import Columns
from lmsl.data.read import read_with
from lmsl.data.tags.sentence import Sentence
from lmsl.device import choose_device
from lmsl.errors import InputError
from lmsl.mask.probing import probe
from lmsl.mask.unmasking import unmask
from lmsl.packs.examples import build_examples
from lmsl.run_directory.folder import writing
from lmsl.run_directory.influence import Influence, write_influence
from lmsl.run_directory.info import INFO
from lmsl.statistics.predictions import read_predictions
from lmsl.tagger.base import load_base
from lmsl.tagger.influence import labeler_influence
from lmsl.tagger.labeler import Labeler


def probe_lines(
    name: str, string: str | None, data: str | None, save: bool, device: str
) -> Iterator[str]:
    """Measure a run directory, or a model, unmasked first if a string is given.

    Args:
        data: also measure the influence of the right context on these sentences, for a run.
        save: write it to the run; without ``data`` it is that on the run's own dev sentences.
    """
    if (Path(name) / INFO).is_file():
        if string is not None:
            raise InputError(f"--unmask {string}: {name} is a run, which has a string of its own")
        yield from _run_lines(name, data, save, device)
        return
    if data is not None or save:
        flag = "--save" if data is None else f"--data {data}"
        raise InputError(f"{flag}: expected a run directory to measure, got {name}")
    decoder = load_base(name).decoder.to(choose_device(device))
    if string is not None:
        unmask(decoder, string)
    yield f"{name}: " + ("as it comes" if string is None else f"unmask {string}")
    for index, sees in enumerate(probe(decoder)):
        yield _line(index, sees)


def _run_lines(name: str, data: str | None, save: bool, device: str) -> Iterator[str]:
    labeler, folder = Labeler.load(name, device), Path(name)
    seen = probe(labeler.tagger.decoder)
    title = f"{name}: unmask {labeler.info.unmask}"
    if data is None and not save:
        yield title
        yield from map(_line, range(len(seen)), seen)
        return
    found = _measured(labeler, folder, data)
    if save:
        with writing(folder):
            write_influence(folder, found)
    yield (
        f"{title}; influence of the right context on {found.positions} words of "
        f"{found.sentences} sentences"
    )
    for index, (sees, value) in enumerate(zip(seen, found.layers, strict=True)):
        yield f"{_line(index, sees)}, {value:.4f}"


def _measured(labeler: Labeler, folder: Path, data: str | None) -> Influence:
    source = str(folder / "predictions.dev.conll") if data is None else data
    sentences: Sequence[Sentence]
    if data is None:
        sentences = read_predictions(Path(source), labeler.info.labels).sentences
    else:
        options = labeler.read_options(Columns(**vars(labeler.info.files)))
        sentences = read_with(data, options).sentences
    info = labeler.info
    examples = build_examples(
        sentences,
        labeler.aligner,
        max_length=info.max_length,
        overflow=info.overflow,
        repeat=info.repeat,
        context=info.context,
    )
    found = labeler_influence(labeler, examples.examples)
    if found is None:
        raise InputError(f"{source}: expected a sentence of two or more words, found none")
    return found


def _line(index: int, sees: bool) -> str:
    return f"layer {index}: {'bidirectional' if sees else 'causal'}"
