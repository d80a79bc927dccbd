"""What all kernels share: where a sequence lies, tiles of it, what sees what, the softcap.

Legend: a *row* is a query token and a *key* a key token, both counted from the start of their
sequence; a tile is ``[tokens, HEAD_DIM]``. A head dim that is no power of two is held in two
parts, ``FIRST`` columns (a power of two) and ``SECOND`` more (another, or 0: then the second part
is a placeholder that no arithmetic touches and the compiler drops). Columns past ``HEAD_DIM`` read
0.

Positions inside a tile are int32; what they are added to is an int64 scalar, so that tensors may
have more than 2**31 elements.
"""

from typing import NamedTuple

import triton
import triton.language as tl

BIDIRECTIONAL = tl.constexpr(0)
CAUSAL = tl.constexpr(1)
# One flag for each sequence, read on the device: runs with different strings share the pack.
MIXED = tl.constexpr(2)

LOG2_E = tl.constexpr(1.4426950408889634)
ZERO_BLOCK = tl.constexpr(1024)


class Strides(NamedTuple):
    """How far apart the sequences (of dense tensors), tokens and heads of a tensor lie.

    A launch takes them as one argument for each tensor. They are numbers of the run: as constants
    they would be compiled anew for every shape.
    """

    batch: int
    token: int
    head: int


@triton.jit
def find_work(
    cu_seqlens,
    work,
    seqlen,
    sequences,
    work_items,
    heads,
    DENSE: tl.constexpr,
    LISTED: tl.constexpr,
    LAST_FIRST: tl.constexpr,
):
    """What a program is for: its head, sequence and tile, and where the sequence lies.

    Heads are the fastest axis of the grid, so that a group shares its keys and values in the
    cache. Items are sequences or, ``LISTED``, (sequence, tile) pairs. Packs have a list of these;
    the tiles of dense calls are counted off, the last and, where causal, the most expensive ones
    first.

    Returns the head, the sequence, the tile, the sequence's first row among all (int64) and its
    length. Nothing is to be done where that is 0, as it is for items without a sequence.
    """
    item = tl.program_id(0) // heads
    head = tl.program_id(0) % heads
    sequence = item
    tile = 0
    if LISTED:
        if DENSE:
            sequence = item % sequences
            tile = item // sequences
            if LAST_FIRST:
                tile = work_items // sequences - 1 - tile
        else:
            sequence = tl.load(work + 2 * item)
            tile = tl.load(work + 2 * item + 1)
    if DENSE:
        first = sequence.to(tl.int64) * seqlen
        length = seqlen
    else:
        exists = sequence >= 0
        start = tl.load(cu_seqlens + sequence, mask=exists, other=0)
        length = tl.load(cu_seqlens + sequence + 1, mask=exists, other=0) - start
        first = start.to(tl.int64)
    return head, sequence, tile, first, length


@triton.jit
def read_flag(flags, sequence, MASK: tl.constexpr):
    """Whether a sequence is causal: a constant unless every sequence has its own flag."""
    return tl.load(flags + sequence) != 0 if MASK == MIXED else MASK == CAUSAL


@triton.jit
def head_base(tensor, strides, sequence, first, head, DENSE: tl.constexpr):
    """A pointer to the first token of one sequence and head."""
    start = sequence.to(tl.int64) * strides.batch if DENSE else first * strides.token
    return tensor + start + head.to(tl.int64) * strides.head


@triton.jit
def load_tile(
    base,
    offsets,
    valid,
    CHECKED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
):
    """Both parts of the tokens at ``base + offsets``; tokens that are not ``valid`` read 0.

    Zeros and not whatever lies there: 0 * nan would be nan in the products that follow.
    """
    column = tl.arange(0, FIRST)
    pointers = base + (offsets[:, None] + column[None, :])
    if SECOND == 0 and HEAD_DIM < FIRST:
        first = tl.load(pointers, mask=valid[:, None] & (column < HEAD_DIM)[None, :], other=0.0)
    elif CHECKED:
        first = tl.load(pointers, mask=valid[:, None], other=0.0)
    else:
        first = tl.load(pointers)
    second = first
    if SECOND > 0:
        column = FIRST + tl.arange(0, SECOND)
        pointers = base + (offsets[:, None] + column[None, :])
        if HEAD_DIM < FIRST + SECOND:
            inside = (column < HEAD_DIM)[None, :]
            second = tl.load(pointers, mask=valid[:, None] & inside, other=0.0)
        elif CHECKED:
            second = tl.load(pointers, mask=valid[:, None], other=0.0)
        else:
            second = tl.load(pointers)
    return first, second


@triton.jit
def describe_tiles(
    base,
    length,
    token_stride,
    TOKENS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    DESCRIBED: tl.constexpr,
):
    """What ``fetch_tile`` reads both parts of a sequence's tiles from, by one of two ways.

    Descriptors let the copy engine of Hopper and later fetch whole tiles, bounds checks included;
    elsewhere it is the plain pointer.
    """
    if DESCRIBED:
        first = tl.make_tensor_descriptor(
            base, shape=[length, HEAD_DIM], strides=[token_stride, 1], block_shape=[TOKENS, FIRST]
        )
        second = first
        if SECOND > 0:
            second = tl.make_tensor_descriptor(
                base + FIRST,
                shape=[length, HEAD_DIM - FIRST],
                strides=[token_stride, 1],
                block_shape=[TOKENS, SECOND],
            )
        return first, second
    else:
        return base, base


@triton.jit
def fetch_tile(
    source1,
    source2,
    start,
    token_stride,
    length,
    CHECKED: tl.constexpr,
    TOKENS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    DESCRIBED: tl.constexpr,
):
    """Both parts of the tokens ``start .. start + TOKENS - 1``; those past ``length`` read 0."""
    if DESCRIBED:
        first = source1.load([start, 0])
        second = first
        if SECOND > 0:
            second = source2.load([start, 0])
    else:
        place = tl.arange(0, TOKENS)
        base = source1 + tl.cast(start, tl.int64) * token_stride
        first, second = load_tile(
            base,
            place * token_stride,
            start + place < length,
            CHECKED,
            HEAD_DIM,
            FIRST,
            SECOND,
        )
    return first, second


@triton.jit
def describe_group(
    base,
    strides,
    length,
    GROUP: tl.constexpr,
    TOKENS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    DESCRIBED: tl.constexpr,
):
    """As ``describe_tiles`` for the query heads of a group, for ``fetch_from_group``."""
    if DESCRIBED:
        first = tl.make_tensor_descriptor(
            base,
            shape=[GROUP, length, HEAD_DIM],
            strides=[strides.head, strides.token, 1],
            block_shape=[1, TOKENS, FIRST],
        )
        second = first
        if SECOND > 0:
            second = tl.make_tensor_descriptor(
                base + FIRST,
                shape=[GROUP, length, HEAD_DIM - FIRST],
                strides=[strides.head, strides.token, 1],
                block_shape=[1, TOKENS, SECOND],
            )
        return first, second
    else:
        return base, base


@triton.jit
def fetch_from_group(
    source1,
    source2,
    strides,
    member,
    start,
    length,
    TOKENS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    DESCRIBED: tl.constexpr,
):
    """As ``fetch_tile`` from one head of a group."""
    if DESCRIBED:
        first = tl.reshape(source1.load([member, start, 0]), [TOKENS, FIRST])
        second = first
        if SECOND > 0:
            second = tl.reshape(source2.load([member, start, 0]), [TOKENS, SECOND])
    else:
        base = source1 + tl.cast(member, tl.int64) * strides.head
        first, second = fetch_tile(
            base, base, start, strides.token, length, True, TOKENS, HEAD_DIM, FIRST, SECOND, False
        )
    return first, second


@triton.jit
def store_tile(
    base,
    offsets,
    valid,
    first,
    second,
    HEAD_DIM: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
):
    """Write both parts of the ``valid`` tokens, rounded to the dtype of the tensor."""
    column = tl.arange(0, FIRST)
    keep = valid[:, None]
    if SECOND == 0 and HEAD_DIM < FIRST:
        keep = keep & (column < HEAD_DIM)[None, :]
    pointers = base + (offsets[:, None] + column[None, :])
    tl.store(pointers, first.to(base.dtype.element_ty), mask=keep)
    if SECOND > 0:
        column = FIRST + tl.arange(0, SECOND)
        keep = valid[:, None] & (column < HEAD_DIM)[None, :]
        pointers = base + (offsets[:, None] + column[None, :])
        tl.store(pointers, second.to(base.dtype.element_ty), mask=keep)


@triton.jit
def dot_heads(a1, a2, b1, b2, SECOND: tl.constexpr, PRECISION: tl.constexpr):
    """``a @ b.T`` over the head dim: [len(a), len(b)] float32."""
    product = tl.dot(a1, tl.trans(b1), input_precision=PRECISION)
    if SECOND > 0:
        product = tl.dot(a2, tl.trans(b2), product, input_precision=PRECISION)
    return product


@triton.jit
def add_dot(weights, b1, b2, sum1, sum2, SECOND: tl.constexpr, PRECISION: tl.constexpr):
    """``sum + weights @ b``, part by part."""
    weights = weights.to(b1.dtype)
    sum1 = tl.dot(weights, b1, sum1, input_precision=PRECISION)
    if SECOND > 0:
        sum2 = tl.dot(weights, b2, sum2, input_precision=PRECISION)
    return sum1, sum2


@triton.jit
def visible(rows, keys, length, window, is_causal, MASK: tl.constexpr, WINDOWED: tl.constexpr):
    """Which rows see which keys, for two vectors shaped to broadcast.

    The specification in one place: keys of this sequence, none ahead of a causal row, none further
    away than the window. What lies behind the last row is not masked: nothing reads it.
    """
    seen = keys < length
    if MASK == CAUSAL:
        seen = seen & (keys <= rows)
    if MASK == MIXED:
        seen = seen & ((keys <= rows) | (is_causal == 0))
    if WINDOWED:
        seen = seen & (rows - keys < window) & (keys - rows < window)
    return seen


@triton.jit
def soften(scores, scale, softcap, SOFTCAPPED: tl.constexpr):
    """Scores in units of log2, and tanh where there is a softcap (else a placeholder).

    ``tanh(x) = 1 - 2 / (exp(2 x) + 1)``: one exp2 and one division, right at both ends.
    """
    if SOFTCAPPED:
        tanh = 1.0 - 2.0 / (tl.exp2(scores * (2.0 * LOG2_E * scale / softcap)) + 1.0)
        softened = tanh * (softcap * LOG2_E)
    else:
        softened = scores * (scale * LOG2_E)
        tanh = softened
    return softened, tanh


@triton.jit
def zero_tail(tensor, cu_seqlens, sequences, rows, row_size, spare, work_items, heads):
    """Program ``spare`` of those behind the last item, who write 0 to rows of no sequence."""
    # Dense tensors have no such rows, and no bounds to read.
    if cu_seqlens is not None:
        end = tl.load(cu_seqlens + sequences).to(tl.int64) * row_size
        stop = rows.to(tl.int64) * row_size
        step = (tl.num_programs(0) - work_items * heads).to(tl.int64) * ZERO_BLOCK
        for start in tl.range(end + spare.to(tl.int64) * ZERO_BLOCK, stop, step):
            place = start + tl.arange(0, ZERO_BLOCK)
            zeros = tl.zeros([ZERO_BLOCK], tensor.dtype.element_ty)
            tl.store(tensor + place, zeros, mask=place < stop)
