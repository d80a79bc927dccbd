"""``lmsl probe``: what each layer of a model or a run really attends to.

Arguments and data are checked first; torch is imported when they are in order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lmsl.config.strings import check_string
from lmsl.data.read import read_with
from lmsl.data.tags.sentence import Sentence
from lmsl.errors import InputError
from lmsl.run_directory.folder import writing
from lmsl.run_directory.influence import Influence, RightAttention, write_influence
from lmsl.run_directory.info import INFO, read_info
from lmsl.statistics.predictions import read_predictions
from lmsl.wording import counted


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What was measured of a model or a run."""

    name: str
    string: str | None
    """None where the model was taken as it comes."""
    sees: Sequence[bool]
    """Whether each layer sees to the right."""
    influence: Influence | None = None

    def lines(self) -> Iterator[str]:
        """For people."""
        how = "as it comes" if self.string is None else f"unmask {self.string}"
        found = self.influence
        if found is not None:
            how += (
                f"; influence of the right context on {counted(found.positions, 'word')} of "
                f"{counted(found.sentences, 'sentence')}"
            )
        yield f"{self.name}: {how}"
        for index, sees in enumerate(self.sees):
            line = f"layer {index}: {'bidirectional' if sees else 'causal'}"
            if found is not None:
                line += f", {found.layers[index]:.4f}{_to_the_right(found.attention, index)}"
            yield line

    def to_json(self) -> dict[str, Any]:
        """The same, for machines; the influence as in influence.json."""
        found: dict[str, Any] = {"model": self.name, "unmask": self.string}
        found["sees_to_the_right"] = list(self.sees)
        return found if self.influence is None else {**found, "influence": asdict(self.influence)}


def probed(
    name: str,
    string: str | None,
    data: str | None,
    save: bool,
    device: str,
    *,
    allow_changed_base: bool = False,
) -> Probed:
    """Measure a run directory, or a model, unmasked first if a string is given.

    Args:
        data: also measure the influence of the right context on these sentences, for a run.
        save: write it to the run; without ``data`` it is that on the run's own dev sentences.
    """
    if (Path(name) / INFO).is_file():
        if string is not None:
            raise InputError(f"--unmask {string}: {name} is a run, which has a string of its own")
        return _run(Path(name), data, save, device, allow_changed_base)
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
    return Probed(name=name, string=string, sees=probe(decoder))


def _run(
    folder: Path, data: str | None, save: bool, device: str, allow_changed_base: bool
) -> Probed:
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
    from lmsl.tagger.influence import influence_on
    from lmsl.tagger.labeler import Labeler

    labeler = load_run(folder, device, allow_changed_base=allow_changed_base)
    seen = probe(labeler.tagger.decoder)
    if sentences is None or not isinstance(labeler, Labeler):
        return Probed(name=str(folder), string=info.unmask, sees=seen)
    found = influence_on(labeler, sentences)
    if found is None:
        raise InputError(f"{source}: expected a sentence of two or more words, found none")
    if save:
        with writing(folder):
            write_influence(folder, found)
    return Probed(name=str(folder), string=info.unmask, sees=seen, influence=found)


def _to_the_right(attention: RightAttention | None, layer: int) -> str:
    """The shares of the heads of a layer, where any is above 0."""
    if attention is None or not any(attention.heads[layer]):
        return ""
    heads = attention.heads[layer]
    return (
        f"; {fmean(heads):.3f} of attention to the right (heads {min(heads):.3f} to "
        f"{max(heads):.3f}, {attention.even[layer]:.3f} if even)"
    )
