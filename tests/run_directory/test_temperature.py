"""The temperature in ``lmsl.json``, and in what the card tells other programs."""

import contextlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import lmsl
from lmsl.config.config import Config, read_config
from lmsl.data.tags.distribution import tempered
from lmsl.run_directory.card import model_card
from lmsl.run_directory.digests import document_digest
from lmsl.run_directory.info import INFO, read_info


def changed(folder: Path, run: Path, **entries: Any) -> Path:
    """A run's description alone, with other entries, None for none; its digest is right."""
    document = json.loads((run / INFO).read_text("utf-8"))
    for name, value in entries.items():
        document[name] = value
        if value is None:
            del document[name]
    document["digest"] = document_digest(document)
    (folder / INFO).write_text(json.dumps(document), encoding="utf-8")
    return folder


def test_older_runs_have_none_and_answer_as_they_did(doubtful_run: Path, tmp_path: Path) -> None:
    assert read_info(doubtful_run).temperature != 1.0
    assert read_info(changed(tmp_path, doubtful_run, temperature=None)).temperature == 1.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "temperature: expected more than 0 and at most 100, got 0.0"),
        (-1.5, "temperature: expected more than 0 and at most 100, got -1.5"),
        (float("inf"), "temperature: expected "),
        (float("nan"), "temperature: expected "),
        (1e300, "temperature: expected more than 0 and at most 100"),
        ("hot", "temperature: expected "),
        (True, "temperature: expected "),
        ([1.0], "temperature: expected "),
    ],
    ids=repr,
)
def test_one_that_cannot_be_is_refused(
    value: Any, expected: str, doubtful_run: Path, tmp_path: Path
) -> None:
    folder = changed(tmp_path, doubtful_run, temperature=value)
    with pytest.raises(lmsl.InputError, match=re.escape(expected)) as error:
        read_info(folder)
    assert str(error.value).startswith(str(folder / INFO))


def test_the_settings_repeat_how_it_came_about(doubtful_run: Path) -> None:
    settings = yaml.safe_load((doubtful_run / "config.yaml").read_text("utf-8"))
    assert settings["calibrate"] == "auto"
    assert read_config(doubtful_run / "config.yaml")["calibrate"] == "auto"
    with pytest.raises(lmsl.InputError, match="--calibrate: expected one of auto, yes, no"):
        Config(unmask=("0011",), calibrate="maybe")  # type: ignore[arg-type]


def test_the_card_divides_logits_by_it(doubtful_run: Path) -> None:
    """The card's lines are run as they stand, and give the run's own probabilities."""
    labeler = lmsl.Labeler.load(doubtful_run, device="cpu", quantize="none")
    cards = [(doubtful_run / "README.md").read_text("utf-8")]
    info = replace(labeler.info, temperature=1.0)
    config = Config(**read_config(doubtful_run / "config.yaml"))
    base = json.loads((doubtful_run / "adapter_config.json").read_text())[
        "base_model_name_or_path"
    ]
    cards.append(model_card(info, config, {}, "x", base_name=base, kept="00001111", encoder=False))
    words = ["Ada", "Lovelace", "met", "Babbage", "."]
    tagged = labeler.tag([labeler.sentence(words)])
    assert tagged.emissions is not None
    for card, temperature in zip(cards, (labeler.info.temperature, 1.0), strict=True):
        code = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[1]
        names: dict[str, torch.Tensor] = {}
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code.replace("PATH OF THIS FOLDER", str(doubtful_run)), names)
        expected = tempered(tagged.emissions[0], temperature)[-1]
        found = names["logits"].log_softmax(0).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert "temperature" in cards[0] and "temperature" not in cards[1]
