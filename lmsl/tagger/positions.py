"""Whether a model has a position for every sub-word of what it is to read.

Copies of a sentence, or long windows, may need more of them than there are. Behind the end of a
table of positions lies nothing. A model that turns queries and keys by their distance computes on,
at distances that it was not made for.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from torch import nn

from lmsl.errors import InputError
from lmsl.packs.examples import Examples, Text


def check_positions(
    model: nn.Module, sentences: Sequence[Text], examples: Examples, repeat: int
) -> list[str]:
    """Compare the longest example with what the model has; a line for people where it is longer.

    Args:
        sentences: what the examples were built of.
        repeat: extra copies in them.

    Raises:
        InputError: it is longer, and positions are a table.
    """
    config: Any = model.config
    most = getattr(config.get_text_config(), "max_position_embeddings", None)
    longest = max(examples.examples, key=lambda one: len(one.ids), default=None)
    if not isinstance(most, int) or longest is None:
        return []
    table = _has_table(model, most)
    most -= first_position(model)
    if len(longest.ids) <= most:
        return []
    where = sentences[longest.sentence].where or f"sentence {longest.sentence + 1}"
    copies = f" of {repeat + 1} copies" if repeat else ""
    if table:
        raise InputError(
            f"{where}: expected at most {most:,} sub-words, for which the model has positions, "
            f"got {len(longest.ids):,}{copies}; lower --max-length{' or --repeat' * bool(repeat)}"
        )
    return [
        f"{where}: {len(longest.ids):,} sub-words{copies}; the model was made for sequences of "
        f"at most {most:,}"
    ]


def _has_table(model: nn.Module, rows: int) -> bool:
    """Whether a matrix of at least so many rows is looked up by position.

    Learned ones are called so (``wpe`` in GPT-2's kin), and so are the angles that GPT-J keeps.
    """
    named = chain(model.named_parameters(), model.named_buffers())
    return any(
        ("position" in name or "wpe" in name) and tensor.ndim == 2 and len(tensor) >= rows
        for name, tensor in named
    )


def first_position(model: nn.Module) -> int:
    """Where the positions of a text begin: behind that of filling in RoBERTa's kin."""
    embeddings: Any = getattr(model, "embeddings", None)
    shifted = hasattr(embeddings, "create_position_ids_from_input_ids")
    return int(embeddings.padding_idx) + 1 if shifted else 0
