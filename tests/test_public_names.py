"""What `lmsl` shows to those who import it, and the examples in its docstrings."""

import doctest
import importlib
import shutil
from pathlib import Path

import pytest
import torch
import transformers

import lmsl
from lmsl.tagger.predictor import Predictor
from tests.small_runs import written

ROOT = Path(__file__).parents[1]
SHOWN = ["evaluate", "info", "load", "metrics", "predict", "predict_tags", "sentence", "tag"]
SENTENCE = "Ada\tB-PER\nmet\tO\nBabbage\tB-PER\n.\tO\n"
EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "lmsl").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def test_names_of_the_package_are_what_they_say() -> None:
    assert lmsl.__all__ == [
        "RECIPES",
        "Config",
        "Entity",
        "Generator",
        "InputError",
        "Labeler",
        "TrainingError",
        "probe",
        "train",
        "unmask",
    ]
    assert {*dir(lmsl)} == {*lmsl.__all__, "__version__"}
    for name in lmsl.__all__:
        assert getattr(lmsl, name) is not None
    assert callable(lmsl.unmask) and callable(lmsl.probe) and callable(lmsl.train)
    with pytest.raises(AttributeError, match="no attribute 'lable'"):
        _ = lmsl.lable


def test_a_labeler_shows_what_users_need(labeler: lmsl.Labeler) -> None:
    names = [name for name in dir(labeler) if not name.startswith("_")]
    assert names == sorted([*SHOWN, "at_temperature", "device", "operating_points", "tagger"])


def test_a_generator_shows_what_a_labeler_does() -> None:
    names = [name for name in dir(lmsl.Generator) if not name.startswith("_")]
    # Annotated in the class, set in each object.
    annotated = set(Predictor.__annotations__)
    assert {*names, *annotated} == {*SHOWN, "tagger"}


def test_every_public_name_has_an_example() -> None:
    """Config, Generator and Labeler in the class, RECIPES where it is."""
    labeler = lmsl.Labeler
    documented = [lmsl.train, lmsl.unmask, lmsl.probe, lmsl.Config, lmsl.Generator, labeler]
    documented += [labeler.load, labeler.predict, labeler.predict_tags, labeler.evaluate]
    for one in [*documented, importlib.import_module("lmsl.config.recipes")]:
        assert ">>> " in (one.__doc__ or ""), one


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_give_what_they_say(
    module: str, talkative_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that has `data` of short sentences and a run, `runs/1`, of string 0011."""
    written(tmp_path / "data", train=f"{SENTENCE}\n{SENTENCE}", dev=SENTENCE)
    shutil.copytree(talkative_run, tmp_path / "runs" / "1")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(1)
    found = doctest.DocTestFinder(exclude_empty=True).find(
        importlib.import_module(module), extraglobs={"lmsl": lmsl, "transformers": transformers}
    )
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    told: list[str] = []
    for one in found:
        runner.run(one, out=told.append)
    counts = runner.summarize(verbose=False)
    assert counts.attempted and not counts.failed, "".join(told)
