"""Regimes M and L, backward: dq from tiles of rows, then dk and dv from tiles of keys.

Two kernels and no atomics: every gradient has one owner that adds up in a fixed order, so results
repeat bit for bit and no float32 copy of dq is needed, at the price of computing scores twice.

The first also makes ``delta = rowsum(out * dout)``, which the second reads. In the second the
loops over the heads of a group and over the tiles of rows are one flat loop: nested, they make the
compiler spill registers.
"""

import triton
import triton.language as tl

from lmsl_kernels.forward import key_range
from lmsl_kernels.tiles import (
    CAUSAL,
    MIXED,
    add_dot,
    dot_heads,
    find_sequence,
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
    k_base,
    v_base,
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
):
    """Add what the keys of ``[begin, end)`` send back to a tile of rows, without the scale."""
    place = tl.arange(0, KEYS)
    for start in tl.range(begin, end, KEYS):
        key = start + place
        is_key = key < length
        k_tile = k_base + tl.cast(start, tl.int64) * k_token_stride
        v_tile = v_base + tl.cast(start, tl.int64) * v_token_stride
        k1, k2 = load_tile(k_tile, place * k_token_stride, is_key, MASKED, HEAD_DIM, FIRST, SECOND)
        v1, v2 = load_tile(v_tile, place * v_token_stride, is_key, MASKED, HEAD_DIM, FIRST, SECOND)
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
    q_batch_stride,
    q_token_stride,
    q_head_stride,
    k_batch_stride,
    k_token_stride,
    k_head_stride,
    v_batch_stride,
    v_token_stride,
    v_head_stride,
    dout_batch_stride,
    dout_token_stride,
    dout_head_stride,
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
):
    """``dq`` and ``delta`` [heads, rows] of one tile of rows of one query head."""
    heads = kv_heads * GROUP
    item = tl.program_id(0) // heads
    head = tl.program_id(0) % heads
    if item >= work_items:
        spare = work_items * heads
        programs = tl.num_programs(0) - spare
        program = tl.program_id(0) - spare
        zero_tail(dq, cu_seqlens, sequences, rows, heads * HEAD_DIM, program, programs)
        return
    sequence, tile = find_work(work, item, work_items, sequences, True, DENSE)
    if sequence < 0:
        return
    first, length = find_sequence(cu_seqlens, sequence, seqlen, DENSE)
    is_causal = read_flag(flags, sequence, MASK)
    kv_head = head // GROUP
    q_base = head_base(
        q, sequence, first, head, q_batch_stride, q_token_stride, q_head_stride, DENSE
    )
    k_base = head_base(
        k, sequence, first, kv_head, k_batch_stride, k_token_stride, k_head_stride, DENSE
    )
    v_base = head_base(
        v, sequence, first, kv_head, v_batch_stride, v_token_stride, v_head_stride, DENSE
    )
    dout_base = head_base(
        dout,
        sequence,
        first,
        head,
        dout_batch_stride,
        dout_token_stride,
        dout_head_stride,
        DENSE,
    )
    row = tile * ROWS
    place = tl.arange(0, ROWS)
    token = row + place
    valid = token < length
    start = row.to(tl.int64)
    q1, q2 = load_tile(
        q_base + start * q_token_stride,
        place * q_token_stride,
        valid,
        True,
        HEAD_DIM,
        FIRST,
        SECOND,
    )
    dout1, dout2 = load_tile(
        dout_base + start * dout_token_stride,
        place * dout_token_stride,
        valid,
        True,
        HEAD_DIM,
        FIRST,
        SECOND,
    )
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
    begin, middle, edge, end = key_range(
        row, length, window, is_causal, ROWS, KEYS, MASK, WINDOWED
    )
    if WINDOWED:
        dq1, dq2 = walk_keys_back(
            q1, q2, dout1, dout2, dq1, dq2, row_total, row_delta, k_base, v_base,
            k_token_stride, v_token_stride, begin, middle, token, length, window, is_causal,
            scale, softcap, True, MASK, WINDOWED, SOFTCAPPED, PRECISION, KEYS,
            HEAD_DIM, FIRST, SECOND,
        )  # fmt: skip
    dq1, dq2 = walk_keys_back(
        q1, q2, dout1, dout2, dq1, dq2, row_total, row_delta, k_base, v_base,
        k_token_stride, v_token_stride, middle, edge, token, length, window, is_causal,
        scale, softcap, False, MASK, WINDOWED, SOFTCAPPED, PRECISION, KEYS,
        HEAD_DIM, FIRST, SECOND,
    )  # fmt: skip
    dq1, dq2 = walk_keys_back(
        q1, q2, dout1, dout2, dq1, dq2, row_total, row_delta, k_base, v_base,
        k_token_stride, v_token_stride, edge, end, token, length, window, is_causal,
        scale, softcap, True, MASK, WINDOWED, SOFTCAPPED, PRECISION, KEYS,
        HEAD_DIM, FIRST, SECOND,
    )  # fmt: skip
    store_tile(dq + own, own_offset, valid, dq1 * scale, dq2 * scale, HEAD_DIM, FIRST, SECOND)


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
    q_base,
    dout_base,
    q_token_stride,
    q_head_stride,
    dout_token_stride,
    dout_head_stride,
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
):
    """Add what the row tiles of ``[begin, end)`` of all heads of the group send back to keys."""
    place = tl.arange(0, ROWS)
    tiles = end - begin
    for turn in tl.range(0, tiles * GROUP):
        member = turn // tiles
        row = (begin + turn % tiles) * ROWS
        token = row + place
        valid = token < length
        start = tl.cast(row, tl.int64)
        head = tl.cast(member, tl.int64)
        q_tile = q_base + head * q_head_stride + start * q_token_stride
        q1, q2 = load_tile(q_tile, place * q_token_stride, valid, True, HEAD_DIM, FIRST, SECOND)
        statistics = head * rows + start
        # No row behind the end takes part: its weights are exp2(score - inf) = 0.
        row_total = tl.load(total_base + statistics + place, mask=valid, other=float("inf"))
        scores = dot_heads(k1, k2, q1, q2, SECOND, PRECISION)
        softened, tanh = soften(scores, scale, softcap, SOFTCAPPED)
        p = tl.exp2(softened - row_total[None, :])
        if MASKED:
            seen = visible(token[None, :], key[:, None], length, window, is_causal, MASK, WINDOWED)
            p = tl.where(seen, p, 0.0)
        dout_tile = dout_base + head * dout_head_stride + start * dout_token_stride
        dout1, dout2 = load_tile(
            dout_tile, place * dout_token_stride, valid, True, HEAD_DIM, FIRST, SECOND
        )
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
    q_batch_stride,
    q_token_stride,
    q_head_stride,
    k_batch_stride,
    k_token_stride,
    k_head_stride,
    v_batch_stride,
    v_token_stride,
    v_head_stride,
    dout_batch_stride,
    dout_token_stride,
    dout_head_stride,
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
):
    """``dk`` and ``dv`` of one tile of keys of one kv head, summed over its query heads."""
    item = tl.program_id(0) // kv_heads
    kv_head = tl.program_id(0) % kv_heads
    if item >= work_items:
        spare = work_items * kv_heads
        programs = tl.num_programs(0) - spare
        program = tl.program_id(0) - spare
        zero_tail(dk, cu_seqlens, sequences, rows, kv_heads * HEAD_DIM, program, programs)
        zero_tail(dv, cu_seqlens, sequences, rows, kv_heads * HEAD_DIM, program, programs)
        return
    sequence, tile = find_work(work, item, work_items, sequences, False, DENSE)
    if sequence < 0:
        return
    first, length = find_sequence(cu_seqlens, sequence, seqlen, DENSE)
    is_causal = read_flag(flags, sequence, MASK)
    k_base = head_base(
        k, sequence, first, kv_head, k_batch_stride, k_token_stride, k_head_stride, DENSE
    )
    v_base = head_base(
        v, sequence, first, kv_head, v_batch_stride, v_token_stride, v_head_stride, DENSE
    )
    group_head = kv_head * GROUP
    q_base = head_base(
        q, sequence, first, group_head, q_batch_stride, q_token_stride, q_head_stride, DENSE
    )
    dout_base = head_base(
        dout,
        sequence,
        first,
        group_head,
        dout_batch_stride,
        dout_token_stride,
        dout_head_stride,
        DENSE,
    )
    statistics = group_head.to(tl.int64) * rows + first
    start = tile * KEYS
    place = tl.arange(0, KEYS)
    key = start + place
    is_key = key < length
    k_tile = k_base + start.to(tl.int64) * k_token_stride
    v_tile = v_base + start.to(tl.int64) * v_token_stride
    k1, k2 = load_tile(k_tile, place * k_token_stride, is_key, True, HEAD_DIM, FIRST, SECOND)
    v1, v2 = load_tile(v_tile, place * v_token_stride, is_key, True, HEAD_DIM, FIRST, SECOND)
    LAST: tl.constexpr = SECOND if SECOND > 0 else FIRST
    dk1 = tl.zeros([KEYS, FIRST], tl.float32)
    dk2 = tl.zeros([KEYS, LAST], tl.float32)
    dv1 = tl.zeros([KEYS, FIRST], tl.float32)
    dv2 = tl.zeros([KEYS, LAST], tl.float32)

    begin, middle, end = row_tiles(start, length, window, is_causal, ROWS, KEYS, MASK, WINDOWED)
    if MASK > 0 or WINDOWED:
        dk1, dk2, dv1, dv2 = walk_rows(
            k1, k2, v1, v2, dk1, dk2, dv1, dv2, q_base, dout_base, q_token_stride,
            q_head_stride, dout_token_stride, dout_head_stride, log_total + statistics,
            delta + statistics, rows, begin, middle, key, length, window, is_causal, scale,
            softcap, True, MASK, WINDOWED, SOFTCAPPED, PRECISION, GROUP, ROWS,
            HEAD_DIM, FIRST, SECOND,
        )  # fmt: skip
    if not WINDOWED:
        dk1, dk2, dv1, dv2 = walk_rows(
            k1, k2, v1, v2, dk1, dk2, dv1, dv2, q_base, dout_base, q_token_stride,
            q_head_stride, dout_token_stride, dout_head_stride, log_total + statistics,
            delta + statistics, rows, middle, end, key, length, window, is_causal, scale,
            softcap, False, MASK, WINDOWED, SOFTCAPPED, PRECISION, GROUP, ROWS,
            HEAD_DIM, FIRST, SECOND,
        )  # fmt: skip
    own = ((first + start) * kv_heads + kv_head) * HEAD_DIM
    own_offset = place * (kv_heads * HEAD_DIM)
    store_tile(dk + own, own_offset, is_key, dk1 * scale, dk2 * scale, HEAD_DIM, FIRST, SECOND)
    store_tile(dv + own, own_offset, is_key, dv1, dv2, HEAD_DIM, FIRST, SECOND)
