"""What is measured of runs whose base is an encoder: all that has a meaning for them."""

import json
from pathlib import Path

import pytest

from lmsl.cli import main
from lmsl.run_directory.influence import read_influence
from tests.encoders import encoder_folder
from tests.small_runs import refused, talkative, train


@pytest.mark.parametrize(("family", "reached"), [("bert", True), ("deberta-v2", False)])
def test_influence_attention_and_right_context(
    family: str, reached: bool, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = encoder_folder(family, tmp_path / "model")
    flags = ("--model", str(model), "--max-length", "100", "--max-steps", "1")
    run = talkative(train(data, tmp_path / "run", *flags, unmask=()))
    found = read_influence(run)
    assert found is not None and min(found.layers) > 1e-3
    assert (found.attention is not None) == reached
    if found.attention is not None:
        assert found.attention.even == pytest.approx([0.5] * 4, abs=1e-6)
    capsys.readouterr()
    line = ["evaluate", str(run), str(data / "dev.conll"), "--device", "cpu"]
    assert main([*line, "--right-context"]) == 0
    assert json.loads(capsys.readouterr().out)["right_context"]["changed"] > 0
    text = tmp_path / "text.txt"
    text.write_text("Ada met Babbage .")
    refused(capsys, [*line, "--perplexity", str(text)], "encoder", "predicts no next word")


def test_a_causal_encoder_needs_no_right_context(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor what closes its texts."""
    model = encoder_folder("bert", tmp_path / "model")
    flags = ("--model", str(model), "--max-length", "100", "--max-steps", "1")
    run = talkative(train(data, tmp_path / "run", *flags, unmask=("0000",)))
    capsys.readouterr()
    line = ["evaluate", str(run), str(data / "dev.conll"), "--device", "cpu", "--right-context"]
    assert main(line) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["right_context"]["changed"] == 0 < found["predicted"]
