"""Regimes M and L, backward, first launch: dq from tiles of rows.

The walk over the keys is the forward's. On the way in a program makes
``delta = rowsum(out * dout)`` of its rows, for itself and for the second launch
(``backward_keys``).

Two launches and no atomics: every gradient has one owner that adds up in a fixed order, so results
repeat bit for bit and no float32 copy of dq is needed, at the price of computing scores twice.
"""

import triton
import triton.language as tl

from lmsl_kernels.flash.forward import key_range
from lmsl_kernels.flash.tiles import (
    add_dot,
    describe_tiles,
    dot_heads,
    fetch_tile,
    find_work,
    head_base,
    load_tile,
    read_flag,
    soften,
    store_tile,
    visible,
    zero_tail,
)

RUNTIME_INTEGERS = ("window", "seqlen", "sequences", "rows", "work_items")


@triton.jit
def walk_keys_back(
    q1,
    q2,
    dout1,
    dout2,
    dq1,
    dq2,
    log_total,
    delta,
    k_source1,
    k_source2,
    v_source1,
    v_source2,
    k_token_stride,
    v_token_stride,
    begin,
    end,
    token,
    length,
    window,
    is_causal,
    scale,
    softcap,
    MASKED: tl.constexpr,
    MASK: tl.constexpr,
    WINDOWED: tl.constexpr,
    SOFTCAPPED: tl.constexpr,
    PRECISION: tl.constexpr,
    KEYS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    DESCRIBED: tl.constexpr,
):
    """Add what the keys of ``[begin, end)`` send back to a tile of rows, without the scale."""
    place = tl.arange(0, KEYS)
    for start in tl.range(begin, end, KEYS):
        key = start + place
        k1, k2 = fetch_tile(
            k_source1, k_source2, start, k_token_stride, length, MASKED, KEYS, HEAD_DIM, FIRST,
            SECOND, DESCRIBED,
        )  # fmt: skip
        v1, v2 = fetch_tile(
            v_source1, v_source2, start, v_token_stride, length, MASKED, KEYS, HEAD_DIM, FIRST,
            SECOND, DESCRIBED,
        )  # fmt: skip
        scores = dot_heads(q1, q2, k1, k2, SECOND, PRECISION)
        softened, tanh = soften(scores, scale, softcap, SOFTCAPPED)
        p = tl.exp2(softened - log_total[:, None])
        if MASKED:
            seen = visible(token[:, None], key[None, :], length, window, is_causal, MASK, WINDOWED)
            p = tl.where(seen, p, 0.0)
        dp = dot_heads(dout1, dout2, v1, v2, SECOND, PRECISION)
        ds = p * (dp - delta[:, None])
        if SOFTCAPPED:
            ds = ds * (1.0 - tanh * tanh)
        dq1, dq2 = add_dot(ds, k1, k2, dq1, dq2, SECOND, PRECISION)
    return dq1, dq2


@triton.jit(do_not_specialize=RUNTIME_INTEGERS)
def backward_rows(
    q,
    k,
    v,
    out,
    dout,
    dq,
    log_total,
    delta,
    cu_seqlens,
    flags,
    work,
    scale,
    softcap,
    window,
    seqlen,
    sequences,
    rows,
    work_items,
    kv_heads,
    q_strides,
    k_strides,
    v_strides,
    dout_strides,
    MASK: tl.constexpr,
    WINDOWED: tl.constexpr,
    SOFTCAPPED: tl.constexpr,
    DENSE: tl.constexpr,
    PRECISION: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    DESCRIBED: tl.constexpr,
):
    """``dq`` and ``delta`` [heads, rows] of one tile of rows of one query head."""
    heads = kv_heads * GROUP
    spare = tl.program_id(0) - work_items * heads
    if spare >= 0:
        width = heads * HEAD_DIM
        zero_tail(dq, cu_seqlens, sequences, rows, width, spare, work_items, heads)
        return
    head, sequence, tile, first, length = find_work(
        cu_seqlens, work, seqlen, sequences, work_items, heads, DENSE, True, True
    )
    if length == 0:
        return
    is_causal = read_flag(flags, sequence, MASK)
    kv_head = head // GROUP
    q_base = head_base(q, q_strides, sequence, first, head, DENSE)
    k_base = head_base(k, k_strides, sequence, first, kv_head, DENSE)
    v_base = head_base(v, v_strides, sequence, first, kv_head, DENSE)
    dout_base = head_base(dout, dout_strides, sequence, first, head, DENSE)
    row = tile * ROWS
    place = tl.arange(0, ROWS)
    token = row + place
    valid = token < length
    q1, q2 = fetch_tile(
        q_base, q_base, row, q_strides.token, length, True, ROWS, HEAD_DIM, FIRST, SECOND, False
    )
    dout1, dout2 = fetch_tile(
        dout_base, dout_base, row, dout_strides.token, length, True, ROWS, HEAD_DIM, FIRST,
        SECOND, False,
    )  # fmt: skip
    own = ((first + row) * heads + head) * HEAD_DIM
    own_offset = place * (heads * HEAD_DIM)
    out1, out2 = load_tile(out + own, own_offset, valid, True, HEAD_DIM, FIRST, SECOND)
    row_delta = tl.sum(out1.to(tl.float32) * dout1.to(tl.float32), 1)
    if SECOND > 0:
        row_delta += tl.sum(out2.to(tl.float32) * dout2.to(tl.float32), 1)
    statistics = head.to(tl.int64) * rows + first + row
    tl.store(delta + statistics + place, row_delta, mask=valid)
    row_total = tl.load(log_total + statistics + place, mask=valid, other=float("inf"))

    dq1 = tl.zeros([ROWS, FIRST], tl.float32)
    dq2 = tl.zeros([ROWS, SECOND if SECOND > 0 else FIRST], tl.float32)
    k1, k2 = describe_tiles(
        k_base, length, k_strides.token, KEYS, HEAD_DIM, FIRST, SECOND, DESCRIBED
    )
    v1, v2 = describe_tiles(
        v_base, length, v_strides.token, KEYS, HEAD_DIM, FIRST, SECOND, DESCRIBED
    )
    begin, middle, edge, end = key_range(
        row, length, window, is_causal, ROWS, KEYS, MASK, WINDOWED
    )
    if WINDOWED:
        dq1, dq2 = walk_keys_back(
            q1, q2, dout1, dout2, dq1, dq2, row_total, row_delta, k1, k2, v1, v2,
            k_strides.token, v_strides.token, begin, middle, token, length, window, is_causal,
            scale, softcap, True, MASK, WINDOWED, SOFTCAPPED, PRECISION, KEYS,
            HEAD_DIM, FIRST, SECOND, DESCRIBED,
        )  # fmt: skip
    dq1, dq2 = walk_keys_back(
        q1, q2, dout1, dout2, dq1, dq2, row_total, row_delta, k1, k2, v1, v2,
        k_strides.token, v_strides.token, middle, edge, token, length, window, is_causal,
        scale, softcap, False, MASK, WINDOWED, SOFTCAPPED, PRECISION, KEYS,
        HEAD_DIM, FIRST, SECOND, DESCRIBED,
    )  # fmt: skip
    dq1, dq2 = walk_keys_back(
        q1, q2, dout1, dout2, dq1, dq2, row_total, row_delta, k1, k2, v1, v2,
        k_strides.token, v_strides.token, edge, end, token, length, window, is_causal,
        scale, softcap, True, MASK, WINDOWED, SOFTCAPPED, PRECISION, KEYS,
        HEAD_DIM, FIRST, SECOND, DESCRIBED,
    )  # fmt: skip
    store_tile(dq + own, own_offset, valid, dq1 * scale, dq2 * scale, HEAD_DIM, FIRST, SECOND)
