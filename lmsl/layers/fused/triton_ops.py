"""Who computes norms, rotation and SwiGLU of the layers of ``block``: torch, or Triton kernels.

Chosen once, when a tagger is put together, and handed on from there. On a GPU those of a layer are
8 launches with the kernels, forward and backward, and 61 without.
"""

import importlib.util
from typing import Any

import torch

from lmsl.config.choices import Elementwise
from lmsl.errors import InputError
from lmsl.layers.fused.ops import PLAIN, LayerOps

_WHAT = "norms, rotation and SwiGLU"


def choose_ops(
    choice: Elementwise, config: Any, device: torch.device, dtype: torch.dtype
) -> tuple[LayerOps, str]:
    """The operations for the layers of a decoder, and the words for what was chosen.

    Args:
        choice: as ``--elementwise``.
        config: of the decoder's text model.

    Raises:
        InputError: ``triton`` was asked for and cannot serve.
    """
    if choice == "plain":
        return PLAIN, f"{_WHAT} by torch (--elementwise plain)"
    reason = _why_not_triton(config, device, dtype)
    if choice == "triton":
        if reason is not None:
            raise InputError(f"--elementwise triton: {reason}; use plain")
        return triton_ops(), f"{_WHAT} by triton (--elementwise triton)"
    if reason is None and device.type != "cuda":
        reason = "the interpreter is there to prove the kernels and serves only who asks for it"
    if reason is not None:
        return PLAIN, f"{_WHAT} by torch; not by triton: {reason}"
    return triton_ops(), f"{_WHAT} by triton"


def triton_ops() -> LayerOps:
    """The kernels. Imported here: training works where Triton is not installed."""
    from lmsl_kernels.rows import elementwise

    return LayerOps(
        norm_forward=elementwise.norm_forward,
        add_norm_forward=elementwise.add_norm_forward,
        norm_backward=elementwise.norm_backward,
        swiglu_forward=elementwise.swiglu_forward,
        swiglu_backward_=elementwise.swiglu_backward_,
        rotate=elementwise.rotate,
        rotate_backward=elementwise.rotate_backward,
    )


def head_dim_of(config: Any) -> int:
    """Features of a head, which some families leave to be worked out."""
    given = getattr(config, "head_dim", None)
    return int(given or config.hidden_size // config.num_attention_heads)


def _why_not_triton(config: Any, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the kernels cannot serve, or ``None``."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    from lmsl_kernels.rows.elementwise import unsupported

    return unsupported(device, dtype, features=config.hidden_size, head_dim=head_dim_of(config))
