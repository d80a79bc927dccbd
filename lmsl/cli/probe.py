"""``lmsl probe``: what each layer of a model or a run really attends to.

Arguments and data are checked first; torch is imported when they are in order.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from lmsl.config.strings import check_string
from lmsl.data.read import read_with
from lmsl.data.tags.sentence import Sentence
from lmsl.errors import InputError
from lmsl.run_directory.folder import writing
from lmsl.run_directory.influence import RightAttention, write_influence
from lmsl.run_directory.info import INFO, read_info
from lmsl.statistics.predictions import read_predictions
from lmsl.wording import counted


def probe_lines(
    name: str,
    string: str | None,
    data: str | None,
    save: bool,
    device: str,
    *,
    allow_changed_base: bool = False,
) -> Iterator[str]:
    """Measure a run directory, or a model, unmasked first if a string is given.

    Args:
        data: also measure the influence of the right context on these sentences, for a run.
        save: write it to the run; without ``data`` it is that on the run's own dev sentences.
    """
    if (Path(name) / INFO).is_file():
        if string is not None:
            raise InputError(f"--unmask {string}: {name} is a run, which has a string of its own")
        yield from _run_lines(Path(name), data, save, device, allow_changed_base)
        return
    if data is not None or save:
        flag = "--save" if data is None else f"--data {data}"
        raise InputError(f"{flag}: expected a run directory to measure, got {name}")
    if string is not None:
        check_string(string)
    from lmsl.device import choose_device
    from lmsl.mask.probing import probe
    from lmsl.mask.unmasking import unmask
    from lmsl.tagger.base import load_base

    decoder = load_base(name).decoder.to(choose_device(device))
    if string is not None:
        unmask(decoder, string)
    yield f"{name}: " + ("as it comes" if string is None else f"unmask {string}")
    for index, sees in enumerate(probe(decoder)):
        yield _line(index, sees)


def _run_lines(
    folder: Path, data: str | None, save: bool, device: str, allow_changed_base: bool
) -> Iterator[str]:
    info = read_info(folder)
    if info.task == "generate" and (data is not None or save):
        flag = "--save" if data is None else f"--data {data}"
        raise InputError(f"{flag}: {folder} writes answers and sees nothing to the right")
    source = folder / "predictions.dev.conll" if data is None else Path(data)
    sentences: Sequence[Sentence] | None = None
    if data is not None:
        sentences = read_with(data, info.read_options()).sentences
    elif save:
        sentences = read_predictions(source, info.labels).sentences
    from lmsl.generation.generator import load_run
    from lmsl.mask.probing import probe
    from lmsl.tagger.influence import labeler_influence
    from lmsl.tagger.labeler import Labeler

    labeler = load_run(folder, device, allow_changed_base=allow_changed_base)
    seen = probe(labeler.tagger.decoder)
    title = f"{folder}: unmask {info.unmask}"
    if sentences is None or not isinstance(labeler, Labeler):
        yield title
        yield from map(_line, range(len(seen)), seen)
        return
    found = labeler_influence(labeler, labeler.examples(sentences).examples)
    if found is None:
        raise InputError(f"{source}: expected a sentence of two or more words, found none")
    if save:
        with writing(folder):
            write_influence(folder, found)
    yield (
        f"{title}; influence of the right context on "
        f"{counted(found.positions, 'word')} of {counted(found.sentences, 'sentence')}"
    )
    for index, (sees, value) in enumerate(zip(seen, found.layers, strict=True)):
        yield f"{_line(index, sees)}, {value:.4f}{_to_the_right(found.attention, index)}"


def _line(index: int, sees: bool) -> str:
    return f"layer {index}: {'bidirectional' if sees else 'causal'}"


def _to_the_right(attention: RightAttention | None, layer: int) -> str:
    """The shares of the heads of a layer, where any is above 0."""
    if attention is None or not any(attention.heads[layer]):
        return ""
    heads = attention.heads[layer]
    return (
        f"; {fmean(heads):.3f} of attention to the right (heads {min(heads):.3f} to "
        f"{max(heads):.3f}, {attention.even[layer]:.3f} if even)"
    )
