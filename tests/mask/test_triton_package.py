"""The kernels where they are used: in decoders that lmsl unmasks, and in a run of ``train.py``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lmsl.mask.unmasking import unmask
from tests.decoders import batch, build
from tests.small_runs import ROOT, SHORT, environment, train, updates_of, written

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _states_and_gradients(model, real, **inputs):
    """Last hidden states of the real tokens, and the gradients of every parameter."""
    model.zero_grad()
    states = model(**inputs | {"use_cache": False}).last_hidden_state
    states = states[real] if len(states) > 1 else states[0]
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(5))
    (states * weights.to(DEVICE)).sum().backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"states": states.detach(), **grads}


@pytest.mark.parametrize(("family", "string"), [("llama", "0011"), ("gemma2", "1001")])
def test_decoders_compute_the_same(family, string):
    """Gemma-2 brings a softcap, a scale of its own and windows on every other layer, of which
    each kind is here both ways."""
    data = batch([7, 1, 12], "left")
    padded = {name: x.to(DEVICE) for name, x in data.padded.items()}
    for inputs in (padded, data.packed(DEVICE)):
        got, expected = (
            _states_and_gradients(
                unmask(build(family).to(DEVICE), string, attention=attention),
                data.attention_mask.bool(),
                **inputs,
            )
            for attention in ("triton", "sdpa")
        )
        assert got.keys() == expected.keys() and len(got) > 30
        for name, one in expected.items():
            tolerance = 2e-5 * max(1.0, one.abs().max().item())
            error = (got[name] - one).abs().max().item()
            assert error <= tolerance, f"{name}: error {error:.2e} above {tolerance:.2e}"


def test_a_compiled_decoder_computes_the_same():
    """In one graph."""
    torch._dynamo.reset()
    data = batch([3, 1, 4], "left")
    model = unmask(build("llama", num_hidden_layers=2).to(DEVICE), "01", attention="triton")
    compiled = torch.compile(model.train(), backend="aot_eager", fullgraph=True)
    got, expected = (
        _states_and_gradients(one, data.attention_mask.bool(), **data.packed(DEVICE))
        for one in (compiled, model)
    )
    for name, one in got.items():
        torch.testing.assert_close(one, expected[name.removeprefix("_orig_mod.")], msg=name)
    assert len(got) == len(expected)


@pytest.mark.skipif(DEVICE != "cpu", reason="Triton's interpreter serves CPU tensors")
def test_training_as_a_user_starts_it(tmp_path: Path) -> None:
    """``TRITON_INTERPRET=1 python train.py --attention triton``, and its losses are sdpa's."""
    # One layer and few words, as interpreted programs are slow; above are layers of both kinds.
    text = "Ada\tB-PER\nsat\tO\n\nBob\tB-PER\n"
    data = written(tmp_path / "data", train=text, dev="Ada\tB-PER\n")
    string, flags = "10000000", ("--max-steps", "1", "--batch-size", "2", "--exit-layer", "1")
    line = ["--unmask", string, "--data", str(data), "--output", str(tmp_path / "triton")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *line, *SHORT, *flags, "--attention", "triton"],
        env={**environment(), "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    train(data, tmp_path / "sdpa", *flags, "--attention", "sdpa", unmask=[string])
    (mine,), (its,) = (updates_of(tmp_path / name) for name in ("triton", "sdpa"))
    for name in ("loss", "grad_norm"):
        assert mine[name] == pytest.approx(its[name], rel=1e-4), (mine, its)
    config = (tmp_path / "triton" / "config.yaml").read_text(encoding="utf-8")
    assert "attention: triton" in config and os.environ["TRITON_INTERPRET"] == "1"
