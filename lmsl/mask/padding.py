"""Padded batches as packs: what transformers' mask argument becomes under ``lmsl`` attention.

transformers builds its mask once per forward and layer type and hands it to every layer untouched.
Instead of a mask this module returns a ``Padding``: which rows are real tokens and which sentences
they form, found once, used by all layers. Which operator runs them is not its business.

What counts as a sentence: with a [batch, seqlen] mask, the real tokens of a row, wherever the
padding stands. Without one, a row, or each run of a row where ``position_ids`` start again, where
transformers finds that. It does not look under a mask or beside a cache (``use_cache`` left on),
where sentences would see each other; position ids that start again there are refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lmsl.errors import InputError


@dataclass(frozen=True, eq=False, kw_only=True)
class Padding:
    """The real tokens of a padded batch and the sentences they form."""

    given: bool
    """Whether the caller passed a mask."""
    window: int | None
    """The sliding window that transformers wanted in this mask."""
    rows: Tensor | None = None
    """int64 [tokens]: the real tokens in the flattened batch, ``None`` when all are real and each
    row of the batch is one sentence."""
    lengths: tuple[int, ...] = ()
    """Tokens of each sentence among ``rows``."""
    positions_seen: list[Tensor] = field(default_factory=list)
    """The position ids checked so far, so that only the first layer of a forward checks them."""

    def check(self, window: int | None, position_ids: Tensor | None) -> None:
        """Raise where mask and layer disagree, or where packed sentences would go unnoticed."""
        if window != self.window:
            raise InputError(
                f"sliding_window: the model's mask says {self.window}, its layer {window}; "
                "lmsl attention cannot tell which one holds"
            )
        found_by_transformers = not self.given and self.rows is not None
        if found_by_transformers or self.positions_seen or position_ids is None:
            return
        self.positions_seen.append(position_ids)
        if position_ids.dim() != 2 or position_ids.is_meta:
            return
        if self._restarts(position_ids):
            raise InputError(
                "position_ids: expected them to rise within the real tokens of a row, got a "
                "restart; for sentences packed into a row pass packed=, or no attention_mask "
                "and use_cache=False"
            )

    def _restarts(self, position_ids: Tensor) -> bool:
        if self.rows is None:
            return bool((position_ids.diff(dim=-1) <= 0).any())
        batch = len(self.lengths)
        positions = position_ids.expand(batch, -1).flatten().index_select(0, self.rows)
        return any(
            bool((sentence.diff() <= 0).any()) for sentence in positions.cpu().split(self.lengths)
        )


def unpad(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] | None = None,
    attention_mask: Tensor | None = None,
    *,
    allow_is_causal_skip: bool = False,
    allow_is_bidirectional_skip: bool | None = None,
    use_vmap: bool = False,
    local_size: int | None = None,
    device: torch.device | str | None = None,
    **others: Any,
) -> Padding:
    """What transformers calls to build a mask; ``others`` concern masks of other kinds."""
    if q_length != kv_length or kv_offset:
        raise InputError(
            f"past_key_values: expected none, got {kv_length} keys for {q_length} queries; a KV "
            "cache cannot serve layers that see to the right: pass whole sentences with "
            "use_cache=False (and do not generate)"
        )
    if use_vmap:
        raise InputError(
            "attention_mask: this model adds a mask rule of its own (an and/or mask function), "
            "which lmsl attention does not know"
        )
    if local_size is not None and allow_is_bidirectional_skip is not None:
        # transformers says it in masks of encoders alone, whose windows include their last token.
        local_size += 1
    if attention_mask is not None:
        return _from_mask(attention_mask.bool(), local_size)
    # transformers allows the skip exactly when its mask is plain: no packed positions found.
    if allow_is_causal_skip or mask_function is None:
        return Padding(given=False, window=local_size)
    return _from_rule(mask_function, batch_size, q_length, local_size, device)


def _from_mask(mask: Tensor, window: int | None) -> Padding:
    lengths = mask.sum(dim=-1).tolist()
    if all(length == mask.shape[1] for length in lengths):
        return Padding(given=True, window=window)
    rows = torch.nonzero(mask.flatten()).flatten()
    return Padding(given=True, window=window, rows=rows, lengths=tuple(lengths))


def _from_rule(
    mask_function: Callable[..., Any],
    batch_size: int,
    length: int,
    window: int | None,
    device: torch.device | str | None,
) -> Padding:
    """Sentences packed into rows: a token that may not see the one before it starts a sentence.

    This asks transformers' own rule, so it finds the sentences that transformers found.
    """
    token = torch.arange(1, length, device=device)[None, :]
    row = torch.arange(batch_size, device=device)[:, None]
    goes_on = mask_function(row, torch.zeros_like(row), token, token - 1)
    starts = torch.ones(batch_size, length, dtype=torch.bool, device=device)
    starts[:, 1:] = ~goes_on
    first = torch.nonzero(starts.flatten()).flatten().tolist()
    lengths = tuple(end - start for start, end in pairwise([*first, batch_size * length]))
    rows = torch.arange(batch_size * length, device=device)
    return Padding(given=False, window=window, rows=rows, lengths=lengths)
