"""What is done to fit a training into memory: runs at once, and layers that are recomputed.

Keeping activations is faster by the time of a forward, so as few layers as memory asks for do
without: the first ones of the decoder, each for the size of its input. The bits are the same
either way, since dropout is counted and not drawn. A stack of R runs needs R times what one does
beside the frozen weights, which they share.
"""

from dataclasses import replace

import torch

from lmsl.config.choices import Checkpointing
from lmsl.device import mib, usable_memory
from lmsl.tagger.tagger import Tagger
from lmsl.training.memory import Memory


def choose_recomputed(
    tagger: Tagger, choice: Checkpointing, expected: Memory, device: torch.device
) -> tuple[Memory, str]:
    """Set what the tagger recomputes; the memory it takes then, and the words for the choice.

    Args:
        choice: of ``--checkpointing``.
        expected: with nothing recomputed, weights and adapters being on the device already.
    """
    if choice == "no":
        return expected, "activations: kept (--checkpointing no)"
    if choice == "yes":
        tagger.recompute(tagger.depth)
        return replace(expected, recomputed=tagger.depth), (
            f"activations: recomputed in all {tagger.depth} layers (--checkpointing yes)"
        )
    room = usable_memory(device) - expected.to_come
    count = least_recomputed(expected, room)
    if count and tagger.block is None:
        # transformers' own forward knows all or nothing.
        count = tagger.depth
    tagger.recompute(count)
    needed = f"{mib(expected.activations)} for {mib(max(0, room))}"
    how = f"recomputed in {count} of {tagger.depth} layers" if count else "kept"
    return replace(expected, recomputed=count), (
        f"activations: {how} (--checkpointing auto: {needed} to use)"
    )


def least_recomputed(expected: Memory, room: int) -> int:
    """How many layers have to be recomputed for a backward that fits into ``room`` bytes.

    All of them where even that does not fit: the device will say so.
    """
    for count in range(expected.layers):
        if replace(expected, recomputed=count).activations <= room:
            return count
    return expected.layers


def runs_at_once(expected: Memory, runs: int, device: torch.device) -> tuple[int, str]:
    """How many of so many runs fit into memory together, and the words for it.

    Args:
        expected: of one of them.
    """
    room = usable_memory(device)
    size = min(runs, max(1, room // max(1, expected.of_runs)))
    return size, (
        f"--stack auto: a run needs {mib(expected.of_runs)} beside the base, {mib(room)} are "
        f"there to use: {size} at once"
    )
