"""``lmsl probe``: what each layer of a model or a run really attends to."""

from collections.abc import Iterator
from pathlib import Path

from lmsl.base import load_base
from lmsl.device import choose_device
from lmsl.errors import InputError
from lmsl.labeler import Labeler
from lmsl.probing import probe
from lmsl.run_directory import INFO
from lmsl.unmasking import unmask


def probe_lines(name: str, string: str | None, device: str) -> Iterator[str]:
    """Measure a run directory, or a model, unmasked first if a string is given."""
    if (Path(name) / INFO).is_file():
        if string is not None:
            raise InputError(f"--unmask {string}: {name} is a run, which has a string of its own")
        labeler = Labeler.load(name, device)
        decoder = labeler.tagger.decoder
        yield f"{name}: unmask {labeler.info.unmask}"
    else:
        decoder = load_base(name).decoder.to(choose_device(device))
        if string is not None:
            unmask(decoder, string)
        yield f"{name}: " + ("as it comes" if string is None else f"unmask {string}")
    for index, sees in enumerate(probe(decoder)):
        yield f"layer {index}: {'bidirectional' if sees else 'causal'}"
