"""How transformers' own forward is called for a pack, and what it gives at the pack's tokens.

A decoder takes a pack as it is. Encoders differ in what else they want to be told (where positions
begin, a type for each token), and some have an attention that does not go through transformers'
interface: those get a padded batch, and only the rows of real tokens are kept. That packed and
alone are the same is measured before anything is trained, since a position that is off by two
changes numbers and raises nothing.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lmsl.errors import InputError
from lmsl.layers.fused.block import Observe
from lmsl.layers.fused.fit import ROUNDING
from lmsl.mask.attention import no_mask, pack_attention
from lmsl.mask.decoder import decoder_blocks
from lmsl.mask.probing import undisturbed
from lmsl.packs.packing import Pack
from lmsl.tagger.positions import first_position

# Two sentences for the measurement: an odd length, and one that is not a multiple of it.
_LENGTHS = (11, 5)
_SEED = 2024
# Of the largest hidden state; rounding alone is 1e-6 in float32, a wrong position 1e-2 and more.
_ROUNDING = {**ROUNDING, torch.float32: 1e-4}


@dataclass(frozen=True, kw_only=True)
class Calling:
    """What a model's forward wants to be told."""

    padded: bool = False
    """It gets sentences side by side, filled up, instead of end to end."""
    first_position: int = 0
    """Where the positions of a sentence begin."""
    types: bool = False
    """Every token has a type, 0 here."""
    pad: int = 0
    """Token id of the filling."""

    def hidden(self, model: nn.Module, pack: Pack) -> Tensor:
        """The last hidden states of a pack's tokens, [R * T_cap, hidden]."""
        if self.padded:
            return self._of_padded(model, pack)
        told = {"token_type_ids": torch.zeros_like(pack.ids)} if self.types else {}
        states: Tensor = model(
            input_ids=pack.ids,
            position_ids=pack.positions + self.first_position,
            attention_mask=no_mask(pack.ids.device),
            use_cache=False,
            packed=pack.attention,
            **told,
        ).last_hidden_state
        return states[0]

    @contextmanager
    def observed(self, model: nn.Module, pack: Pack, observe: Observe | None) -> Iterator[None]:
        """While the forward runs, tells ``observe`` what each layer gives out, by token."""
        if observe is None:
            yield
            return

        def tell(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            states = output[0] if isinstance(output, tuple) else output
            observe(states[_real(_lengths(pack), states.device)] if self.padded else states[0])

        hooks = [layer.register_forward_hook(tell) for layer in decoder_blocks(model)[1]]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _of_padded(self, model: nn.Module, pack: Pack) -> Tensor:
        lengths = _lengths(pack)
        # Lost where no row is filled up.
        rows = [own for own in pack.ids[0].split(lengths) if len(own)]
        ids = pad_sequence(rows, batch_first=True, padding_value=self.pad)
        real = _real([len(own) for own in rows], ids.device)
        states: Tensor = model(input_ids=ids, attention_mask=real.long()).last_hidden_state
        return states[real]


def _lengths(pack: Pack) -> Sequence[int]:
    lengths = pack.attention.plan.lengths
    assert lengths is not None, "a captured step is never padded"
    return lengths


def _real(lengths: Sequence[int], device: torch.device) -> Tensor:
    """bool [sentences, longest]: where a padded batch holds real tokens."""
    lengths = [length for length in lengths if length]
    places = torch.arange(max(lengths, default=0), device=device)
    return places < torch.tensor(lengths, device=device)[:, None]


def calling_of(model: Any, *, through_interface: bool) -> tuple[Calling, str | None]:
    """How a model is called for packs, and why it is padded; None where it is not.

    Args:
        model: after ``unmask`` where its attention goes through transformers' interface.
        through_interface: whether it does.
    """
    config = model.config.get_text_config()
    takes = inspect.signature(model.forward).parameters
    plain = Calling(
        first_position=first_position(model),
        types="token_type_ids" in takes and bool(getattr(config, "type_vocab_size", 0)),
        pad=getattr(config, "pad_token_id", None) or 0,
    )
    padded = Calling(padded=True, pad=plain.pad)
    if not through_interface:
        return padded, "its attention does not go through transformers' interface"
    found = difference(model, plain)
    if found <= _ROUNDING.get(model.dtype, 1e-4):
        return plain, None
    return padded, f"packed, its hidden states differ by {found:.1e} of their size"


def difference(model: Any, calling: Calling) -> float:
    """Of two sentences in a pack and each by itself: the largest, as a share of the largest
    hidden state; infinite where it takes no packs."""
    device, vocabulary = model.device, model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(_SEED)
    # The lowest ids are those of filling, from which some models count positions.
    ids = torch.randint(min(4, vocabulary - 1), vocabulary, (sum(_LENGTHS),), generator=generator)
    sentences = [own[None].to(device) for own in ids.split(_LENGTHS)]
    nothing = torch.zeros(1, 0, dtype=torch.int64, device=device)
    positions = torch.cat([torch.arange(length) for length in _LENGTHS])
    pack = Pack(
        ids=torch.cat(sentences, dim=1),
        positions=positions[None].to(device),
        attention=pack_attention(_LENGTHS, device),
        starts=nothing,
        ends=nothing,
        labels=nothing,
        tokens=(sum(_LENGTHS),),
        words=(0,),
    )
    with undisturbed(model), torch.no_grad():
        alone = [model(input_ids=own).last_hidden_state[0] for own in sentences]
        try:
            packed = calling.hidden(model, pack)
        except InputError:
            return float("inf")
    whole = torch.cat(alone)
    found = ((packed - whole).abs().max() / whole.abs().max()).item()
    return found if found == found else float("inf")
