"""The kernels of a layer's small operations: RMS norm, SwiGLU, rotary embedding.

None of them multiplies matrices: each reads its inputs once, computes in float32, and writes once.
A norm rounds what it divided to its input's dtype before the weight, and SwiGLU rounds the
activated gate before it multiplies, as transformers' Llama does; everything else is rounded when
it is written. What a row holds stays in its row, nan too.

Arithmetic is written out in float32 and cast by hand, never done on 16-bit values: then Triton's
interpreter can compute bfloat16 too, but that it cuts off where a GPU rounds.

Shapes: N rows of H features, or of heads of head_dim features.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows"])
def norm_forward(
    inputs,
    inputs_row_stride,
    inputs_head_stride,
    added,
    added_row_stride,
    weight,
    sums,
    outputs,
    inverse,
    epsilon,
    rows,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Norms over the last dimension of ``inputs`` [N, HEADS, WIDTH], ``rows`` = N * HEADS of them.

    With ``added`` [N, WIDTH] their sum, rounded, goes to ``sums`` and is what the norm is of.
    ``outputs``, ``inverse`` and ``sums`` are contiguous.
    """
    row, column, inside = _tile(tl.program_id(0), rows, ROWS, BLOCK, WIDTH)
    values = _load(
        inputs + _places(row, inputs_row_stride, inputs_head_stride, HEADS), column, inside
    )
    own = row * WIDTH
    if added is None:
        rounded = inputs.dtype.element_ty
    else:
        rounded = sums.dtype.element_ty
        values += _load(added + row * added_row_stride, column, inside)
        values = values.to(rounded)
        _store(sums + own, column, values, inside)
        values = values.to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, axis=1) / WIDTH + epsilon)
    tl.store(inverse + row, scale, mask=row < rows)
    normed = (values * scale[:, None]).to(rounded).to(tl.float32)
    factor = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    _store(outputs + own, column, normed * factor[None, :], inside)


@triton.jit(do_not_specialize=["rows"])
def norm_backward(
    grad,
    grad_row_stride,
    grad_head_stride,
    inputs,
    inputs_row_stride,
    inputs_head_stride,
    weight,
    inverse,
    added,
    added_row_stride,
    outputs,
    outputs_row_stride,
    outputs_head_stride,
    rows,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The gradient of what a norm was of, plus ``added`` [N, WIDTH] where that is given."""
    row, column, inside = _tile(tl.program_id(0), rows, ROWS, BLOCK, WIDTH)
    values = _load(
        inputs + _places(row, inputs_row_stride, inputs_head_stride, HEADS), column, inside
    )
    passed = _load(grad + _places(row, grad_row_stride, grad_head_stride, HEADS), column, inside)
    passed *= tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :]
    scale = tl.load(inverse + row, mask=row < rows, other=0.0)
    # The part of the gradient along the input is what the division takes out.
    along = tl.sum(passed * values, axis=1) * scale * scale * scale / WIDTH
    result = passed * scale[:, None] - values * along[:, None]
    if added is not None:
        result += _load(added + row * added_row_stride, column, inside)
    target = outputs + _places(row, outputs_row_stride, outputs_head_stride, HEADS)
    _store(target, column, result, inside)


@triton.jit(do_not_specialize=["rows"])
def swiglu_forward(
    gate_up,
    gate_up_row_stride,
    outputs,
    rows,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``silu(gate) * up`` of some rows and columns; ``outputs`` is contiguous.

    Program (i, j) has the rows of tile i and the columns of tile j.
    """
    row, column, inside = _tile(tl.program_id(0), rows, ROWS, BLOCK, WIDTH, tl.program_id(1))
    gate_place = gate_up + row * gate_up_row_stride
    gate = _load(gate_place, column, inside)
    up = _load(gate_place + WIDTH, column, inside)
    activated = (gate * tl.sigmoid(gate)).to(gate_up.dtype.element_ty).to(tl.float32)
    _store(outputs + row * WIDTH, column, activated * up, inside)


@triton.jit(do_not_specialize=["rows"])
def swiglu_backward(
    grad,
    grad_row_stride,
    gate_up,
    gate_up_row_stride,
    rows,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the gradients of gate and up over them; programs as in ``swiglu_forward``."""
    row, column, inside = _tile(tl.program_id(0), rows, ROWS, BLOCK, WIDTH, tl.program_id(1))
    gate_place = gate_up + row * gate_up_row_stride
    passed = _load(grad + row * grad_row_stride, column, inside)
    gate = _load(gate_place, column, inside)
    up = _load(gate_place + WIDTH, column, inside)
    share = tl.sigmoid(gate)
    slope = share * (1.0 + gate * (1.0 - share))
    _store(gate_place, column, passed * up * slope, inside)
    _store(gate_place + WIDTH, column, passed * gate * share, inside)


@triton.jit(do_not_specialize=["rows"])
def rotate(
    queries,
    queries_row_stride,
    queries_head_stride,
    keys,
    keys_row_stride,
    keys_head_stride,
    values,
    values_row_stride,
    values_head_stride,
    cos,
    cos_row_stride,
    sin,
    sin_row_stride,
    queries_out,
    queries_out_row_stride,
    queries_out_head_stride,
    keys_out,
    keys_out_row_stride,
    keys_out_head_stride,
    values_out,
    values_out_row_stride,
    values_out_head_stride,
    rows,
    QUERY_HEADS: tl.constexpr,
    KEY_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    BACK: tl.constexpr,
):
    """Rotate ``ROWS`` heads of queries or of keys, or copy them where they are values.

    The first programs have the heads of all queries, row by row, the next those of the keys, and
    then, where ``values`` are given, theirs. Both halves of ``cos`` and ``sin`` are equal.
    """
    program = tl.program_id(0)
    for_queries, for_keys = tl.cdiv(rows * QUERY_HEADS, ROWS), tl.cdiv(rows * KEY_HEADS, ROWS)
    if program < for_queries:
        head, column, inside = _tile(program, rows * QUERY_HEADS, ROWS, BLOCK, HALF)
        source = queries + _places(head, queries_row_stride, queries_head_stride, QUERY_HEADS)
        target = queries_out
        target += _places(head, queries_out_row_stride, queries_out_head_stride, QUERY_HEADS)
        cosine = _load(cos + head // QUERY_HEADS * cos_row_stride, column, inside)
        sine = _load(sin + head // QUERY_HEADS * sin_row_stride, column, inside)
        _rotate_heads(source, target, cosine, sine, column, inside, HALF, BACK)
    elif program < for_queries + for_keys:
        head, column, inside = _tile(program - for_queries, rows * KEY_HEADS, ROWS, BLOCK, HALF)
        source = keys + _places(head, keys_row_stride, keys_head_stride, KEY_HEADS)
        target = keys_out + _places(head, keys_out_row_stride, keys_out_head_stride, KEY_HEADS)
        cosine = _load(cos + head // KEY_HEADS * cos_row_stride, column, inside)
        sine = _load(sin + head // KEY_HEADS * sin_row_stride, column, inside)
        _rotate_heads(source, target, cosine, sine, column, inside, HALF, BACK)
    elif values is not None:
        program -= for_queries + for_keys
        head, column, inside = _tile(program, rows * KEY_HEADS, ROWS, BLOCK, HALF)
        source = values + _places(head, values_row_stride, values_head_stride, KEY_HEADS)
        target = values_out
        target += _places(head, values_out_row_stride, values_out_head_stride, KEY_HEADS)
        _store(target, column, _load(source, column, inside), inside)
        _store(target + HALF, column, _load(source + HALF, column, inside), inside)


@triton.jit
def _rotate_heads(
    source, target, cosine, sine, column, inside, HALF: tl.constexpr, BACK: tl.constexpr
):
    """(x, y) to (x cos - y sin, y cos + x sin), x and y being the halves of each head."""
    if BACK:
        sine = -sine
    first, second = _load(source, column, inside), _load(source + HALF, column, inside)
    _store(target, column, first * cosine - second * sine, inside)
    _store(target + HALF, column, second * cosine + first * sine, inside)


@triton.jit
def _tile(number, rows, ROWS: tl.constexpr, BLOCK: tl.constexpr, WIDTH: tl.constexpr, part=0):
    """The rows of a tile, the columns of a part, and which of them exist."""
    row = number.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = part * BLOCK + tl.arange(0, BLOCK)
    return row, column, (row[:, None] < rows) & (column[None, :] < WIDTH)


@triton.jit
def _places(row, row_stride, head_stride, HEADS: tl.constexpr):
    """Where rows of [N, HEADS, ...] begin."""
    return row // HEADS * row_stride + row % HEADS * head_stride


@triton.jit
def _load(start, column, inside):
    """[rows, columns] in float32; 0 where there is nothing."""
    return tl.load(start[:, None] + column[None, :], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _store(start, column, values, inside):
    """[rows, columns], rounded to what is there."""
    tl.store(start[:, None] + column[None, :], values, mask=inside)
