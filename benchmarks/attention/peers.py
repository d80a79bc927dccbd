"""Who is measured: every way to compute self-attention over sentences that people have today.

A peer is handed a batch in the layout it lives in (packed, or padded on the right) and derives
from the lengths what it needs once per batch: a plan, cumulative lengths, a mask. Models would
hand over their activations in that layout, so bringing them into it is not timed; deriving is
timed in a stream of batches, where it belongs, and never among bare kernels, except for the peer
whose name says that its mask is built each time.

Nobody is asked for more than right numbers at the real tokens. What a peer cannot do it says in
``why_not`` or by raising; what it gets wrong, the gate finds.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.attention.batch import Batch, Layout
from benchmarks.attention.cells import DTYPES, Cell
from lmsl_kernels import attention
from lmsl_kernels.api import why_not as implementation_why_not
from lmsl_kernels.plan import PackPlan, plan_lengths

DeriveTimed = Literal["in streams", "always", "never"]
OURS, OURS_BEGIN = "lmsl triton", "lmsl "
FLEX: dict[str, DeriveTimed] = {"Flex, mask ready": "never", "Flex, mask built": "always"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Peer:
    """One contender."""

    name: str
    layout: Layout
    call: Callable[[Batch, Any], Tensor]
    """The output of a batch, in the layout of ``q``."""
    derive: Callable[[Batch], Any] = lambda batch: None
    """What ``call`` needs beside the batch, made once per batch."""
    why_not: Callable[[Cell, torch.device], str | None] = lambda cell, device: None
    """Why it cannot compute a cell, where that is known beforehand."""
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Entered around all of its calls."""
    derive_timed: DeriveTimed = "in streams"
    """Where ``derive`` counts. ``always``: in every call, also where bare kernels are timed."""


def padding_bias(batch: Batch) -> Tensor | None:
    """Boolean [sentences, 1, longest, longest] of what is seen, as transformers makes it.

    ``None`` where there is nothing to hide that ``is_causal`` does not hide.
    """
    if not batch.ragged:
        return None
    device = batch.q.device
    lengths = torch.tensor(batch.lengths, device=device)
    position = torch.arange(batch.longest, device=device)
    seen = (position < lengths[:, None])[:, None, None, :].expand(-1, 1, batch.longest, -1)
    return seen & (position <= position[:, None]) if batch.cell.is_causal else seen.contiguous()


def repeat_heads(x: Tensor, cell: Cell) -> Tensor:
    """[.., kv_heads, longest, head_dim] to as many heads as the queries have, as models do it."""
    return x.repeat_interleave(cell.heads // cell.kv_heads, dim=1)


def _lmsl(impl: Literal["triton", "sdpa"], batch: Batch, plan: PackPlan | None) -> Tensor:
    q, k, v = batch.leaves
    if plan is None:
        q, k, v = (x.unflatten(0, (len(batch.lengths), batch.longest)) for x in (q, k, v))
    out = attention(q, k, v, is_causal=batch.cell.is_causal, plan=plan, impl=impl)
    return out if plan is not None else out.flatten(0, 1)


def _plan(batch: Batch) -> PackPlan | None:
    """None for long sequences of equal length, which are a dense call."""
    dense = not batch.ragged and batch.longest > 1024
    return None if dense else plan_lengths(batch.lengths, batch.q.device)


def _lmsl_why_not(impl: str, cell: Cell, device: torch.device) -> str | None:
    if impl == "triton" and device.type != "cuda":
        return f"it needs a CUDA device, got {device}"
    like = torch.empty(0, 1, cell.head_dim, device=device, dtype=DTYPES[cell.dtype])
    return implementation_why_not(impl, like, 1.0)


def _starts(batch: Batch) -> Tensor:
    starts = torch.tensor(batch.bounds, dtype=torch.int32)
    return starts.to(batch.q.device, non_blocking=True)


def _varlen_flash(batch: Batch, starts: Tensor) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    arguments: dict[str, Any] = {"window_size": (-1, 0 if batch.cell.is_causal else -1)}
    # Older versions take grouped heads unasked.
    if "enable_gqa" in inspect.signature(varlen_attn).parameters:
        arguments["enable_gqa"] = batch.cell.heads != batch.cell.kv_heads
    longest = batch.longest
    out: Any = varlen_attn(*batch.leaves, starts, starts, longest, longest, **arguments)
    assert isinstance(out, Tensor)
    return out


def _varlen_cudnn(batch: Batch, starts: Tensor, *, repeat: bool) -> Tensor:
    """torch's own operator: ``varlen_attn`` has this backend but never chooses it."""
    q, k, v = batch.leaves
    if repeat:
        k, v = repeat_heads(k, batch.cell), repeat_heads(v, batch.cell)
    out: Tensor = torch.ops.aten._cudnn_attention_forward(
        q, k, v, None, starts, starts, batch.longest, batch.longest, True, 0.0,
        batch.cell.is_causal, False,
    )[0]  # fmt: skip
    return out


def _sdpa(batch: Batch, mask: Tensor | None) -> Tensor:
    """Grouped heads as they are; a mask only where it cannot do without."""
    cell = batch.cell
    out = F.scaled_dot_product_attention(
        *batch.headed(),
        attn_mask=mask,
        is_causal=cell.is_causal and mask is None,
        enable_gqa=cell.heads != cell.kv_heads,
    )
    return out.transpose(1, 2)


def _needed_bias(batch: Batch) -> Tensor | None:
    """Padding on the right is behind all that a causal token sees."""
    return None if batch.cell.is_causal else padding_bias(batch)


def _sdpa_4d(batch: Batch, mask: Tensor | None) -> Tensor:
    """The path of transformers' ``sdpa``: repeated heads and, with padding, a 4D mask."""
    q, k, v = batch.headed()
    k, v = repeat_heads(k, batch.cell), repeat_heads(v, batch.cell)
    causal = batch.cell.is_causal and mask is None
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    return out.transpose(1, 2)


def _eager(batch: Batch, mask: Tensor) -> Tensor:
    """The path of transformers' ``eager``: scores in memory, softmax in float32."""
    q, k, v = batch.headed()
    k, v = repeat_heads(k, batch.cell), repeat_heads(v, batch.cell)
    scores = q @ k.transpose(2, 3) * batch.cell.head_dim**-0.5 + mask
    return (scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype) @ v).transpose(1, 2)


def _eager_bias(batch: Batch) -> Tensor:
    seen = padding_bias(batch)
    if seen is None:
        shape = (1, 1, batch.longest, batch.longest)
        seen = torch.ones(shape, dtype=torch.bool, device=batch.q.device)
        seen = seen.tril() if batch.cell.is_causal else seen
    bias = torch.zeros(seen.shape, dtype=batch.q.dtype, device=batch.q.device)
    return bias.masked_fill(~seen, torch.finfo(batch.q.dtype).min)


@cache
def _compiled_flex() -> tuple[Callable[..., Any], Callable[..., Any]]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    return torch.compile(flex_attention, dynamic=True), torch.compile(
        create_block_mask, dynamic=True
    )


def _flex_mask(batch: Batch) -> Any:
    """Documents of a pack, as torch's own examples write them."""
    tokens = sum(batch.lengths)
    numbers = torch.arange(len(batch.lengths)).repeat_interleave(torch.tensor(batch.lengths))
    document = numbers.to(batch.q.device)
    is_causal = batch.cell.is_causal

    def seen(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = document[query] == document[key]
        return same & (query >= key) if is_causal else same

    build = _compiled_flex()[1]
    return build(seen, None, None, tokens, tokens, device=batch.q.device)


def _flex(batch: Batch, mask: Any) -> Tensor:
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in batch.leaves)
    grouped = batch.cell.heads != batch.cell.kv_heads
    out: Tensor = _compiled_flex()[0](q, k, v, block_mask=mask, enable_gqa=grouped)
    return out[0].transpose(0, 1)


def _only_cuda(cell: Cell, device: torch.device) -> str | None:
    if device.type != "cuda":
        return f"it needs a CUDA device, got {device}"
    return "it computes in 16 bits only" if cell.dtype == "float32" else None


def _only_grouped(cell: Cell, device: torch.device) -> str | None:
    if cell.heads == cell.kv_heads:
        return "there is nothing to repeat"
    return _only_cuda(cell, device)


@contextmanager
def _flex_settings() -> Iterator[None]:
    """Every cell may compile, and torch giving up compiling must not go unnoticed.

    A backward that is run again and again may not hand its buffers away.
    """
    import torch._dynamo.config as dynamo
    import torch._functorch.config as functorch

    limits = {"recompile_limit": 64, "fail_on_recompile_limit_hit": True}
    with dynamo.patch(limits), functorch.patch({"donated_buffer": False}):
        yield


def peers() -> tuple[Peer, ...]:
    """All contenders, ours first."""
    ours = [
        Peer(
            name=f"lmsl {impl}",
            layout="packed",
            derive=_plan,
            call=partial(_lmsl, impl),
            why_not=partial(_lmsl_why_not, impl),
        )
        for impl in ("triton", "sdpa")
    ]
    varlen = partial(Peer, layout="packed", derive=_starts, why_not=_only_cuda)
    repeated = partial(_varlen_cudnn, repeat=True)
    flex = partial(
        Peer,
        layout="packed",
        derive=_flex_mask,
        call=_flex,
        why_not=_only_cuda,
        context=_flex_settings,
    )
    padded = partial(Peer, layout="padded")
    only = {
        "SDPA flash": (SDPBackend.FLASH_ATTENTION, _sdpa, lambda batch: None),
        "SDPA cuDNN": (SDPBackend.CUDNN_ATTENTION, _sdpa, _needed_bias),
        "SDPA efficient, 4D mask": (SDPBackend.EFFICIENT_ATTENTION, _sdpa_4d, padding_bias),
    }
    return (
        *ours,
        varlen(name="varlen flash", call=_varlen_flash),
        varlen(name="varlen cuDNN", call=partial(_varlen_cudnn, repeat=False)),
        varlen(name="varlen cuDNN, repeat_kv", call=repeated, why_not=_only_grouped),
        *(
            padded(
                name=name,
                derive=derive,
                call=call,
                why_not=_only_cuda,
                context=partial(sdpa_kernel, backend),
            )
            for name, (backend, call, derive) in only.items()
        ),
        padded(name="SDPA default, 4D mask", derive=padding_bias, call=_sdpa_4d),
        padded(name="eager", derive=_eager_bias, call=_eager),
        *(flex(name=name, derive_timed=timed) for name, timed in FLEX.items()),
    )
