"""Runs trained together against the same runs alone: numbers, directories and what is said."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import lmsl
from lmsl.cli import main
from lmsl.config.config import Config
from lmsl.console import Console
from tests.small_runs import ADAPTER, FILES, SHORT, evaluated, metrics_of, train

GRID = [f"{value:04b}" for value in range(16)]


def sweep(data: Path, output: Path, *flags: str) -> Path:
    """``lmsl sweep`` on a folder of splits; the output folder."""
    torch.set_num_threads(1)
    named = ("--data", str(data), "--output", str(output))
    assert main(["sweep", *named, *SHORT, *flags]) == 0
    return output


def assert_near(one: Path, other: Path, tolerance: float = 1e-4) -> None:
    """The weights of two run directories."""
    for name in (ADAPTER, "head.safetensors"):
        first, second = load_file(one / name), load_file(other / name)
        assert first.keys() == second.keys()
        for key in first:
            torch.testing.assert_close(
                first[key], second[key], rtol=0, atol=tolerance, msg=f"{one.name}: {key}"
            )


@pytest.fixture(scope="module")
def swept(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("sweeps") / "sweep"
    flags = ("--unmask", "0011", "1101", "0000", "--seed", "1", "2", "--stack", "4")
    return sweep(data, output, *flags)


class TestDirectories:
    def test_every_run_of_a_sweep_is_the_run_that_one_gets_alone(
        self, swept: Path, run: Path, data: Path, tmp_path: Path
    ) -> None:
        other = train(data, tmp_path / "1101", "--seed", "2", unmask=("1101",))
        for place, single in (("0011/seed1", run), ("1101/seed2", other)):
            ours = swept / place
            assert {path.name for path in ours.iterdir()} == FILES
            assert_near(ours, single)
            for name in ("config.yaml", "lmsl.json", "adapter_config.json"):
                assert (ours / name).read_bytes() == (single / name).read_bytes()
            mine, its = (
                [json.loads(line) for line in (each / "log.jsonl").read_text().splitlines()]
                for each in (ours, single)
            )
            assert [line.keys() for line in mine] == [line.keys() for line in its]
            for one, same in zip(mine, its, strict=True):
                if "loss" in one:
                    assert one["loss"] == pytest.approx(same["loss"], rel=1e-4)
                    assert one["tokens"] == same["tokens"]

    def test_sweep_json_lists_them_in_the_order_asked_for(self, swept: Path) -> None:
        document = json.loads((swept / "sweep.json").read_text())
        strings = ("0011", "1101", "0000")
        assert [row["run"] for row in document["runs"]] == [
            f"{string}/seed{seed}" for string in strings for seed in (1, 2)
        ]
        assert document["best"] in strings and "pruned" not in document
        assert not (swept / ".lmsl.lock").exists()

    def test_a_run_of_a_sweep_loads_and_scores_bitwise_the_same(
        self, swept: Path, data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        run, predictions = swept / "1101" / "seed1", tmp_path / "predictions.conll"
        again = evaluated(run, data / "test.conll", capsys, "--predictions", str(predictions))
        assert again == metrics_of(run)["test"]
        assert predictions.read_bytes() == (run / "predictions.test.conll").read_bytes()


def test_labelers_of_a_stack_answer_each_for_its_run(data: Path, tmp_path: Path) -> None:
    """Each has a mask, an adapter and a head of its own, over the same frozen tensors."""
    config = Config(
        unmask=("1111", "0000"),
        data=str(data),
        output=tmp_path / "sweep",
        max_steps=2,
        batch_size=4,
        device="cpu",
    )
    labelers = lmsl.train(config, Console(quiet=True), stack=2)
    assert [labeler.info.unmask for labeler in labelers] == ["1111", "0000"]
    assert lmsl.probe(labelers[0].tagger.decoder) == [True] * 8
    assert lmsl.probe(labelers[1].tagger.decoder) == [False] * 8
    places = [
        {buffer.data_ptr() for buffer in labeler.tagger.decoder.buffers() if buffer.numel() > 64}
        for labeler in labelers
    ]
    assert len(places[0] & places[1]) > 0.9 * len(places[0])
    texts = ["The guide met Stetol, plainly a brewery, near the gate.", "Foris"]
    for labeler, string in zip(labelers, config.unmask, strict=True):
        loaded = lmsl.Labeler.load(tmp_path / "sweep" / string / "seed1", device="cpu")
        assert labeler.predict(texts) == loaded.predict(texts)
