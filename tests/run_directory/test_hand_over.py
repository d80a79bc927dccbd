"""A run in the hands of other programs: the card's own words, run as they stand."""

import contextlib
import io
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM

import lmsl
from lmsl.layers.peft_format import ADAPTER_FILE, load_adapter
from lmsl.packs.examples import build_examples
from lmsl.tagger.emissions import emissions
from tests.small_runs import talkative, train

PAGE = Path(lmsl.__file__).parents[1] / "docs" / "using_a_run.md"
SENTENCE = "Ada Lovelace met Babbage ."


@pytest.fixture(scope="module", params=["first", "last", "mean", "exit"])
def handed(
    request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run whose base is not quantised, read at each place of a word."""
    flags = ("--exit-layer", "5") if request.param == "exit" else ("--label-at", request.param)
    output = tmp_path_factory.mktemp("handed") / "run"
    more = ("--quantize", "none", "--max-steps", "4", "--lr", "0.02", "--decode", "argmax")
    return talkative(train(data, output, *more, *flags))


def test_the_snippet_of_the_card_gives_the_tags_of_the_run(handed: Path) -> None:
    card = (handed / "README.md").read_text(encoding="utf-8")
    first, second = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(first.replace("PATH OF THIS FOLDER", str(handed)), {})
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        # PEFT only warns of an adapter that it does not find.
        warnings.simplefilter("error", UserWarning)
        names: dict[str, torch.Tensor] = {}
        exec(second.replace("PATH OF THIS FOLDER", str(handed)), names)
    labeler = lmsl.Labeler.load(handed, device="cpu")
    (tags,) = labeler.predict_tags([SENTENCE.split()])
    words = zip(SENTENCE.split(), tags, strict=True)
    assert printed.getvalue() == "".join(f"{word} {tag}\n" for word, tag in words)
    sentences = [labeler.sentence(SENTENCE.split())]
    examples = build_examples(sentences, labeler._aligner, max_length=99, overflow="error")
    (scores,) = emissions(
        labeler.tagger,
        examples.examples,
        [len(SENTENCE.split())],
        tokens_per_batch=99,
        device=labeler.device,
    )
    found = names["logits"].log_softmax(0).numpy()
    np.testing.assert_allclose(found, scores[-1], rtol=1e-4, atol=1e-4)


def test_the_snippet_of_the_page_is_that_of_the_card(handed: Path) -> None:
    card = (handed / "README.md").read_text(encoding="utf-8")
    if "end - 1" not in card or "num_hidden_layers" in card or ".mean" in card:
        pytest.skip("the page reads the last sub-word of a whole model")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [block for block in blocks if "PeftModel" in block]
    ours = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[1]
    config = json.loads((handed / "adapter_config.json").read_text(encoding="utf-8"))
    block = block.replace('"runs/1"', repr(str(handed)))
    block = block.replace('"mistralai/Mistral-7B-v0.3"', repr(config["base_model_name_or_path"]))
    found: list[torch.Tensor] = []
    for code in (block, ours.replace("PATH OF THIS FOLDER", str(handed))):
        names: dict[str, torch.Tensor] = {}
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, names)
        found.append(names["head"]["weight"] @ names["read"] + names["head"]["bias"])
    torch.testing.assert_close(*found)


def test_the_adapter_loads_with_and_without_a_language_model_head(handed: Path) -> None:
    """Over AutoModelForCausalLM nothing was loaded, and a warning was all."""
    config = json.loads((handed / "adapter_config.json").read_text(encoding="utf-8"))
    labeler = lmsl.Labeler.load(handed, device="cpu")
    ids = torch.tensor([[5, 77, 300, 9, 41]])
    exit_layer = labeler.info.exit_layer
    depth = {"num_hidden_layers": exit_layer} if exit_layer else {}
    with torch.inference_mode():
        expected = labeler.tagger.decoder(ids, use_cache=False).last_hidden_state
    for kind in (AutoModel, AutoModelForCausalLM):
        name = config["base_model_name_or_path"]
        base = kind.from_pretrained(name, dtype=torch.float32, **depth)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            model = PeftModel.from_pretrained(base, handed).eval()
        lmsl.unmask(model, "00001" if exit_layer else "0011")
        with torch.inference_mode():
            found = model(ids, use_cache=False, output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_file_of_one_name_for_each_tensor_is_read_too(handed: Path) -> None:
    """So PEFT writes it, and so did older versions."""
    labeler = lmsl.Labeler.load(handed, device="cpu")
    whole = (handed / ADAPTER_FILE).read_bytes()
    tensors = load_file(handed / ADAPTER_FILE)
    headed = "base_model.model.model."
    own = {name: t for name, t in tensors.items() if not name.startswith(headed)}
    assert 2 * len(own) == len(tensors)
    try:
        save_file(own, handed / ADAPTER_FILE)
        load_adapter(labeler.tagger.decoder, 0, handed)
        # Nobody but PEFT would see that the other half is of another run.
        spoiled = next(name for name in tensors if name.startswith(headed))
        save_file({**tensors, spoiled: tensors[spoiled] + 1}, handed / ADAPTER_FILE)
        with pytest.raises(lmsl.InputError, match="expected the numbers of base_model"):
            load_adapter(labeler.tagger.decoder, 0, handed)
    finally:
        (handed / ADAPTER_FILE).write_bytes(whole)
