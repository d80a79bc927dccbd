"""Named tensors as safetensors: written whole or not at all, read strictly."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from lmsl.errors import InputError
from lmsl.run_directory.files import write_whole


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write named tensors as safetensors, atomically."""
    # Slices of stacked parameters share storage, which safetensors refuses: copy them.
    copies = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    write_whole(path, safetensors.torch.save(copies, metadata={"format": "pt"}))


def read_tensors(
    path: Path,
    targets: Mapping[str, torch.Tensor],
    twins: Mapping[str, str] | None = None,
) -> None:
    """Copy the tensors of a safetensors file into ``targets``, in place, all or none.

    Args:
        twins: of a target's name, another one under which the file may hold the same.

    Raises:
        InputError: the file is missing or unreadable, its names or shapes are not exactly those
            of ``targets``, or it holds numbers that are not finite, or no fractions.
    """
    twins = twins or {}
    if not path.is_file():
        raise InputError(f"{path}: expected a safetensors file, found none")
    try:
        loaded = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: expected a safetensors file, got: {reason}") from error
    for what, names in (
        ("lacks", sorted(targets.keys() - loaded.keys())),
        ("has unexpected", sorted(loaded.keys() - targets.keys() - set(twins.values()))),
    ):
        if names:
            raise InputError(
                f"{path}: expected the {len(targets)} tensors of this model, but the file {what} "
                f"{len(names)}, first {names[0]}; was it saved from another model?"
            )
    for name, target in targets.items():
        if loaded[name].shape != target.shape:
            raise InputError(
                f"{path}: {name}: expected shape {list(target.shape)}, "
                f"got {list(loaded[name].shape)}"
            )
        if not loaded[name].is_floating_point():
            raise InputError(f"{path}: {name}: expected fractions, got {loaded[name].dtype}")
        if not loaded[name].isfinite().all():
            raise InputError(f"{path}: {name}: expected finite numbers, found others")
        twin = loaded.get(twins.get(name, name))
        if twin is not None and not torch.equal(twin, loaded[name]):
            raise InputError(f"{path}: {twins[name]}: expected the numbers of {name}, got others")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(loaded[name])
