"""Where a run is: a folder here, or one on the hub."""

from pathlib import Path

from lmsl.errors import InputError
from lmsl.wording import one_line


def find_run(path: str | Path) -> Path:
    """The folder of a run named by its path or, where there is none of that name, its hub id.

    Raises:
        InputError: it is neither.
    """
    folder = Path(path).expanduser()
    if folder.exists() or str(path).count("/") != 1 or str(path).startswith((".", "~")):
        return folder
    if folder.parent.is_dir():
        raise InputError(
            f"{path}: expected a run directory, found none of that name in {folder.parent}"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(path)))
    except (OSError, ValueError) as error:
        reason = one_line(error)
        raise InputError(
            f"{path}: neither a folder here nor a run on the hub: {reason:.200}"
        ) from error
