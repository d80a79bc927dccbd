"""Regime S, where sentences live: a whole sequence in one tile, one launch forward, one backward.

A program owns one sequence and one kv head. The query heads that read this kv head are stacked on
each other, ``row = head_in_group * TILE + token``, so keys and values are loaded once and the
matrix products over the rows do the sum over the group that dk and dv need. The stack is worked
off in turns of ``ROWS`` rows: all of it at once, some heads, or a part of one.

Because every row of the scores is on chip, softmax is the plain one, the backward recomputes it
exactly (the forward stores no statistics) and takes ``delta = rowsum(p * dp)`` from registers.
Nothing is added up across programs, so results repeat bit for bit.
"""

import triton
import triton.language as tl

from lmsl_kernels.flash.tiles import (
    add_dot,
    dot_heads,
    find_work,
    head_base,
    load_tile,
    read_flag,
    soften,
    store_tile,
    visible,
    zero_tail,
)

RUNTIME_INTEGERS = ("window", "seqlen", "sequences", "rows")


@triton.jit
def stacked_rows(turn, ROWS: tl.constexpr, TILE: tl.constexpr):
    """Head in the group and token of the rows ``turn .. turn + ROWS - 1`` of the stack."""
    row = tl.arange(0, ROWS)
    if ROWS < TILE:
        # ROWS divides TILE, so a turn has rows of one head alone.
        member = turn // TILE + tl.zeros([ROWS], tl.int32)
        token = turn % TILE + row
    else:
        member = turn // TILE + row // TILE
        token = row % TILE
    return member, token


@triton.jit
def row_softmax(scores, seen):
    """Softmax of each row over the keys it sees, in base 2; every row sees at least one."""
    scores = tl.where(seen, scores, float("-inf"))
    weights = tl.exp2(scores - tl.max(scores, 1)[:, None])
    return weights / tl.sum(weights, 1)[:, None]


@triton.jit(do_not_specialize=RUNTIME_INTEGERS)
def single_forward(
    q,
    k,
    v,
    out,
    cu_seqlens,
    flags,
    scale,
    softcap,
    window,
    seqlen,
    sequences,
    rows,
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
    TILE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
):
    """``out`` of one sequence and kv head; programs past the last sequence zero the tail."""
    heads = kv_heads * GROUP
    spare = tl.program_id(0) - sequences * kv_heads
    if spare >= 0:
        width = heads * HEAD_DIM
        zero_tail(out, cu_seqlens, sequences, rows, width, spare, sequences, kv_heads)
        return
    kv_head, sequence, _tile, first, length = find_work(
        cu_seqlens, None, seqlen, sequences, sequences, kv_heads, DENSE, False, False
    )
    if length == 0:
        return
    is_causal = read_flag(flags, sequence, MASK)
    key = tl.arange(0, TILE)
    is_key = key < length
    k_base = head_base(k, k_strides, sequence, first, kv_head, DENSE)
    v_base = head_base(v, v_strides, sequence, first, kv_head, DENSE)
    k1, k2 = load_tile(k_base, key * k_strides.token, is_key, True, HEAD_DIM, FIRST, SECOND)
    v1, v2 = load_tile(v_base, key * v_strides.token, is_key, True, HEAD_DIM, FIRST, SECOND)

    group_head = kv_head * GROUP
    q_base = head_base(q, q_strides, sequence, first, group_head, DENSE)
    out_base = out + (first * heads + group_head) * HEAD_DIM
    for turn in tl.range(0, GROUP * TILE, ROWS, num_stages=1):
        member, token = stacked_rows(turn, ROWS, TILE)
        valid = (token < length) & (member < GROUP)
        q_offset = token * q_strides.token + member * q_strides.head
        q1, q2 = load_tile(q_base, q_offset, valid, True, HEAD_DIM, FIRST, SECOND)
        scores = dot_heads(q1, q2, k1, k2, SECOND, PRECISION)
        softened, _ = soften(scores, scale, softcap, SOFTCAPPED)
        # Rows behind the end see what the last row sees: with nothing to see they would be nan.
        place = tl.minimum(token, length - 1)
        seen = visible(place[:, None], key[None, :], length, window, is_causal, MASK, WINDOWED)
        p = row_softmax(softened, seen)
        sum1 = tl.zeros([ROWS, FIRST], tl.float32)
        sum2 = tl.zeros([ROWS, SECOND if SECOND > 0 else FIRST], tl.float32)
        sum1, sum2 = add_dot(p, v1, v2, sum1, sum2, SECOND, PRECISION)
        out_offset = (token * heads + member) * HEAD_DIM
        store_tile(out_base, out_offset, valid, sum1, sum2, HEAD_DIM, FIRST, SECOND)


@triton.jit
def add_over_rows(
    weights,
    b1,
    b2,
    sum1,
    sum2,
    SWAPPED: tl.constexpr,
    SECOND: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """``sum + weights.T @ b`` with the sum held as [keys, head_dim], or swapped.

    Swapped, the head dim becomes the long side of the product, which Hopper's wgmma wants.
    """
    weights = weights.to(b1.dtype)
    if SWAPPED:
        sum1 = tl.dot(tl.trans(b1), weights, sum1, input_precision=PRECISION)
        if SECOND > 0:
            sum2 = tl.dot(tl.trans(b2), weights, sum2, input_precision=PRECISION)
    else:
        sum1 = tl.dot(tl.trans(weights), b1, sum1, input_precision=PRECISION)
        if SECOND > 0:
            sum2 = tl.dot(tl.trans(weights), b2, sum2, input_precision=PRECISION)
    return sum1, sum2


@triton.jit
def key_sums(TILE: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr, SWAPPED: tl.constexpr):
    """Zeros for ``add_over_rows`` to add to."""
    LAST: tl.constexpr = SECOND if SECOND > 0 else FIRST
    if SWAPPED:
        sum1 = tl.zeros([FIRST, TILE], tl.float32)
        sum2 = tl.zeros([LAST, TILE], tl.float32)
    else:
        sum1 = tl.zeros([TILE, FIRST], tl.float32)
        sum2 = tl.zeros([TILE, LAST], tl.float32)
    return sum1, sum2


@triton.jit(do_not_specialize=RUNTIME_INTEGERS)
def single_backward(
    q,
    k,
    v,
    dout,
    dq,
    dk,
    dv,
    cu_seqlens,
    flags,
    scale,
    softcap,
    window,
    seqlen,
    sequences,
    rows,
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
    TILE: tl.constexpr,
    SWAPPED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
):
    """``dq``, ``dk`` and ``dv`` of one sequence and kv head; spare programs zero the tails."""
    heads = kv_heads * GROUP
    spare = tl.program_id(0) - sequences * kv_heads
    if spare >= 0:
        width = kv_heads * HEAD_DIM
        zero_tail(dq, cu_seqlens, sequences, rows, width * GROUP, spare, sequences, kv_heads)
        zero_tail(dk, cu_seqlens, sequences, rows, width, spare, sequences, kv_heads)
        zero_tail(dv, cu_seqlens, sequences, rows, width, spare, sequences, kv_heads)
        return
    kv_head, sequence, _tile, first, length = find_work(
        cu_seqlens, None, seqlen, sequences, sequences, kv_heads, DENSE, False, False
    )
    if length == 0:
        return
    is_causal = read_flag(flags, sequence, MASK)
    key = tl.arange(0, TILE)
    is_key = key < length
    k_base = head_base(k, k_strides, sequence, first, kv_head, DENSE)
    v_base = head_base(v, v_strides, sequence, first, kv_head, DENSE)
    k1, k2 = load_tile(k_base, key * k_strides.token, is_key, True, HEAD_DIM, FIRST, SECOND)
    v1, v2 = load_tile(v_base, key * v_strides.token, is_key, True, HEAD_DIM, FIRST, SECOND)
    dk1, dk2 = key_sums(TILE, FIRST, SECOND, SWAPPED)
    dv1, dv2 = key_sums(TILE, FIRST, SECOND, SWAPPED)

    group_head = kv_head * GROUP
    q_base = head_base(q, q_strides, sequence, first, group_head, DENSE)
    dout_base = head_base(dout, dout_strides, sequence, first, group_head, DENSE)
    dq_base = dq + (first * heads + group_head) * HEAD_DIM
    for turn in tl.range(0, GROUP * TILE, ROWS, num_stages=1):
        member, token = stacked_rows(turn, ROWS, TILE)
        valid = (token < length) & (member < GROUP)
        q_offset = token * q_strides.token + member * q_strides.head
        q1, q2 = load_tile(q_base, q_offset, valid, True, HEAD_DIM, FIRST, SECOND)
        dout_offset = token * dout_strides.token + member * dout_strides.head
        dout1, dout2 = load_tile(dout_base, dout_offset, valid, True, HEAD_DIM, FIRST, SECOND)
        scores = dot_heads(q1, q2, k1, k2, SECOND, PRECISION)
        softened, tanh = soften(scores, scale, softcap, SOFTCAPPED)
        # Rows behind the end see what the last row sees: with nothing to see they would be nan.
        place = tl.minimum(token, length - 1)
        seen = visible(place[:, None], key[None, :], length, window, is_causal, MASK, WINDOWED)
        p = row_softmax(softened, seen)
        dv1, dv2 = add_over_rows(p, dout1, dout2, dv1, dv2, SWAPPED, SECOND, PRECISION)
        dp = dot_heads(dout1, dout2, v1, v2, SECOND, PRECISION)
        ds = p * (dp - tl.sum(p * dp, 1)[:, None])
        if SOFTCAPPED:
            ds = ds * (1.0 - tanh * tanh)
        dk1, dk2 = add_over_rows(ds, q1, q2, dk1, dk2, SWAPPED, SECOND, PRECISION)
        dq1 = tl.zeros([ROWS, FIRST], tl.float32)
        dq2 = tl.zeros([ROWS, SECOND if SECOND > 0 else FIRST], tl.float32)
        dq1, dq2 = add_dot(ds, k1, k2, dq1, dq2, SECOND, PRECISION)
        dq_offset = (token * heads + member) * HEAD_DIM
        store_tile(dq_base, dq_offset, valid, dq1 * scale, dq2 * scale, HEAD_DIM, FIRST, SECOND)

    if SWAPPED:
        dk1, dk2, dv1, dv2 = tl.trans(dk1), tl.trans(dk2), tl.trans(dv1), tl.trans(dv2)
    start = (first * kv_heads + kv_head) * HEAD_DIM
    key_offset = key * (kv_heads * HEAD_DIM)
    store_tile(dk + start, key_offset, is_key, dk1 * scale, dk2 * scale, HEAD_DIM, FIRST, SECOND)
    store_tile(dv + start, key_offset, is_key, dv1, dv2, HEAD_DIM, FIRST, SECOND)
