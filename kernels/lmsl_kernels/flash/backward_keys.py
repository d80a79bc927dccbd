"""Regimes M and L, backward, second launch: dk and dv from tiles of keys.

A program owns a tile of keys of one kv head and adds up what the rows of all query heads of the
group send back, in a fixed order. The loops over heads and over tiles of rows are one flat loop:
nested, they make the compiler spill registers.
"""

import triton
import triton.language as tl

from lmsl_kernels.flash.tiles import (
    CAUSAL,
    MIXED,
    add_dot,
    describe_group,
    dot_heads,
    fetch_from_group,
    fetch_tile,
    find_work,
    head_base,
    read_flag,
    soften,
    store_tile,
    visible,
    zero_tail,
)

RUNTIME_INTEGERS = ("window", "seqlen", "sequences", "rows", "work_items")


@triton.jit
def row_tiles(
    key, length, window, is_causal, ROWS: tl.constexpr, KEYS: tl.constexpr,
    MASK: tl.constexpr, WINDOWED: tl.constexpr,
):  # fmt: skip
    """Which tiles of rows see the keys ``key .. key + KEYS - 1``: begin, middle, end.

    Tiles of ``[begin, middle)`` need a mask, all rows of ``[middle, end)`` see all the keys.
    Windows mask every tile they touch.
    """
    begin = 0
    middle = 0
    end = tl.cdiv(length, ROWS)
    if WINDOWED:
        begin = tl.maximum(0, key - window + 1) // ROWS
        end = tl.cdiv(tl.minimum(length, key + KEYS - 1 + window), ROWS)
    if MASK == CAUSAL:
        begin = key // ROWS
        middle = tl.minimum(tl.cdiv(key + KEYS - 1, ROWS), end)
    if MASK == MIXED:
        begin = tl.where(is_causal, key // ROWS, begin)
        middle = tl.where(is_causal, tl.minimum(tl.cdiv(key + KEYS - 1, ROWS), end), 0)
    if WINDOWED:
        middle = end
    return begin, middle, end


@triton.jit
def walk_rows(
    k1,
    k2,
    v1,
    v2,
    dk1,
    dk2,
    dv1,
    dv2,
    q_source1,
    q_source2,
    dout_source1,
    dout_source2,
    q_strides,
    dout_strides,
    total_base,
    delta_base,
    rows,
    begin,
    end,
    key,
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
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    DESCRIBED: tl.constexpr,
):
    """Add what the row tiles of ``[begin, end)`` of all heads of the group send back to keys."""
    place = tl.arange(0, ROWS)
    tiles = end - begin
    for turn in tl.range(0, tiles * GROUP):
        member = turn // tiles
        row = (begin + turn % tiles) * ROWS
        token = row + place
        valid = token < length
        q1, q2 = fetch_from_group(
            q_source1, q_source2, q_strides, member, row, length, ROWS, HEAD_DIM, FIRST, SECOND,
            DESCRIBED,
        )  # fmt: skip
        statistics = tl.cast(member, tl.int64) * rows + row
        # No row behind the end takes part: its weights are exp2(score - inf) = 0.
        row_total = tl.load(total_base + statistics + place, mask=valid, other=float("inf"))
        scores = dot_heads(k1, k2, q1, q2, SECOND, PRECISION)
        softened, tanh = soften(scores, scale, softcap, SOFTCAPPED)
        p = tl.exp2(softened - row_total[None, :])
        if MASKED:
            seen = visible(token[None, :], key[:, None], length, window, is_causal, MASK, WINDOWED)
            p = tl.where(seen, p, 0.0)
        dout1, dout2 = fetch_from_group(
            dout_source1, dout_source2, dout_strides, member, row, length, ROWS, HEAD_DIM, FIRST,
            SECOND, DESCRIBED,
        )  # fmt: skip
        dv1, dv2 = add_dot(p, dout1, dout2, dv1, dv2, SECOND, PRECISION)
        row_delta = tl.load(delta_base + statistics + place, mask=valid, other=0.0)
        dp = dot_heads(v1, v2, dout1, dout2, SECOND, PRECISION)
        ds = p * (dp - row_delta[None, :])
        if SOFTCAPPED:
            ds = ds * (1.0 - tanh * tanh)
        dk1, dk2 = add_dot(ds, q1, q2, dk1, dk2, SECOND, PRECISION)
    return dk1, dk2, dv1, dv2


@triton.jit(do_not_specialize=RUNTIME_INTEGERS)
def backward_keys(
    q,
    k,
    v,
    dout,
    dk,
    dv,
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
    """``dk`` and ``dv`` of one tile of keys of one kv head, summed over its query heads."""
    spare = tl.program_id(0) - work_items * kv_heads
    if spare >= 0:
        width = kv_heads * HEAD_DIM
        zero_tail(dk, cu_seqlens, sequences, rows, width, spare, work_items, kv_heads)
        zero_tail(dv, cu_seqlens, sequences, rows, width, spare, work_items, kv_heads)
        return
    kv_head, sequence, tile, first, length = find_work(
        cu_seqlens, work, seqlen, sequences, work_items, kv_heads, DENSE, True, False
    )
    if length == 0:
        return
    is_causal = read_flag(flags, sequence, MASK)
    k_base = head_base(k, k_strides, sequence, first, kv_head, DENSE)
    v_base = head_base(v, v_strides, sequence, first, kv_head, DENSE)
    group_head = kv_head * GROUP
    q_base = head_base(q, q_strides, sequence, first, group_head, DENSE)
    dout_base = head_base(dout, dout_strides, sequence, first, group_head, DENSE)
    statistics = group_head.to(tl.int64) * rows + first
    start = tile * KEYS
    place = tl.arange(0, KEYS)
    key = start + place
    is_key = key < length
    k1, k2 = fetch_tile(
        k_base, k_base, start, k_strides.token, length, True, KEYS, HEAD_DIM, FIRST, SECOND, False
    )
    v1, v2 = fetch_tile(
        v_base, v_base, start, v_strides.token, length, True, KEYS, HEAD_DIM, FIRST, SECOND, False
    )
    LAST: tl.constexpr = SECOND if SECOND > 0 else FIRST
    dk1 = tl.zeros([KEYS, FIRST], tl.float32)
    dk2 = tl.zeros([KEYS, LAST], tl.float32)
    dv1 = tl.zeros([KEYS, FIRST], tl.float32)
    dv2 = tl.zeros([KEYS, LAST], tl.float32)

    q1, q2 = describe_group(
        q_base, q_strides, length, GROUP, ROWS, HEAD_DIM, FIRST, SECOND, DESCRIBED
    )
    dout1, dout2 = describe_group(
        dout_base, dout_strides, length, GROUP, ROWS, HEAD_DIM, FIRST, SECOND, DESCRIBED
    )
    begin, middle, end = row_tiles(start, length, window, is_causal, ROWS, KEYS, MASK, WINDOWED)
    if MASK > 0 or WINDOWED:
        dk1, dk2, dv1, dv2 = walk_rows(
            k1, k2, v1, v2, dk1, dk2, dv1, dv2, q1, q2, dout1, dout2, q_strides,
            dout_strides, log_total + statistics,
            delta + statistics, rows, begin, middle, key, length, window, is_causal, scale,
            softcap, True, MASK, WINDOWED, SOFTCAPPED, PRECISION, GROUP, ROWS,
            HEAD_DIM, FIRST, SECOND, DESCRIBED,
        )  # fmt: skip
    if not WINDOWED:
        dk1, dk2, dv1, dv2 = walk_rows(
            k1, k2, v1, v2, dk1, dk2, dv1, dv2, q1, q2, dout1, dout2, q_strides,
            dout_strides, log_total + statistics,
            delta + statistics, rows, middle, end, key, length, window, is_causal, scale,
            softcap, False, MASK, WINDOWED, SOFTCAPPED, PRECISION, GROUP, ROWS,
            HEAD_DIM, FIRST, SECOND, DESCRIBED,
        )  # fmt: skip
    own = ((first + start) * kv_heads + kv_head) * HEAD_DIM
    own_offset = place * (kv_heads * HEAD_DIM)
    store_tile(dk + own, own_offset, is_key, dk1 * scale, dk2 * scale, HEAD_DIM, FIRST, SECOND)
    store_tile(dv + own, own_offset, is_key, dv1, dv2, HEAD_DIM, FIRST, SECOND)
