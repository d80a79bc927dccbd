"""Training from the command line to the run directory, and back: everything a run promises.

The base model is the package's own, the data a handful of generated sentences, and a run six
updates; nothing here says how good a model is.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

import lmsl
from lmsl.cli import main
from lmsl.config.config import Config
from lmsl.console import Console
from lmsl.run import train as train_runs
from lmsl.run_directory.folder import check_output
from lmsl.tagger.base import load_base
from tests.small_runs import (
    ADAPTER,
    FILES,
    fresh_process,
    logged,
    metrics_of,
    rows,
    same_files,
    train,
    updates_of,
)

RATES = {"precision", "recall", "f1", "gold", "predicted", "correct"}


class TestRunDirectory:
    def test_files_and_metrics_are_complete(self, run: Path) -> None:
        assert {path.name for path in run.iterdir()} == FILES
        metrics = metrics_of(run)
        assert set(metrics) == {"dev", "test", "selected_epoch", "train_seconds"}
        for split in ("dev", "test"):
            assert set(metrics[split]) == RATES | {
                *("macro_f1", "accuracy", "per_type", "lost_to_truncation", "calibration")
            }
            assert metrics[split]["gold"] > 0
            assert all(set(rates) == RATES for rates in metrics[split]["per_type"].values())
        assert metrics["selected_epoch"] in (1, 2)

    @pytest.mark.parametrize("split", ["dev", "test"])
    def test_predictions_scored_by_seqeval_give_the_metrics(self, run: Path, split: str) -> None:
        seqeval = pytest.importorskip("seqeval.metrics")
        from seqeval.scheme import IOB2

        sentences = list(rows(run / f"predictions.{split}.conll"))
        gold = [[row[1] for row in sentence] for sentence in sentences]
        predicted = [[row[2] for row in sentence] for sentence in sentences]
        assert {len(row) for sentence in sentences for row in sentence} == {3}
        strict = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
        metrics = metrics_of(run)[split]
        for name in ("precision", "recall", "f1"):
            score = getattr(seqeval, f"{name}_score")(gold, predicted, **strict)
            assert metrics[name] == pytest.approx(score, abs=1e-12)
        accuracy = seqeval.accuracy_score(gold, predicted)
        assert metrics["accuracy"] == pytest.approx(accuracy, abs=1e-12)

    @pytest.mark.parametrize("split", ["dev", "test"])
    def test_metrics_say_what_train_has_shown(self, run: Path, data: Path, split: str) -> None:
        """Counted again from the files alone."""
        seqeval = pytest.importorskip("seqeval.scheme")

        def entities(file: Path, column: int) -> list[set[tuple[str, str, int, int, int]]]:
            found = []
            for number, sentence in enumerate(rows(file)):
                tags = [[row[column] for row in sentence]]
                read = seqeval.Entities(tags, seqeval.IOB2).entities[0]
                words = [row[0] for row in sentence]
                spans = [(" ".join(words[e.start : e.end]), e) for e in read]
                found.append({(text, e.tag, number, e.start, e.end) for text, e in spans})
            return found

        file = run / f"predictions.{split}.conll"
        gold, predicted = set().union(*entities(file, 1)), set().union(*entities(file, 2))
        pairs = {each[:2] for own in entities(data / "train.conll", 1) for each in own}
        texts = {text for text, _ in pairs}
        unseen = {e for e in gold | predicted if e[0] not in texts}
        seen = {e for e in gold | predicted if e[:2] in pairs}
        document = json.loads((run / "metrics.json").read_text(encoding="utf-8"))[split]["unseen"]
        assert gold & unseen, "nothing to tell apart"
        for group, own in (
            ("seen", seen),
            ("unseen", unseen),
            ("other_type", (gold | predicted) - seen - unseen),
        ):
            assert document[group] == {
                "gold": len(gold & own),
                "predicted": len(predicted & own),
                "correct": len(gold & predicted & own),
            }

    def test_predictions_hold_the_words_and_tags_of_the_file(self, run: Path, data: Path) -> None:
        written = [[row[:2] for row in s] for s in rows(run / "predictions.test.conll")]
        assert written == list(rows(data / "test.conll"))

    def test_log_has_every_update_and_every_evaluation(self, run: Path) -> None:
        updates = updates_of(run)
        places = [(line["step"], line["epoch"]) for line in updates]
        assert places == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
        assert all(line["tokens"] > 0 and line["lr"] > 0 for line in updates)
        assert [line["step"] for line in logged(run) if "dev" in line] == [3, 6]

    def test_description_says_all_that_prediction_needs(self, run: Path) -> None:
        document = json.loads((run / "lmsl.json").read_text())
        (head,) = document["heads"]
        assert head["scheme"] == "iob2" and head["labels"][0] == "O"
        assert document["unmask"] == "0011" and document["base"] == "tiny"
        assert document["versions"]["lmsl"] == lmsl.__version__
        assert {"label_at", "words", "decode", "repeat", "exit_layer"} <= set(document)
        for name in ("lmsl.json", "adapter_config.json"):
            assert str(run.parent) not in (run / name).read_text(), "a trace of this machine"

    def test_card_states_scores_and_use(self, run: Path) -> None:
        card = (run / "README.md").read_text(encoding="utf-8")
        assert "base_model:" not in card, "the hub would read tiny as a repository"
        assert 'lmsl.unmask(model, "0011")' in card
        for split in ("dev", "test"):
            assert f"{100 * metrics_of(run)[split]['f1']:.2f}" in card

    def test_tokenizer_is_that_of_the_base(self, run: Path) -> None:
        text = "Zoë's café 🙂 sold 1,234 items."
        ours = AutoTokenizer.from_pretrained(str(run))(text)["input_ids"]
        assert ours == load_base("tiny").tokenizer(text)["input_ids"]


class TestRepetition:
    def test_config_file_repeats_the_run_bitwise(self, run: Path, tmp_path: Path) -> None:
        again = tmp_path / "again"
        config = str(run / "config.yaml")
        assert main(["train", "--config", config, "--output", str(again)]) == 0
        same_files(run, again)

    def test_another_seed_is_another_run(self, run: Path, data: Path, tmp_path: Path) -> None:
        other = train(data, tmp_path / "other", "--seed", "2")
        assert (other / ADAPTER).read_bytes() != (run / ADAPTER).read_bytes()
        first = [updates_of(path)[0]["tokens"] for path in (run, other)]
        assert first[0] != first[1], "the order should differ too"

    def test_what_saves_memory_changes_nothing(
        self, run: Path, data: Path, tmp_path: Path
    ) -> None:
        # Weights of so small a model are kept by default.
        other = train(data, tmp_path / "other", "--resident", "no", "--checkpointing", "yes")
        same_files(run, other, ADAPTER, "head.safetensors", "log.jsonl")

    def test_checkpointing_by_transformers_changes_nothing(
        self, data: Path, tmp_path: Path
    ) -> None:
        flags = ("--block", "plain", "--max-steps", "2")
        one = train(data, tmp_path / "one", *flags)
        with warnings.catch_warnings():
            # The method that switches it on has changed its name.
            warnings.simplefilter("error", FutureWarning)
            other = train(data, tmp_path / "other", *flags, "--checkpointing", "yes")
        same_files(one, other, ADAPTER, "head.safetensors", "log.jsonl")


class Stop(Console):
    """Interrupts training when the given epoch has been evaluated."""

    def __init__(self, epoch: int) -> None:
        super().__init__(quiet=True)
        self.epoch = epoch

    def say(self, line: str) -> None:
        if line.lstrip().startswith(f"epoch {self.epoch}:"):
            raise KeyboardInterrupt


def config_of(data: Path, output: Path, **changes: Any) -> Config:
    settings: dict[str, Any] = {"unmask": ("0011",), "data": str(data), "output": output}
    short = {"max_steps": 6, "epochs": 2, "batch_size": 4, "device": "cpu"}
    return Config(**{**settings, **short, **changes})


class TestResume:
    def test_interrupted_and_resumed_is_uninterrupted(
        self, run: Path, data: Path, tmp_path: Path
    ) -> None:
        output = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            train_runs(config_of(data, output), Stop(epoch=2))
        assert {path.name for path in output.iterdir()} == {"checkpoint", "log.jsonl"}
        with pytest.raises(lmsl.InputError, match="interrupted run"):
            check_output(output, overwrite=False, resume=False)
        train_runs(config_of(data, output, resume=True), Console(quiet=True))
        same_files(run, output)
        assert {path.name for path in output.iterdir()} == FILES

    def test_interrupted_before_the_first_checkpoint_leaves_nothing(
        self, data: Path, tmp_path: Path
    ) -> None:
        output = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            train_runs(config_of(data, output), Stop(epoch=1))
        assert not output.exists()

    def test_a_finished_run_is_loaded_and_left_alone(
        self, run: Path, data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = (run / "metrics.json").stat().st_mtime_ns
        train(data, run, "--resume")
        assert "finished already" in capsys.readouterr().err
        assert (run / "metrics.json").stat().st_mtime_ns == before


class TestReload:
    def test_a_fresh_process_predicts_and_scores_bitwise_the_same(
        self, run: Path, data: Path, tmp_path: Path
    ) -> None:
        test, predictions = str(data / "test.conll"), tmp_path / "predictions.conll"
        flags = ("--predictions", str(predictions), "--device", "cpu")
        code = "import sys; from lmsl.cli import main; sys.exit(main())"
        out = fresh_process(code, "evaluate", str(run), test, *flags)
        assert json.loads(out) == metrics_of(run)["test"]
        assert predictions.read_bytes() == (run / "predictions.test.conll").read_bytes()

    def test_predict_gives_the_tags_of_the_predictions_file(
        self, run: Path, data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        capsys.readouterr()
        assert main(["predict", str(run), str(data / "test.conll"), "--device", "cpu"]) == 0
        answer = tmp_path / "answer.conll"
        answer.write_text(capsys.readouterr().out, encoding="utf-8")
        tags = [[(row[0], row[-1]) for row in sentence] for sentence in rows(answer)]
        expected = rows(run / "predictions.test.conll")
        assert tags == [[(row[0], row[2]) for row in sentence] for sentence in expected]

    def test_relative_base_folder_loads_from_elsewhere(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        base = load_base("tiny")
        base.decoder.save_pretrained(tmp_path / "models" / "mine")
        base.tokenizer.save_pretrained(tmp_path / "models" / "mine")
        monkeypatch.chdir(tmp_path)
        run = train(data, Path("run"), "--model", "models/mine", "--max-steps", "1").resolve()
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        labeler = lmsl.Labeler.load(run, device="cpu")
        assert Path(labeler.info.base) == tmp_path / "models" / "mine"
        assert "# mine, unmasked 0011" in (run / "README.md").read_text()

    def test_peft_reload_gives_the_same_hidden_states(self, data: Path, tmp_path: Path) -> None:
        peft = pytest.importorskip("peft")
        run = train(data, tmp_path / "run", "--quantize", "none", "--max-steps", "2")
        labeler = lmsl.Labeler.load(run, device="cpu")
        ids = labeler._aligner.encode([["Stetol", "opened", "today", "."]])[0].ids
        batch = torch.tensor(ids)[None].long()
        folder = Path(lmsl.__file__).parent / "tiny"
        model = AutoModel.from_pretrained(str(folder), dtype=torch.float32)
        plain = model(batch, use_cache=False).last_hidden_state
        wrapped = peft.PeftModel.from_pretrained(model, str(run)).eval()
        lmsl.unmask(wrapped, "0011")
        with torch.inference_mode():
            theirs = wrapped(batch, use_cache=False).last_hidden_state
            ours = labeler.tagger.decoder(batch, use_cache=False).last_hidden_state
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        assert (ours - plain).abs().max() > 1e-2, "adapter and mask should matter"
