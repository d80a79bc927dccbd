"""From a call to kernel launches: tile sizes, grids, arguments.

A ``Launch`` is complete before it runs, so the same code that serves a call also tells the offline
compiler what to compile: made from tensors on the ``meta`` device it has all types, strides and
constants, and simply is not run.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
from torch import Tensor

from lmsl_kernels.flash.backward_keys import backward_keys
from lmsl_kernels.flash.backward_rows import backward_rows
from lmsl_kernels.flash.call import Call, describable
from lmsl_kernels.flash.forward import tiled_forward
from lmsl_kernels.flash.single import single_backward, single_forward
from lmsl_kernels.flash.tiles import Strides
from lmsl_kernels.flash.tuning import HEAD_DIMS, Kernel, Tiles, split_head_dim

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
# Decided when the kernels were defined, by TRITON_INTERPRET.
INTERPRETED = not isinstance(single_forward, triton.JITFunction)


@dataclass(frozen=True, eq=False, kw_only=True)
class Launch:
    """One kernel launch, not yet made."""

    kernel: Any
    programs: int
    arguments: dict[str, Any]
    constants: dict[str, Any]
    tiles: Tiles

    def run(self) -> None:
        """Start the kernel on the device of ``q``, whichever is the current one."""
        if not self.programs:
            return
        device = self.arguments["q"].device
        if device.type == "cuda" and device.index != torch.cuda.current_device():
            # Triton launches, and torch hands out streams, on the current device.
            with torch.cuda.device(device):
                self._start()
        else:
            self._start()

    def _start(self) -> None:
        if self.tiles.described:
            triton.set_allocator(_descriptor_memory)
        self.kernel[(self.programs,)](
            **self.arguments,
            **self.constants,
            num_warps=self.tiles.warps,
            num_stages=self.tiles.stages,
        )


def unsupported(q: Tensor, scale: float) -> str | None:
    """Why the kernels cannot compute a call on ``q``, wherever it lies, or ``None``."""
    if q.dtype not in DTYPES:
        return f"it computes bfloat16, float16 and float32, got {q.dtype}"
    if INTERPRETED and q.dtype == torch.bfloat16:
        return "Triton's interpreter gets bfloat16 products wrong; use float16 or float32"
    if not 0 < q.shape[-1] <= HEAD_DIMS[-1]:
        return f"head_dim must be from 1 to {HEAD_DIMS[-1]}, got {q.shape[-1]}"
    if not scale > 0:
        return f"the scale must be positive, got {scale}"
    return None


def _descriptor_memory(size: int, alignment: int, stream: int | None) -> Tensor:
    """Where Triton puts the descriptors of one launch; torch reuses it once the launch is over."""
    return torch.empty(size, dtype=torch.int8, device="cuda")


def forward_launches(
    call: Call, q: Tensor, k: Tensor, v: Tensor, out: Tensor, log_total: Tensor | None
) -> list[Launch]:
    """The forward: one launch. ``log_total`` float32 [heads, rows], unused in regime S."""
    inputs = {"q": q, "k": k, "v": v}
    if call.regime == "single":
        return [_single_launch(call, single_forward, "single_forward", inputs, {"out": out})]
    results = {"out": out, "log_total": log_total}
    return [_tiled_launch(call, tiled_forward, "tiled_forward", inputs, results)]


def backward_launches(
    call: Call,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor | None,
    log_total: Tensor | None,
    dout: Tensor,
    gradients: tuple[Tensor, Tensor, Tensor],
) -> list[Launch]:
    """The backward into ``gradients`` (dq, dk, dv): one launch in regime S, else two."""
    if not describable(dout):
        call = replace(call, described=False)
    dq, dk, dv = gradients
    inputs = {"q": q, "k": k, "v": v, "dout": dout}
    if call.regime == "single":
        results = {"dq": dq, "dk": dk, "dv": dv}
        return [_single_launch(call, single_backward, "single_backward", inputs, results)]
    assert out is not None and log_total is not None
    statistics = {"log_total": log_total, "delta": torch.empty_like(log_total)}
    by_rows, by_keys = {"out": out, "dq": dq}, {"dk": dk, "dv": dv}
    return [
        _tiled_launch(call, backward_rows, "backward_rows", inputs, statistics | by_rows),
        _tiled_launch(call, backward_keys, "backward_keys", inputs, statistics | by_keys),
    ]


def _single_launch(
    call: Call, kernel: Any, name: Kernel, inputs: dict[str, Tensor], others: dict[str, Any]
) -> Launch:
    """A program for each sequence and kv head; ``inputs`` are those that have strides."""
    tiles = call.tiles(name)
    constants = {**_constants(call, inputs["q"]), "ROWS": tiles.rows, "TILE": tiles.longest}
    if name == "single_backward":
        constants["SWAPPED"] = tiles.swapped
    return Launch(
        kernel=kernel,
        programs=call.sequences * call.kv_heads + call.tail_programs,
        arguments={**inputs, **others, **_runtime(call), **_strides(inputs)},
        constants=constants,
        tiles=tiles,
    )


def _tiled_launch(
    call: Call, kernel: Any, name: Kernel, inputs: dict[str, Tensor], others: dict[str, Any]
) -> Launch:
    """A program for each tile and head: of rows, or, for ``backward_keys``, of keys."""
    tiles = call.tiles(name)
    by_keys = name == "backward_keys"
    work, items = _work(call, tiles.keys if by_keys else tiles.rows, last_first=not by_keys)
    return Launch(
        kernel=kernel,
        programs=items * (call.kv_heads if by_keys else call.heads) + call.tail_programs,
        arguments={
            **inputs,
            **others,
            "work": work,
            "work_items": items,
            **_runtime(call),
            **_strides(inputs),
        },
        constants={
            **_constants(call, inputs["q"]),
            "ROWS": tiles.rows,
            "KEYS": tiles.keys,
            "DESCRIBED": tiles.described,
        },
        tiles=tiles,
    )


def _work(call: Call, block: int, *, last_first: bool) -> tuple[Tensor | None, int]:
    """The (sequence, tile) pairs of a launch and their number; dense calls need no list."""
    if call.plan is None:
        return None, call.sequences * -(-call.max_seqlen // block)
    work = call.plan.work_list(call.rows, block, last_first=last_first)
    return work, work.shape[0]


def _runtime(call: Call) -> dict[str, Any]:
    return {
        "cu_seqlens": None if call.plan is None else call.plan.cu_seqlens,
        "flags": call.flags,
        "scale": call.scale,
        "softcap": 1.0 if call.softcap is None else call.softcap,
        "window": call.window or 0,
        "seqlen": call.max_seqlen,
        "sequences": call.sequences,
        "rows": call.rows,
        "kv_heads": call.kv_heads,
    }


def _strides(tensors: dict[str, Tensor]) -> dict[str, Strides]:
    return {
        f"{name}_strides": Strides(x.stride(0) if x.dim() == 4 else 0, x.stride(-3), x.stride(-2))
        for name, x in tensors.items()
    }


def _constants(call: Call, q: Tensor) -> dict[str, Any]:
    _, first, second = split_head_dim(call.head_dim)
    return {
        "MASK": 2 if call.flags is not None else int(call.is_causal),
        "WINDOWED": call.window is not None,
        "SOFTCAPPED": call.softcap is not None,
        "DENSE": call.plan is None,
        # Products of float32 in full precision: TF32 would lose the bits that float32 is for.
        "PRECISION": "ieee" if q.dtype == torch.float32 else "tf32",
        "GROUP": call.group,
        "HEAD_DIM": call.head_dim,
        "FIRST": first,
        "SECOND": second,
    }
