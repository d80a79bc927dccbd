"""Which tiles to try for a table entry, best guess first.

The order follows what is known of the hardware; the compiler then has the last word on what fits.
What carries it:

- Regime S stacks the query heads of a group on the rows, up to 256 of them: keys and values are
  loaded once and the matrix units see long tiles. From 128 rows on 8 warps share the work.
- Hopper and Blackwell multiply tiles of 64 rows and take operands from 227 KB of shared memory, so
  tiles may be large, and the sums over the rows are held swapped, the head dim as their long side.
- Ampere, Ada and consumer Blackwell (99 KB, 163 KB on A100) hold operands in registers: smaller
  tiles, never swapped (where both spill, swapped ones spill ten times as much).
- M, medium sequences, takes tiles of 64 rows: more programs, less waste at the ends. L takes the
  largest that compile; without descriptors on Hopper and later, where calls rarely go, those of M.

Every key costs compilations, so there are more where more models are: head dims 64, 128 and 256
have entries for more groups, for sentences up to 16 and up to 128 tokens (where head dim 80 spills
on Hopper), and for long sequences apart.
"""

from collections.abc import Iterator
from dataclasses import replace

from lmsl_kernels.flash.tuning import GROUPS, HEAD_DIMS, MEDIUM, SINGLE_TILES, Kernel, Tiles

# With operands in shared memory, and without (256 rows spill on sm_80 wherever 32 keys meet them).
MOST_ROWS = {True: 256, False: 128}
# Fewer in a turn would load keys and values from shared memory too often.
FEWEST_ROWS = 32
# Of one thread.
REGISTERS = 256
# Of dk, and of dv: with more they would take all registers of 8 warps, or, beside operands in
# registers, too many of them.
MOST_SUMS = {True: 128 * 128, False: 128 * 64}
# With operands in shared memory; they have descriptors too.
LARGE = ("sm_90", "sm_100")
# Head dims of most decoders.
COMMON = (64, 128, 256)
TILED: tuple[Kernel, ...] = ("tiled_forward", "backward_rows", "backward_keys")
SINGLE: tuple[Kernel, ...] = ("single_forward", "single_backward")

# Rows, keys, warps, stages.
Shape = tuple[int, int, int, int]
# Appended to every list of regimes M and L, until something fits.
SMALL_SHAPES: tuple[Shape, ...] = (
    (64, 32, 8, 2),
    (64, 32, 4, 2),
    (32, 32, 8, 2),
    (32, 32, 4, 2),
    (32, 32, 4, 1),
    (16, 32, 4, 1),
    (16, 16, 4, 1),
)


def place_of(entry: Tiles) -> Tiles:
    """What an entry is looked up by: the entry without its tiles."""
    return replace(entry, rows=0, keys=0, warps=0, stages=0, plain=False, swapped=False)


def make_place(
    kernel: Kernel, head_dim: int, longest: int, group: int = 0, *, described: bool = False
) -> Tiles:
    """A place that a table has entries for: one for all calls, maybe one for plain ones."""
    return Tiles(
        kernel=kernel, head_dim=head_dim, longest=longest, group=group, described=described
    )


def single_tiles(head_dim: int, architecture: str = LARGE[0]) -> tuple[int, ...]:
    """The tiles of regime S that a table may have for a head dim, the smallest first."""
    if head_dim not in COMMON:
        return SINGLE_TILES[1:3]
    most = MOST_SUMS[architecture in LARGE]
    return tuple(tile for tile in SINGLE_TILES if tile * head_dim <= most)


def groups_of(architecture: str, head_dim: int) -> tuple[int, ...]:
    """The groups that regime S has entries for; the others are served by the next."""
    return GROUPS if architecture == "sm_90" and head_dim in COMMON else (1, 4, 8)


def places_of_table(architecture: str) -> Iterator[Tiles]:
    """All places that a table may have."""
    for head_dim in HEAD_DIMS:
        groups = groups_of(architecture, head_dim)
        for longest in single_tiles(head_dim, architecture):
            for kernel in SINGLE:
                yield from (make_place(kernel, head_dim, longest, group) for group in groups)
        for kernel in TILED:
            yield make_place(kernel, head_dim, MEDIUM)
            yield make_place(kernel, head_dim, 0)
            if architecture in LARGE:
                yield make_place(kernel, head_dim, 0, described=True)


def candidates(architecture: str, place: Tiles) -> list[Tiles]:
    """Tiles for one place, the preferred first."""
    if place.kernel in SINGLE:
        return list(_single(architecture, place))
    shapes = dict.fromkeys((*_tiled_shapes(architecture, place), *SMALL_SHAPES))
    return [
        replace(place, rows=rows, keys=keys, warps=warps, stages=stages)
        for rows, keys, warps, stages in shapes
    ]


def _single(architecture: str, place: Tiles) -> Iterator[Tiles]:
    # Swapped, the long side of dk and dv is the head dim, which should not be the shorter one.
    orders: tuple[bool, ...] = (False,)
    if place.kernel == "single_backward" and architecture in LARGE:
        orders = (True, False) if place.head_dim >= place.longest else (False, True)
    rows = min(place.group * place.longest, MOST_ROWS[architecture in LARGE])
    while rows >= min(place.longest, FEWEST_ROWS):
        # 64 rows spill more than 128, and more than 32, on every architecture tried.
        hopeless = place.kernel == "single_backward" and (rows, place.longest) == (64, 128)
        for swapped in () if hopeless else orders:
            for warps in _warps(place, rows):
                shape = replace(place, rows=rows, keys=place.longest, warps=warps, stages=1)
                yield replace(shape, swapped=swapped)
        rows //= 2


def _warps(place: Tiles, rows: int) -> list[int]:
    """Numbers of warps whose registers can hold at least what a turn adds up, and its scores."""
    if place.kernel == "single_backward":
        numbers = 2 * place.longest * place.head_dim + 2 * rows * place.longest
    else:
        numbers = rows * place.head_dim + rows * place.longest
    longer = max(rows, place.longest)
    order = (8, 4) if longer >= 128 else (4, 8) if longer == 64 else (4, 2)
    return [warps for warps in order if numbers <= REGISTERS * 32 * warps]


def _tiled_shapes(architecture: str, place: Tiles) -> tuple[Shape, ...]:
    kernel, head_dim = place.kernel, place.head_dim
    medium = place.longest > 0 or (architecture in LARGE and not place.described)
    medium = medium or not (architecture in LARGE or head_dim in COMMON)
    if kernel == "tiled_forward":
        return _forward_shapes(architecture, head_dim, medium)
    if kernel == "backward_rows":
        if head_dim > 128:
            return ((64, 64, 8, 2),)
        small = ((64, 64, 4, 2), (64, 64, 8, 2))
        return small if medium else ((128, 64, 8, 2), *small)
    if head_dim > 128:
        # Tiles of 64 keys spill on every architecture.
        return ()
    if medium:
        return ((64, 64, 4, 2), (64, 64, 8, 2), (32, 64, 8, 2), (32, 64, 4, 2))
    return ((64, 128, 8, 2), (32, 128, 8, 2), (64, 64, 8, 2), (32, 64, 8, 2), (32, 64, 4, 2))


def _forward_shapes(architecture: str, head_dim: int, medium: bool) -> tuple[Shape, ...]:
    large = architecture in LARGE
    if medium:
        if head_dim > 128:
            return ((64, 64, 4, 2), (64, 64, 8, 2))
        if large or head_dim <= 64:
            return ((64, 64, 4, 3), (64, 64, 4, 2), (64, 64, 8, 2))
        return ((64, 64, 4, 2), (64, 64, 8, 2))
    if head_dim > 128:
        return ((128, 64, 8, 2), (128, 32, 8, 2), (64, 64, 8, 2), (64, 64, 4, 2))
    if head_dim <= 64:
        return ((128, 128, 8, 3), (128, 64, 8, 3), (128, 64, 4, 2), (64, 64, 4, 2))
    first = ((128, 128, 8, 2), (128, 64, 8, 3)) if large else ((128, 64, 8, 3), (128, 64, 8, 2))
    return (*first, (128, 32, 8, 2), (64, 64, 4, 2))
