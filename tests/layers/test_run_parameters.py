"""Views of stacked parameters: a step on a view is a step of that run alone."""

import torch
from torch import nn

from lmsl.layers.lora import RunParameters, StackedLoRALinear


def layer(seeds: tuple[int, ...]) -> StackedLoRALinear:
    torch.manual_seed(0)
    base = nn.Linear(12, 10).requires_grad_(False)
    adapted = StackedLoRALinear(base, rank=3, alpha=3, dropout=0.0, seeds=seeds, site=1)
    for run, seed in enumerate(seeds):
        adapted.lora_B.data[run].normal_(generator=torch.Generator().manual_seed(seed))
    return adapted


def parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def step(views: list[torch.Tensor], optimizer: torch.optim.Optimizer) -> torch.Tensor:
    norm = nn.utils.clip_grad_norm_(views, 0.05)
    optimizer.step()
    return norm


def test_each_run_clips_and_steps_by_itself() -> None:
    seeds = (5, 6, 7)
    stack, singles = layer(seeds), [layer((seed,)) for seed in seeds]
    runs = RunParameters(parameters(stack), len(seeds))
    ours = [torch.optim.AdamW(views.values(), lr=0.05) for views in runs.views]
    theirs = [torch.optim.AdamW(parameters(single).values(), lr=0.05) for single in singles]
    inputs = torch.randn(len(seeds), 8, 12)
    start = stack.lora_A.detach().clone()
    for _ in range(3):
        stack(inputs.view(1, -1, 12)).view(3, 8, 10).square().mean((1, 2)).sum().backward()
        runs.bind_gradients()
        for run, single in enumerate(singles):
            single(inputs[run]).square().mean().backward()
            norm = step(list(runs.views[run].values()), ours[run])
            expected = step(list(parameters(single).values()), theirs[run])
            torch.testing.assert_close(norm, expected, rtol=1e-5, atol=1e-7)
            theirs[run].zero_grad()
        runs.zero_gradients()
    for run, single in enumerate(singles):
        for name, parameter in parameters(single).items():
            mine = parameters(stack)[name][run]
            torch.testing.assert_close(mine, parameter[0], rtol=1e-4, atol=1e-5)
    assert ((stack.lora_A - start).abs().amax((1, 2)) > 0.01).all()


def test_views_share_storage_and_gradients() -> None:
    stack = layer((1, 2))
    runs = RunParameters(parameters(stack), 2)
    view = runs.views[1]["lora_A"]
    assert view.is_leaf and view.data_ptr() == stack.lora_A[1].data_ptr()
    stack(torch.randn(1, 4, 12)).sum().backward()
    runs.bind_gradients()
    view.grad.mul_(0)
    assert not stack.lora_A.grad[1].any() and stack.lora_A.grad[0].any()
    runs.zero_gradients()
    assert view.grad is None and stack.lora_A.grad is None


def test_without_a_backward_there_is_no_gradient() -> None:
    runs = RunParameters(parameters(layer((1,))), 1)
    runs.bind_gradients()
    assert [view.grad for view in runs.views[0].values()] == [None, None]
