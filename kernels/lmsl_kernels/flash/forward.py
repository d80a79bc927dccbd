"""Regimes M and L, forward: a tile of rows walks over the keys with an online softmax.

A program owns one query head and one tile of rows from the plan's work list. Keys that every row
of the tile sees are walked without a mask; only the tiles at the edges (the diagonal of a causal
layer, the rims of a window, the end of the sequence) pay for one, and tiles that no row sees are
skipped. Heads are the fastest grid axis, so that a group shares its keys and values in the cache.
"""

import triton
import triton.language as tl

from lmsl_kernels.flash.tiles import (
    CAUSAL,
    LOG2_E,
    MIXED,
    add_dot,
    describe_tiles,
    dot_heads,
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
def key_range(
    row, length, window, is_causal, ROWS: tl.constexpr, KEYS: tl.constexpr,
    MASK: tl.constexpr, WINDOWED: tl.constexpr,
):  # fmt: skip
    """Which keys the rows ``row .. row + ROWS - 1`` walk: begin, middle, edge, end.

    ``[begin, end)`` covers all keys that any of the rows sees. All of them see all of
    ``[middle, edge)``. Begin, middle and edge are multiples of KEYS.
    """
    begin = 0
    middle = 0
    end = length
    sure = length
    if WINDOWED:
        begin = tl.maximum(0, row - window + 1)
        middle = tl.maximum(0, row + ROWS - window)
        end = tl.minimum(length, row + ROWS - 1 + window)
        sure = tl.minimum(length, row + window)
    if MASK == CAUSAL:
        end = tl.minimum(length, row + ROWS)
        sure = tl.minimum(length, row + 1)
    if MASK == MIXED:
        end = tl.where(is_causal, tl.minimum(end, row + ROWS), end)
        sure = tl.where(is_causal, tl.minimum(sure, row + 1), sure)
    begin = begin // KEYS * KEYS
    edge = sure // KEYS * KEYS
    if WINDOWED:
        # Where the window is narrower than the tile no key is seen by all: only masked walks.
        middle = tl.minimum(tl.cdiv(middle, KEYS), tl.cdiv(end, KEYS)) * KEYS
        edge = tl.maximum(edge, middle)
    return begin, middle, edge, end


@triton.jit
def walk_keys(
    q1,
    q2,
    sum1,
    sum2,
    highest,
    total,
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
    """Add the keys of ``[begin, end)`` to the running maximum, total and weighted sum."""
    place = tl.arange(0, KEYS)
    for start in tl.range(begin, end, KEYS):
        key = start + place
        k1, k2 = fetch_tile(
            k_source1, k_source2, start, k_token_stride, length, MASKED, KEYS, HEAD_DIM, FIRST,
            SECOND, DESCRIBED,
        )  # fmt: skip
        scores = dot_heads(q1, q2, k1, k2, SECOND, PRECISION)
        if MASKED or SOFTCAPPED:
            scores, _ = soften(scores, scale, softcap, SOFTCAPPED)
            if MASKED:
                seen = visible(
                    token[:, None], key[None, :], length, window, is_causal, MASK, WINDOWED
                )
                scores = tl.where(seen, scores, float("-inf"))
            new_highest = tl.maximum(highest, tl.max(scores, 1))
            pivot = new_highest
            if WINDOWED:
                # A row may not have reached its window yet: -inf - -inf would be nan.
                pivot = tl.where(new_highest == float("-inf"), 0.0, new_highest)
            p = tl.exp2(scores - pivot[:, None])
        else:
            # The scale is positive, so it can wait: one fused multiply-add for each score.
            log2_scale = scale * LOG2_E
            new_highest = tl.maximum(highest, tl.max(scores, 1) * log2_scale)
            pivot = new_highest
            p = tl.exp2(scores * log2_scale - pivot[:, None])
        decay = tl.exp2(highest - pivot)
        total = total * decay + tl.sum(p, 1)
        sum1 = sum1 * decay[:, None]
        if SECOND > 0:
            sum2 = sum2 * decay[:, None]
        v1, v2 = fetch_tile(
            v_source1, v_source2, start, v_token_stride, length, MASKED, KEYS, HEAD_DIM, FIRST,
            SECOND, DESCRIBED,
        )  # fmt: skip
        sum1, sum2 = add_dot(p, v1, v2, sum1, sum2, SECOND, PRECISION)
        highest = new_highest
    return sum1, sum2, highest, total


@triton.jit(do_not_specialize=RUNTIME_INTEGERS)
def tiled_forward(
    q,
    k,
    v,
    out,
    log_total,
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
    """``out`` and ``log_total`` [heads, rows] (log2 of the softmax's denominator) of one tile."""
    heads = kv_heads * GROUP
    spare = tl.program_id(0) - work_items * heads
    if spare >= 0:
        width = heads * HEAD_DIM
        zero_tail(out, cu_seqlens, sequences, rows, width, spare, work_items, heads)
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
    k1, k2 = describe_tiles(
        k_base, length, k_strides.token, KEYS, HEAD_DIM, FIRST, SECOND, DESCRIBED
    )
    v1, v2 = describe_tiles(
        v_base, length, v_strides.token, KEYS, HEAD_DIM, FIRST, SECOND, DESCRIBED
    )
    row = tile * ROWS
    place = tl.arange(0, ROWS)
    token = row + place
    valid = token < length
    q1, q2 = fetch_tile(
        q_base, q_base, row, q_strides.token, length, True, ROWS, HEAD_DIM, FIRST, SECOND, False
    )
    sum1 = tl.zeros([ROWS, FIRST], tl.float32)
    sum2 = tl.zeros([ROWS, SECOND if SECOND > 0 else FIRST], tl.float32)
    highest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)

    begin, middle, edge, end = key_range(
        row, length, window, is_causal, ROWS, KEYS, MASK, WINDOWED
    )
    if WINDOWED:
        sum1, sum2, highest, total = walk_keys(
            q1, q2, sum1, sum2, highest, total, k1, k2, v1, v2, k_strides.token, v_strides.token,
            begin, middle, token, length, window, is_causal, scale, softcap,
            True, MASK, WINDOWED, SOFTCAPPED, PRECISION, KEYS, HEAD_DIM, FIRST, SECOND, DESCRIBED,
        )  # fmt: skip
    sum1, sum2, highest, total = walk_keys(
        q1, q2, sum1, sum2, highest, total, k1, k2, v1, v2, k_strides.token, v_strides.token,
        middle, edge, token, length, window, is_causal, scale, softcap,
        False, MASK, WINDOWED, SOFTCAPPED, PRECISION, KEYS, HEAD_DIM, FIRST, SECOND, DESCRIBED,
    )  # fmt: skip
    sum1, sum2, highest, total = walk_keys(
        q1, q2, sum1, sum2, highest, total, k1, k2, v1, v2, k_strides.token, v_strides.token,
        edge, end, token, length, window, is_causal, scale, softcap,
        True, MASK, WINDOWED, SOFTCAPPED, PRECISION, KEYS, HEAD_DIM, FIRST, SECOND, DESCRIBED,
    )  # fmt: skip

    # Rows behind the end may have seen nothing; nothing of them is stored.
    total = tl.where(total > 0.0, total, 1.0)
    share = 1.0 / total
    out_base = out + ((first + row) * heads + head) * HEAD_DIM
    store_tile(
        out_base,
        place * (heads * HEAD_DIM),
        valid,
        sum1 * share[:, None],
        sum2 * share[:, None],
        HEAD_DIM,
        FIRST,
        SECOND,
    )
    log_base = log_total + head.to(tl.int64) * rows + first + row
    tl.store(log_base + place, highest + tl.log2(total), mask=valid)
