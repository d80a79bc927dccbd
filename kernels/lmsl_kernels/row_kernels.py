"""The kernels of a layer's small operations: RMS norm, SwiGLU, rotary embedding.

None of them multiplies matrices: each reads its inputs once, computes in float32, and writes once.
A norm rounds what it divided to the dtype of its input before the weight, and SwiGLU rounds the
activated gate before it multiplies, as transformers' Llama does; everything else is rounded when
it is written. What a row holds stays in its row, nan too.

Arithmetic is written out in float32 and cast by hand, never done on 16-bit values: then Triton's
interpreter computes bfloat16 as a GPU does.

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
    row, column, inside = _tile(rows, ROWS, BLOCK, WIDTH)
    values = _load(
        inputs + _places(row, inputs_row_stride, inputs_head_stride, HEADS), column, inside
    )
    own = row[:, None] * WIDTH + column[None, :]
    if added is None:
        rounded = inputs.dtype.element_ty
    else:
        rounded = sums.dtype.element_ty
        values += _load(added + row * added_row_stride, column, inside)
        values = values.to(rounded)
        tl.store(sums + own, values, mask=inside)
        values = values.to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, axis=1) / WIDTH + epsilon)
    tl.store(inverse + row, scale, mask=row < rows)
    normed = (values * scale[:, None]).to(rounded).to(tl.float32)
    factor = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    tl.store(outputs + own, normed * factor[None, :], mask=inside)


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
    row, column, inside = _tile(rows, ROWS, BLOCK, WIDTH)
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
    tl.store(target[:, None] + column[None, :], result, mask=inside)


@triton.jit
def swiglu_forward(gate_up, gate_up_row_stride, outputs, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """``silu(gate) * up`` of one row's columns; program (row, part). ``outputs`` is contiguous."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < WIDTH
    gate_place = gate_up + row * gate_up_row_stride + column
    gate = tl.load(gate_place, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_place + WIDTH, mask=inside, other=0.0).to(tl.float32)
    activated = (gate * tl.sigmoid(gate)).to(gate_up.dtype.element_ty).to(tl.float32)
    tl.store(outputs + row * WIDTH + column, activated * up, mask=inside)


@triton.jit
def swiglu_backward(
    grad,
    grad_row_stride,
    gate_up,
    gate_up_row_stride,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the gradients of gate and up over them; program (row, part)."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < WIDTH
    gate_place = gate_up + row * gate_up_row_stride + column
    passed = tl.load(grad + row * grad_row_stride + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(gate_place, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_place + WIDTH, mask=inside, other=0.0).to(tl.float32)
    share = tl.sigmoid(gate)
    slope = share * (1.0 + gate * (1.0 - share))
    tl.store(gate_place, passed * up * slope, mask=inside)
    tl.store(gate_place + WIDTH, passed * gate * share, mask=inside)


@triton.jit
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
    QUERY_HEADS: tl.constexpr,
    KEY_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    HEADS: tl.constexpr,
    BLOCK: tl.constexpr,
    BACK: tl.constexpr,
):
    """Rotate some heads of one row, or copy them where they are values.

    Program (row, part): parts of ``HEADS`` heads of the queries come first, then those of the
    keys, then, where ``values`` are given, theirs. Both halves of ``cos`` and ``sin`` are equal.
    """
    QUERY_PARTS: tl.constexpr = (QUERY_HEADS + HEADS - 1) // HEADS
    KEY_PARTS: tl.constexpr = (KEY_HEADS + HEADS - 1) // HEADS
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    column = tl.arange(0, BLOCK)
    cosine = tl.load(cos + row * cos_row_stride + column, mask=column < HALF, other=0.0)
    sine = tl.load(sin + row * sin_row_stride + column, mask=column < HALF, other=0.0)
    cosine, sine = cosine.to(tl.float32), sine.to(tl.float32)
    if BACK:
        sine = -sine
    if part < QUERY_PARTS:
        head = part * HEADS + tl.arange(0, HEADS)
        source = _heads(queries, row, queries_row_stride, head, queries_head_stride)
        target = _heads(queries_out, row, queries_out_row_stride, head, queries_out_head_stride)
        _rotate_heads(source, target, cosine, sine, head < QUERY_HEADS, HALF, BLOCK)
    elif part < QUERY_PARTS + KEY_PARTS:
        head = (part - QUERY_PARTS) * HEADS + tl.arange(0, HEADS)
        source = _heads(keys, row, keys_row_stride, head, keys_head_stride)
        target = _heads(keys_out, row, keys_out_row_stride, head, keys_out_head_stride)
        _rotate_heads(source, target, cosine, sine, head < KEY_HEADS, HALF, BLOCK)
    elif values is not None:
        head = (part - QUERY_PARTS - KEY_PARTS) * HEADS + tl.arange(0, HEADS)
        source = _heads(values, row, values_row_stride, head, values_head_stride)
        target = _heads(values_out, row, values_out_row_stride, head, values_out_head_stride)
        _copy_heads(source, target, head < KEY_HEADS, HALF, BLOCK)


@triton.jit
def _heads(start, row, row_stride, head, head_stride):
    """Where heads of a row begin."""
    return start + row * row_stride + head.to(tl.int64) * head_stride


@triton.jit
def _rotate_heads(source, target, cosine, sine, known, HALF: tl.constexpr, BLOCK: tl.constexpr):
    """(x, y) to (x cos - y sin, y cos + x sin), x and y being the halves of each head."""
    column = tl.arange(0, BLOCK)
    inside = known[:, None] & (column[None, :] < HALF)
    source, target = source[:, None] + column[None, :], target[:, None] + column[None, :]
    first = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(source + HALF, mask=inside, other=0.0).to(tl.float32)
    cosine, sine = cosine[None, :], sine[None, :]
    tl.store(target, first * cosine - second * sine, mask=inside)
    tl.store(target + HALF, second * cosine + first * sine, mask=inside)


@triton.jit
def _copy_heads(source, target, known, HALF: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    inside = known[:, None] & (column[None, :] < HALF)
    source, target = source[:, None] + column[None, :], target[:, None] + column[None, :]
    first = tl.load(source, mask=inside, other=0.0)
    second = tl.load(source + HALF, mask=inside, other=0.0)
    tl.store(target, first, mask=inside)
    tl.store(target + HALF, second, mask=inside)


@triton.jit
def _tile(rows, ROWS: tl.constexpr, BLOCK: tl.constexpr, WIDTH: tl.constexpr):
    """The rows and columns of a program of a norm, and which of them exist."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    return row, column, (row[:, None] < rows) & (column[None, :] < WIDTH)


@triton.jit
def _places(row, row_stride, head_stride, HEADS: tl.constexpr):
    """Where rows of [N, HEADS, ...] begin."""
    return row // HEADS * row_stride + row % HEADS * head_stride


@triton.jit
def _load(start, column, inside):
    """[rows, columns] in float32; 0 where there is nothing."""
    return tl.load(start[:, None] + column[None, :], mask=inside, other=0.0).to(tl.float32)
