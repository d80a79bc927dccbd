"""``probe``: measure, layer by layer, whether attention sees to the right.

A flag says what a layer should do; many paths of many libraries ignore flags without a word. So
this measures: a short sentence runs through the model while the input of every attention module is
recorded; then each module runs again on that input with the later positions replaced by noise. An
earlier output that changes means that the layer sees to the right. Softmax attention gives masked
positions a weight of exactly 0, so finite noise does not reach a causal layer's earlier outputs
even by a rounding, and any change beyond what repeating the call shows counts. Other mixers (state
spaces, or a layer that cannot be taken apart) may round together what they compute: for them only
a change of a thousandth of the output's size counts.

It works on any transformers decoder, whether or not ``unmask`` touched it. Nothing stays behind:
modes, hooks and the random state are as before.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lmsl.errors import InputError
from lmsl.mask.attention import NAME, no_mask, pack_attention
from lmsl.mask.bits import Bits
from lmsl.mask.decoder import ATTENTION_NAME, decoder_blocks, mixing_modules, pretrained_of
from lmsl.mask.flags import differing, pack_flags
from lmsl.mask.refusals import PackNotPassedOn

LENGTH = 12
KEPT = 6
PADDING = 4
SEED = 2024
ROUNDING = 1e-3


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way to call a model: its arguments and the rows of the sentence that is disturbed."""

    inputs: dict[str, Any]
    earlier: slice
    later: slice


def probe(model: nn.Module) -> list[bool]:
    """Whether each layer sees to the right, input side first.

        >>> sizes = dict(hidden_size=16, intermediate_size=16, num_attention_heads=2)
        >>> config = transformers.LlamaConfig(num_hidden_layers=2, vocab_size=99, **sizes)
        >>> model = transformers.LlamaModel(config)
        >>> lmsl.probe(model), lmsl.probe(lmsl.unmask(model, "full"))
        ([False, False], [True, True])

    ``True`` only when the layer does so in every form of call measured by ``probe_forms``.
    """
    return [all(answers) for answers in zip(*probe_forms(model).values(), strict=True)]


def probe_forms(model: nn.Module) -> dict[str, list[bool]]:
    """The measurement for each form of call, as some libraries obey a flag in one and not another.

    ``single``: one sentence, no mask. ``padded``: two sentences, the first one shorter and padded
    on the left. ``packed``, where ``unmask`` prepared the model: two sentences end to end.
    """
    mixers = [_mixer(block) for block in decoder_blocks(model)[1]]
    measured = {}
    with undisturbed(model), torch.no_grad():
        for name, form in call_forms(model).items():
            try:
                (measured[name],) = _measure(model, mixers, [form])
            except PackNotPassedOn:
                # Nobody can call this model packed; calling it so raises the same error.
                continue
    return measured


def verify(model: nn.Module, bits: Sequence[bool]) -> None:
    """Raise ``InputError``, naming the layers, where a layer does not do what its bit says."""
    compare(probe_forms(model), bits)


def verify_runs(model: nn.Module, bits: Bits) -> None:
    """``verify`` for a stack of runs, in the one form of call that a stack has."""
    if len(bits) == 1:
        return verify(model, bits[0])
    mixers = [_mixer(block) for block in decoder_blocks(model)[1]]
    with undisturbed(model), torch.no_grad():
        compare_runs("packed", _measure(model, mixers, run_forms(model, bits)), bits)


def compare_runs(form: str, seen: Sequence[Sequence[bool]], bits: Bits) -> None:
    """``compare`` for each run of a stack, all of them seen in one form of call."""
    for run, (found, own) in enumerate(zip(seen, bits, strict=True), start=1):
        compare({form if len(bits) == 1 else f"{form} (run {run} of {len(bits)})": found}, own)


def compare(forms: Mapping[str, Sequence[bool]], bits: Sequence[bool]) -> None:
    """Raise ``InputError`` where what a form of call showed differs from the bits."""
    for form, seen in forms.items():
        if len(seen) != len(bits):
            raise InputError(f"bits: expected {len(seen)}, one a layer, got {len(bits)}")
        wrong = [index for index, bit in enumerate(bits) if bool(bit) != seen[index]]
        if wrong:
            what = ", ".join(
                f"{index} is {'bidirectional' if seen[index] else 'causal'}" for index in wrong
            )
            raise InputError(
                f"model: measured layers differ from their unmask bits in a {form} call: layer "
                f"{what}; something overrides the attention of this model"
            )


def call_forms(model: nn.Module) -> dict[str, Form]:
    """The forms of call that ``probe_forms`` measures."""
    pretrained = pretrained_of(model)
    embeddings = pretrained.get_input_embeddings()
    device = embeddings.weight.device
    generator = torch.Generator().manual_seed(SEED)
    vocabulary = pretrained.config.get_text_config().vocab_size
    ids = torch.randint(vocabulary, (2, LENGTH), generator=generator).to(device)
    earlier, later = slice(0, KEPT), slice(KEPT, LENGTH)
    mask = torch.ones_like(ids)
    mask[0, :PADDING] = 0
    forms = {
        "single": Form(inputs={"input_ids": ids[:1]}, earlier=earlier, later=later),
        "padded": Form(
            inputs={"input_ids": ids, "attention_mask": mask},
            earlier=slice(PADDING, PADDING + 4),
            later=slice(PADDING + 4, LENGTH),
        ),
    }
    if pretrained.config.get_text_config()._attn_implementation == NAME:
        inputs = {
            "input_ids": ids.reshape(1, -1),
            "position_ids": torch.arange(LENGTH, device=device).repeat(2)[None],
            "attention_mask": no_mask(device),
            "packed": pack_attention([LENGTH, LENGTH], device),
        }
        forms["packed"] = Form(inputs=inputs, earlier=earlier, later=later)
    return forms


def run_forms(model: nn.Module, bits: Bits) -> list[Form]:
    """One packed call of a stack: for each run the form that disturbs its first sentence.

    All have the same inputs: two sentences for each run, the same in all.
    """
    alone = call_forms(model)["packed"]
    if len(bits) == 1:
        return [alone]
    device, size = alone.inputs["input_ids"].device, 2 * LENGTH
    flags = differing(bits)
    inputs = alone.inputs | {
        "input_ids": alone.inputs["input_ids"].repeat(1, len(bits)),
        "position_ids": alone.inputs["position_ids"].repeat(1, len(bits)),
        "packed": pack_attention(
            [LENGTH] * (2 * len(bits)),
            device,
            is_causal=None if flags is None else pack_flags(flags, [2] * len(bits), device),
        ),
    }
    return [
        Form(
            inputs=inputs,
            earlier=slice(first, first + KEPT),
            later=slice(first + KEPT, first + LENGTH),
        )
        for first in range(0, size * len(bits), size)
    ]


def _measure(model: nn.Module, mixers: list[nn.Module], forms: Sequence[Form]) -> list[list[bool]]:
    """For each form, which are alike but for what is disturbed, what every layer sees."""
    calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    hooks = [
        module.register_forward_pre_hook(_recorder(calls, index), with_kwargs=True)
        for index, module in enumerate(mixers)
    ]
    try:
        model(**forms[0].inputs, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    missing = [index for index in range(len(mixers)) if index not in calls]
    if missing:
        raise InputError(f"model: layers {missing} did not run, so they cannot be measured")
    by_layer = [_sees(module, *calls[index], forms) for index, module in enumerate(mixers)]
    return [list(seen) for seen in zip(*by_layer, strict=True)]


def _recorder(calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]], index: int) -> Any:
    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls[index] = (args, kwargs)

    return record


def _sees(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], forms: Sequence[Form]
) -> list[bool]:
    hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]

    def mixed(states: Tensor) -> Tensor:
        if "hidden_states" in kwargs:
            out = module(*args, **(kwargs | {"hidden_states": states}))
        else:
            out = module(states, *args[1:], **kwargs)
        return out[0] if isinstance(out, tuple) else out

    name = type(module).__name__
    return reach_back(mixed, hidden, forms, name, exact=bool(ATTENTION_NAME.search(name)))


def reach_back(
    mixed: Callable[[Tensor], Tensor],
    hidden: Tensor,
    forms: Sequence[Form],
    name: str,
    *,
    exact: bool = True,
) -> list[bool]:
    """For each form, whether noise in its later positions changes what is earlier.

    All are disturbed at once: no sentence may see another, so one call answers for all of them.

    Args:
        mixed: what mixes tokens, [batch, seqlen, ...] in and out.
        hidden: what it was given.
        name: of it, for messages.
        exact: masked positions weigh exactly 0, so that any change counts.
    """
    generator = torch.Generator().manual_seed(SEED)
    disturbed = hidden.clone()
    size = hidden.float().std().clamp(min=1e-3)
    for form in forms:
        noise = torch.randn(disturbed[0, form.later].shape, generator=generator)
        disturbed[0, form.later] = (noise.to(hidden.device) * size).to(hidden.dtype)
    calls = [mixed(states)[0].float() for states in (hidden, hidden, disturbed)]
    found = []
    for form in forms:
        first, again, changed = (rows[form.earlier] for rows in calls)
        floor = 4 * (again - first).abs().max()
        if not exact:
            floor = floor + ROUNDING * first.abs().max()
        change = (changed - first).abs().max()
        if not bool(torch.isfinite(change)):
            raise InputError(f"model: {name} gives non-finite numbers")
        found.append(bool(change > floor))
    return found


def _mixer(block: nn.Module) -> nn.Module:
    """What mixes tokens in a layer; the layer itself where that cannot be told by name."""
    found = mixing_modules(block)
    return found[0] if found else block


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and every module's own mode back afterwards.

    The linear layers of bitsandbytes stay in training mode, in which they compute the same: on
    CPUs with AVX512-BF16 their first evaluation without gradients repacks the weights for good.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for module, _ in modes:
        if type(module).__module__.startswith("bitsandbytes."):
            module.training = True
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
