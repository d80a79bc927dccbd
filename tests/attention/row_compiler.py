"""Compiles the hardest launches of layers' small operations for every architecture, as JSON lines.

Compiling needs Triton's compiler, and the tests run with its interpreter switched on, so this is a
process of its own: ``python -m tests.attention.row_compiler``.
"""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.compile_report.offline import SHARED_LIMIT, compile_launch, launch_digest
from lmsl_kernels.rows.launch import (
    RowLaunch,
    norm_backward_launch,
    norm_forward_launch,
    rotate_launch,
    swiglu_backward_launch,
    swiglu_forward_launch,
)

# Of one row, of an odd number, of one that 16 divides, and more than fit into an int32 of bytes.
ROWS = (1, 7, 48, 100_000)


def launches(rows: int, dtype: torch.dtype = torch.bfloat16) -> Iterator[tuple[str, RowLaunch]]:
    """Each kernel with everything that it can do, where a row is as wide as it can be."""

    def tensor(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.empty(rows, *shape, dtype=dtype, device="meta")

    for width in (4096, 11008, 16384):
        x, scale, weight = tensor(width), tensor(1, dtype=torch.float32), tensor(width)[0]
        yield f"norm {width}", norm_forward_launch(x, weight, 1e-6, x, scale, (x, x))
        yield f"norm back {width}", norm_backward_launch(x, x, weight, scale, x, x)
        gate_up, inner = tensor(2 * width), tensor(width)
        yield f"swiglu {width}", swiglu_forward_launch(gate_up, inner)
        yield f"swiglu back {width}", swiglu_backward_launch(inner, gate_up)
    for head_dim in (80, 128, 256):
        queries, keys, values = tensor(48, head_dim).split((32, 8, 8), dim=1)
        apart = tensor(32, head_dim), tensor(8, head_dim), tensor(8, head_dim)
        angles = tensor(head_dim)
        yield f"rotate {head_dim}", rotate_launch((queries, keys), apart[:2], angles, angles)
        views = (queries, keys, values)
        yield f"back {head_dim}", rotate_launch(apart, views, angles, angles, back=True)
        scale, weight = tensor(32, 1, dtype=torch.float32), angles[0]
        yield f"heads {head_dim}", norm_forward_launch(queries, weight, 1e-6, apart[0], scale)
        made = norm_backward_launch(apart[0], queries, weight, scale, None, queries)
        yield f"heads back {head_dim}", made


def as_compiled(launch: RowLaunch) -> Any:
    """In the form of the attention kernels' launches."""
    tiles = SimpleNamespace(warps=launch.warps, stages=1)
    return SimpleNamespace(
        kernel=launch.kernel,
        arguments=launch.arguments,
        constants=launch.constants,
        tiles=tiles,
    )


def main() -> None:
    for name, _ in launches(1):
        of_rows = [as_compiled(dict(launches(rows))[name]) for rows in ROWS]
        digests = sorted({launch_digest(one, "sm_90") for one in of_rows})
        print(json.dumps({"name": name, "digests": digests}))
    hardest = ("norm 16384", "norm back 16384", "swiglu back 11008", "back 256")
    for architecture in SHARED_LIMIT:
        for name, launch in launches(400):
            if name in hardest:
                found = compile_launch(as_compiled(launch), architecture)
                fault = found.fault(architecture, matrix=False)
                print(json.dumps({"name": f"{architecture} {name}", "fault": fault}), flush=True)


if __name__ == "__main__":
    main()
