"""From chosen tiles to a table: what is left out, and what a table has to hold."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product, zip_longest
from pathlib import Path

from benchmarks.tune.candidates import SINGLE, TILED, make_place, place_of, single_tiles
from lmsl_kernels.flash.tuning import GROUPS, Kernel, Tiles, format_table, parse_table


def tidy(chosen: Iterable[Tiles]) -> list[Tiles]:
    """What of the chosen entries belongs into the table: whatever a call can reach, said once.

    For a group regime S ends where one of its two kernels has no tiles for it; for calls with
    window or softcap that may be sooner. Neighbouring groups with the same tiles share one entry.
    """
    entries = list(chosen)
    kept = [entry for entry in entries if entry.kernel in TILED]
    for head_dim in {entry.head_dim for entry in entries}:
        single = [e for e in entries if e.kernel in SINGLE and e.head_dim == head_dim]
        kept += _tidy_single(single, single_tiles(head_dim))
    return kept


def _tidy_single(entries: Sequence[Tiles], lengths: Iterable[int]) -> Iterator[Tiles]:
    most_plain = most_general = GROUPS[-1]
    for longest in lengths:
        here = [entry for entry in entries if entry.longest == longest]
        general = [entry for entry in here if not entry.plain]
        plain = [*(entry for entry in here if entry.plain), *map(_plain, general)]
        most_plain = min(most_plain, _largest_group(plain))
        most_general = min(most_general, _largest_group(general))
        for kernel in SINGLE:
            for_all = _by_group(general, kernel, most_general)
            yield from _merged(for_all)
            preferred = _by_group(plain, kernel, most_plain)
            if preferred != list(map(_plain, for_all)):
                yield from _merged(preferred)


def _by_group(entries: Sequence[Tiles], kernel: Kernel, most: int) -> list[Tiles]:
    """One entry a group up to ``most``, the first that there is."""
    found = {entry.group: entry for entry in reversed(entries) if entry.kernel == kernel}
    return [found[group] for group in sorted(found) if group <= most]


def _largest_group(entries: Sequence[Tiles]) -> int:
    """The largest that both kernels serve, or 0."""
    served = [max((e.group for e in entries if e.kernel == k), default=0) for k in SINGLE]
    return min(served)


def _merged(ordered: Sequence[Tiles]) -> Iterator[Tiles]:
    """Of neighbours that differ in their group alone the last."""
    for entry, following in zip_longest(ordered, ordered[1:]):
        if following is None or replace(entry, group=following.group) != following:
            yield entry


def _plain(entry: Tiles) -> Tiles:
    return replace(entry, plain=True)


def expand(entries: Iterable[Tiles], place: Tiles) -> list[Tiles]:
    """What a table has for a place, as it was before ``tidy``."""
    serving = [
        replace(entry, group=place.group)
        for entry in sorted(entries, key=lambda entry: entry.group)
        if entry.group >= place.group and place_of(replace(entry, group=place.group)) == place
    ]
    found = {entry.plain: entry for entry in reversed(serving)}
    return [found[plain] for plain in (True, False) if plain in found]


def table_faults(entries: Sequence[Tiles]) -> list[str]:
    """Which calls a table cannot serve as it has to, for the head dims that it has."""
    faults = []
    for head_dim in sorted({entry.head_dim for entry in entries}):
        own = [entry for entry in entries if entry.head_dim == head_dim]
        able = {place_of(entry) for entry in own if not entry.plain}
        faults += [
            f"head_dim {head_dim}: no {kernel} for any tokens"
            for kernel in TILED
            if make_place(kernel, head_dim, 0) not in able
        ]
        single = [entry for entry in own if entry.kernel in SINGLE]
        for plain, group in product((False, True), GROUPS):
            fit = [e for e in single if e.group >= group and (plain or not e.plain)]
            served = [{e.longest for e in fit if e.kernel == kernel} for kernel in SINGLE]
            most = max(served[0] | served[1], default=0)
            wanted = {tile for tile in single_tiles(head_dim) if tile <= most}
            if served != [wanted, wanted]:
                faults.append(f"head_dim {head_dim}: regime S has a hole for group {group}")
    faults += [f"tiles that do not hang together: {describe(e)}" for e in entries if not _sound(e)]
    return faults


def _sound(entry: Tiles) -> bool:
    if entry.kernel in TILED:
        return entry.group == 0
    whole = entry.rows % entry.longest == 0 or entry.longest % entry.rows == 0
    return whole and entry.keys == entry.longest and entry.stack <= entry.group


def describe(entry: Tiles) -> str:
    """One entry for people."""
    words = [entry.kernel, f"head_dim {entry.head_dim}"]
    words.append(f"up to {entry.longest}" if entry.longest else "any length")
    words += [f"group {entry.group}"] if entry.group else []
    words.append(f"{entry.rows}x{entry.keys} {entry.warps} warps {entry.stages} stages")
    words += [name for name in ("swapped", "described", "plain") if getattr(entry, name)]
    return " ".join(words)


def write_table(path: Path, entries: Sequence[Tiles], head_dim: int) -> None:
    """Replace the entries of one head dim in a table; the others stay."""
    old = parse_table(path.read_text()) if path.is_file() else ()
    others = [entry for entry in old if entry.head_dim != head_dim]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(format_table([*others, *entries]))
