"""Runs and models of which a file is cut, gone or of another kind are refused in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import lmsl
from tests.small_runs import ADAPTER, refused, signed


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a folder of the user's."""
    folder = tmp_path_factory.mktemp("models") / "mine"
    shutil.copytree(Path(lmsl.__file__).parent / "tiny", folder)
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def more_labels(path: Path) -> None:
    document = json.loads(path.read_text())
    document["heads"][0]["labels"] += ["B-NEW", "I-NEW"]
    path.write_text(json.dumps(document))


def unknown_bits(path: Path) -> None:
    path.write_text(path.read_text().replace('"0011"', '"0012"'))


def lose_base(path: Path) -> None:
    path.write_text(path.read_text().replace('"tiny"', '"/models/gone"'))


def other_format(path: Path) -> None:
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))


def mistyped(path: Path) -> None:
    path.write_text(path.read_text().replace('"max_length": 256', '"max_length": "long"'))


BROKEN_RUNS: dict[str, tuple[str, Callable[[Path], None], tuple[str, ...]]] = {
    "lmsl-cut": ("lmsl.json", cut, ("lmsl.json", "expected JSON")),
    "lmsl-gone": ("lmsl.json", Path.unlink, ("no lmsl.json",)),
    "lmsl-format": ("lmsl.json", other_format, ("lmsl.json", "format 1", "99")),
    "lmsl-labels": ("lmsl.json", more_labels, ("head.safetensors", "shape")),
    "lmsl-bits": ("lmsl.json", unknown_bits, ("'0012'",)),
    "lmsl-types": ("lmsl.json", mistyped, ("lmsl.json", "max_length")),
    "head-gone": ("head.safetensors", Path.unlink, ("head.safetensors", "found none")),
    "head-cut": ("head.safetensors", cut, ("head.safetensors", "expected a safetensors file")),
    "adapter-gone": (ADAPTER, Path.unlink, (ADAPTER, "found none")),
    "adapter-cut": (ADAPTER, cut, (ADAPTER, "expected a safetensors file")),
    "settings-cut": ("adapter_config.json", cut, ("adapter_config.json", "JSON")),
    "base-gone": ("lmsl.json", lose_base, ("its base model", "/models/gone")),
}


@pytest.mark.parametrize(
    ("name", "spoil", "expected"), BROKEN_RUNS.values(), ids=BROKEN_RUNS.keys()
)
def test_broken_runs(
    name: str,
    spoil: Callable[[Path], None],
    expected: tuple[str, ...],
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = tmp_path / "run"
    shutil.copytree(run, broken)
    spoil(broken / name)
    if name != "lmsl.json" or ("cut" not in spoil.__name__ and (broken / name).exists()):
        signed(broken)
    refused(capsys, ["predict", str(broken), "--device", "cpu"], *expected)


def rename_tensors(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    save_file(
        {k.replace("layers.3", "layers.30"): v for k, v in tensors.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


BROKEN_MODELS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "config-gone": (lambda folder: (folder / "config.json").unlink(), ("config.json",)),
    "config-cut": (lambda folder: cut(folder / "config.json"), ("cannot be loaded",)),
    "weights-gone": (
        lambda folder: (folder / "model.safetensors").unlink(),
        ("model.safetensors",),
    ),
    "weights-cut": (lambda folder: cut(folder / "model.safetensors"), ("cannot be loaded",)),
    "weights-of-another": (rename_tensors, ("weights lack", "layers.3.")),
    "tokenizer-gone": (lambda folder: (folder / "tokenizer.json").unlink(), ("tokenizer.json",)),
    "tokenizer-cut": (lambda folder: cut(folder / "tokenizer.json"), ("tokenizer",)),
}


@pytest.mark.parametrize(("spoil", "expected"), BROKEN_MODELS.values(), ids=BROKEN_MODELS.keys())
def test_broken_models(
    spoil: Callable[[Path], None],
    expected: tuple[str, ...],
    model: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(model, broken)
    spoil(broken)
    line = ["train", "--unmask", "1", "--data", str(data), "--output", str(out)]
    refused(capsys, [*line, "--model", str(broken), "--device", "cpu"], str(broken), *expected)
    assert not out.exists()
