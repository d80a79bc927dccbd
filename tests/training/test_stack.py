"""Runs trained together against the same runs alone: numbers, directories and what is said."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import lmsl
from lmsl.cli import main
from lmsl.config.config import Config
from lmsl.console import Console
from lmsl.run_directory.info import read_info
from tests.small_runs import FILES, evaluated, logged, metrics_of, train
from tests.training.training_tools import STRINGS, assert_near_runs


class TestDirectories:
    def test_every_run_of_a_sweep_is_the_run_that_one_gets_alone(
        self, swept: Path, run: Path, data: Path, tmp_path: Path
    ) -> None:
        other = train(data, tmp_path / "1101", "--seed", "2", unmask=("1101",))
        for place, single in (("0011/seed1", run), ("1101/seed2", other)):
            ours = swept / place
            assert {path.name for path in ours.iterdir()} == FILES
            assert_near_runs(ours, single)
            for name in ("config.yaml", "adapter_config.json"):
                assert (ours / name).read_bytes() == (single / name).read_bytes()
            kept, apart = read_info(ours), read_info(single)
            assert replace(kept, digests=None) == replace(apart, digests=None)
            assert kept.digests is not None and apart.digests is not None
            # The weights are the same to rounding alone.
            assert replace(kept.digests, run={}) == replace(apart.digests, run={})
            mine, its = logged(ours), logged(single)
            assert [line.keys() for line in mine] == [line.keys() for line in its]
            for one, same in zip(mine, its, strict=True):
                if "loss" in one:
                    assert one["loss"] == pytest.approx(same["loss"], rel=1e-4)
                    assert one["tokens"] == same["tokens"]

    def test_sweep_json_lists_them_in_the_order_asked_for(self, swept: Path) -> None:
        document = json.loads((swept / "sweep.json").read_text())
        assert [row["run"] for row in document["runs"]] == [
            f"{string}/seed{seed}" for string in STRINGS for seed in (1, 2)
        ]
        assert document["best"] in STRINGS and "pruned" not in document
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


def test_a_stack_that_is_only_counted_says_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once a sweep told that no layer sees to the right, of a run made to see what one needs."""
    named = ["--data", str(data), "--output", str(tmp_path / "sweep"), "--max-steps", "1"]
    assert main(["sweep", "--unmask", "0000", "0011", "--device", "cpu", *named]) == 0
    told = capsys.readouterr().err
    assert "--stack auto" in told and told.count("measured:") == 1
    assert "measured: each of 2 runs" in told and "not by triton" not in told
