"""The device and the dtype that a run computes on and in."""

import psutil
import torch

from lmsl.errors import InputError
from lmsl.wording import one_line

# Of the free memory; the host's is shared with everybody else on it.
_SHARES = {"cpu": 0.5}
_SHARE_ELSEWHERE = 0.9


def choose_device(name: str) -> torch.device:
    """The device of a ``--device`` value.

    Raises:
        InputError: it does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        # Reading a number back tells a device that computes from one that only has a name.
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = one_line(error)
        raise InputError(f"--device {name}: not available here: {reason:.150}") from error
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of a ``--dtype`` value; ``auto`` is bfloat16 on CUDA and float32 elsewhere."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host on a device; the host does not wait for the copy.

    From memory that is not pinned CUDA copies at once, whatever ``non_blocking`` says.
    """
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on a GPU, or on the host."""
    if device.type == "cuda":
        # What torch holds back for itself is there to be used.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    return int(psutil.virtual_memory().available)


def usable_memory(device: torch.device) -> int:
    """What a training may plan with of the free memory, in bytes."""
    return int(_SHARES.get(device.type, _SHARE_ELSEWHERE) * free_memory(device))


def mib(size: int) -> str:
    """A number of bytes, for people."""
    return f"{size / 2**20:,.1f} MiB"
