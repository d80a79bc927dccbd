"""Every decoder that the README names, in tiny form, from its files to its predictions."""

import re
import shutil
from pathlib import Path

import pytest

import lmsl
from lmsl.mask.probing import probe
from lmsl.tagger.source import tiny_folder
from tests.decoders import FAMILIES, build
from tests.small_runs import ROOT, evaluated, metrics_of, train

README_NAMES = {
    "Llama": "llama",
    "Mistral": "mistral",
    "Qwen": "qwen3",
    "Gemma": "gemma3_text",
    "Phi": "phi3",
    "OLMo": "olmo2",
    "GPT-2": "gpt2",
    "GPT-NeoX": "gpt_neox",
    "Mixtral": "mixtral",
    "Ettin": "modernbert-decoder",
}


def test_the_readme_names_them() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, family in README_NAMES.items():
        assert re.search(rf"\b{name}\b", text) and family in FAMILIES, name


@pytest.mark.parametrize("family", FAMILIES)
def test_it_trains_saves_loads_and_predicts(
    family: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    build(family, vocab_size=2048, max_position_embeddings=256).save_pretrained(model)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder() / file, model)
    flags = ("--model", str(model), "--lr", "0.01", "--max-steps", "2", "--max-length", "100")
    run = train(data, tmp_path / "run", *flags)
    assert "LoRA rank 16" in capsys.readouterr().err
    assert evaluated(run, data / "dev.conll", capsys) == metrics_of(run)["dev"]
    labeler = lmsl.Labeler.load(run, device="cpu")
    assert probe(labeler.tagger.decoder) == [False, False, True, True]
    (tags,) = labeler.predict_tags([["Ada", "met", "caf\u00e9", ""]])
    assert len(tags) == 4
