"""What of a training can be read and refused before there is a model: its files and folders.

Nothing here needs torch, whose import takes longer than reading most data: the command line calls
this first, and a missing file is told at once.
"""

from lmsl.config.config import Config
from lmsl.config.strings import stands_for_many
from lmsl.data.formats.options import read_options
from lmsl.data.splits import Splits, load_splits
from lmsl.errors import InputError
from lmsl.run_directory.digests import data_digest
from lmsl.run_directory.folder import check_output, check_place, check_sweep

DEFAULT_DATA = "synthetic"


def read_splits(config: Config) -> Splits:
    """Read the data of all runs; without any named it is generated.

    Raises:
        InputError: it cannot be read, dev and test have labels unknown to train, or there are no
            spans that an answer could list.
    """
    files = (config.data, config.train, config.dev, config.test)
    splits = load_splits(
        data=DEFAULT_DATA if files == (None,) * 4 else config.data,
        train=config.train,
        dev=config.dev,
        test=config.test,
        options=read_options(config, config.words),
        split_seed=config.split_seed,
    )
    if config.task == "generate" and splits.labels.plain:
        raise InputError(
            f"{splits.train.source}: expected spans, which answers list, for --task generate, got "
            "plain tags"
        )
    return splits


def data_digests(splits: Splits) -> dict[str, str]:
    """SHA-256 of each split there is."""
    parts = {"train": splits.train, "dev": splits.dev, "test": splits.test}
    return {name: data_digest(part) for name, part in parts.items() if part is not None}


def check_known_folders(config: Config) -> None:
    """Refuse folders that a run must not go to, as far as they are known without a model.

    Of several strings some may turn out to be one run; all folders are checked when that is known.

    Raises:
        InputError: as ``check_output`` and ``check_sweep``.
    """
    if config.output is None:
        return
    check_place(config.output)
    if len(config.seed) > 1:
        check_sweep(config.output)
    elif len(config.unmask) == 1 and not stands_for_many(config.unmask[0]):
        check_output(config.output, overwrite=config.overwrite, resume=config.resume)
