"""The small-scale study: equal batches and beginnings, no leak, resumption, order, table."""

import io
import json
import shutil
import signal
import tarfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import lmsl
from benchmarks.shared.machine import REPOSITORY
from benchmarks.small_scale import __main__ as study
from benchmarks.small_scale import pretraining, stages
from benchmarks.small_scale.clock import Clock, TimeIsUp
from benchmarks.small_scale.material import parts
from benchmarks.small_scale.plan import (
    MODES,
    cell_of,
    checkpoints,
    fine_tunings,
    folder_name,
    system_of,
    total_updates,
)
from benchmarks.small_scale.pretraining import (
    OBJECTIVES,
    Course,
    Learner,
    Objective,
    beginner,
    learn,
    loss_of,
    masked,
    rate_factor,
)
from benchmarks.small_scale.settings import Settings
from benchmarks.small_scale.table import curves, markdown, rows_of
from benchmarks.small_scale.text import BLOCK, Corpus, corpus, in_blocks, learned, novels
from benchmarks.study.cells import Cell
from benchmarks.study.records import read_records
from benchmarks.study.training import Failed
from lmsl.data.read import read
from lmsl.data.synthetic import pretraining_paragraphs
from lmsl.errors import InputError, TrainingError
from lmsl.tagger.base import load_base
from tests.small_runs import metrics_of, train

PARAGRAPHS = 200


def write_archive(path: Path, **texts: bytes) -> Path:
    with tarfile.open(path, "w:xz") as archive:
        for name, text in texts.items():
            member = tarfile.TarInfo(f"novels/{name.replace('_', '.')}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return path


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of two novels; one begins with a byte order mark and has lines of a PC."""
    folder = tmp_path_factory.mktemp("text")
    found = list(islice(pretraining_paragraphs(7), PARAGRAPHS))
    first, second = found[: PARAGRAPHS // 2], found[PARAGRAPHS // 2 :]
    return write_archive(
        folder / "novels.tar.xz",
        one_txt="\ufeff".encode() + "\r\n\r\n".join(first).encode(),
        README_md=b"no novel",
        two_txt="\n\n".join(second).encode(),
    )


@pytest.fixture(scope="module")
def prepared(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scratch folder with tokenizer and blocks."""
    folder = tmp_path_factory.mktemp("corpus")
    corpus(text, folder, None, 2)
    return folder


@pytest.fixture(scope="module")
def blocks(text: Path, prepared: Path) -> Corpus:
    return corpus(text, prepared, None, 2)


@pytest.fixture(scope="module")
def course(blocks: Corpus) -> Course:
    return Course(corpus=blocks, width=32, head=32, blocks=2, updates=20, lr=1e-3)


SMALL = {"width": 32, "tokens": 500, "blocks": 2, "checkpoints": 2, "threads": 1}


def tiny(text: Path, folder: Path, **others: Any) -> Settings:
    """Settings of a pre-training of two updates, unless others are asked for."""
    return Settings(text=text, scratch=folder, record=folder / "record.jsonl", **(SMALL | others))


class Learners:
    """Both, after some updates."""

    def __init__(self, course: Course, updates: int = 3) -> None:
        self.course = course
        self.own = {name: beginner(name, course) for name in OBJECTIVES}
        for learner in self.own.values():
            for _ in range(updates):
                learn(learner, course)

    def __getitem__(self, objective: Objective) -> Learner:
        return self.own[objective]


@pytest.fixture(scope="module")
def learners(course: Course) -> Learners:
    return Learners(course)


# ---- text


def test_an_archive_gives_its_novels_and_nothing_else(text: Path) -> None:
    first, second = novels(text)
    assert not first.startswith("\ufeff") and "\r" not in first and "no novel" not in second
    assert first.count("\n\n") == PARAGRAPHS // 2 - 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "expected a tar archive of .txt files"), (b"no archive", "expected a tar archive")],
)
def test_what_is_no_archive_is_refused(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(InputError, match=expected):
        list(novels(tmp_path / "a.tar"))


def test_an_archive_without_text_and_one_with_too_little_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected .txt files in it, found none"):
        list(novels(write_archive(tmp_path / "a.tar", README_md=b"text")))
    short = write_archive(tmp_path / "b.tar", a_txt=b"word " * 150)
    with pytest.raises(InputError, match="expected 4 blocks of 128 tokens and some to hold out"):
        corpus(short, tmp_path / "scratch", None, 4)
    assert not (tmp_path / "scratch" / "blocks.npy").exists()


def test_blocks_are_the_text_end_to_end(blocks: Corpus) -> None:
    tokenizer = blocks.tokenizer
    assert [tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id] == [0, 1, 2]
    assert tokenizer.mask_token_id == 4
    said = ["Ada , in Rome", "", "naïve 𝒳 \u200d"]
    ids = [id for own in tokenizer(said)["input_ids"] for id in own]
    assert (
        tokenizer.decode(tokenizer(said)["input_ids"][2], skip_special_tokens=True).strip()
        == (said[2])
    )
    many = in_blocks(tokenizer, said * 30)
    assert many.dtype == np.uint16 and many.shape == (30 * len(ids) // BLOCK, BLOCK)
    assert many.ravel().tolist() == (ids * 30)[: many.size]
    assert in_blocks(tokenizer, said[:1]).shape == (0, BLOCK)


def test_a_pass_shows_every_block_once_and_none_that_is_held_out(blocks: Corpus) -> None:
    held = {row.tobytes() for row in blocks.held_out.numpy()}
    assert len(held) == len(blocks.blocks) // 10
    size = 4
    per_pass = (len(blocks.blocks) - len(held)) // size
    passes = [
        [row.tobytes() for n in range(per_pass) for row in blocks.batch(first + n, size).numpy()]
        for first in (0, per_pass)
    ]
    for shown in passes:
        assert len(set(shown)) == len(shown) == per_pass * size and not held & set(shown)
    assert passes[0] != passes[1], "every pass has an order of its own"


def test_another_tokenizer_is_taken_and_one_that_hides_nothing_refused(
    text: Path, tmp_path: Path
) -> None:
    own = learned(["a b c " * 30])
    own.save_pretrained(tmp_path / "own")
    found = corpus(text, tmp_path / "scratch", tmp_path / "own", 2)
    assert len(found.tokenizer) == len(own) < 300
    own.mask_token = None
    own.save_pretrained(tmp_path / "bad")
    with pytest.raises(InputError, match="--tokenizer: expected a mask token"):
        corpus(text, tmp_path / "other", tmp_path / "bad", 2)


# ---- objectives


def test_both_begin_with_the_same_weights(course: Course) -> None:
    first, second = (beginner(name, course).model.state_dict() for name in OBJECTIVES)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_both_see_the_same_batches(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[torch.Tensor]()

    def noted(self: Corpus, update: int, size: int) -> torch.Tensor:
        seen.append(original(self, update, size))
        return seen[-1]

    original = Corpus.batch
    monkeypatch.setattr(Corpus, "batch", noted)
    both = Learners(course)
    assert len(seen) == 6 and not torch.equal(seen[0], seen[1])
    assert all(map(torch.equal, seen[:3], seen[3:]))
    rates = [both[name].optimizer.param_groups[0]["lr"] for name in OBJECTIVES]
    assert rates == [course.lr * rate_factor(2, course.updates)] * 2


def test_the_rate_rises_and_falls_to_nothing() -> None:
    factors = [rate_factor(update, 200) for update in range(200)]
    assert max(factors) == factors[4] == 1.0 and factors[:4] == [0.2, 0.4, 0.6, 0.8]
    assert factors[4:] == sorted(factors[4:], reverse=True) and factors[-1] < 1e-4


def test_masks_are_the_usual_ones(blocks: Corpus) -> None:
    ids, tokenizer = blocks.batch(0, 140), blocks.tokenizer
    shown, labels = masked(ids, tokenizer, 0)
    wanted = labels != -100
    words = ~torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    assert not wanted[~words].any() and torch.equal(labels[wanted], ids[wanted])
    assert torch.equal(shown[~wanted], ids[~wanted])
    count = int(wanted.sum())
    hidden = int((shown[wanted] == tokenizer.mask_token_id).sum())
    same = int((shown[wanted] == ids[wanted]).sum())
    # Four standard deviations of a share of so many.
    for share, of, number in ((0.15, int(words.sum()), count), (0.8, count, hidden)):
        assert abs(number / of - share) < 4 * (share * (1 - share) / of) ** 0.5
    for share, number in ((0.1, same), (0.1, count - hidden - same)):
        assert abs(number / count - share) < 4 * (share * (1 - share) / count) ** 0.5
    again, other = (masked(ids, tokenizer, seed)[0] for seed in (0, 1))
    assert torch.equal(again, shown) and not torch.equal(other, shown)


def test_the_loss_of_masked_words_is_that_of_transformers(learners: Learners) -> None:
    course = learners.course
    ids, model = course.corpus.held_out, learners["masked"].model
    shown, labels = masked(ids, course.corpus.tokenizer, 5)
    expected = model(input_ids=shown, labels=labels).loss
    found = loss_of(learners["masked"], ids, course.corpus.tokenizer, 5)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def changed_positions(learner: Learner, ids: torch.Tensor, place: int) -> list[int]:
    """Where predictions differ when the word at a place is another."""
    other = ids.clone()
    other[:, place] = (ids[:, place] + 7) % 200 + 5
    with torch.no_grad():
        before, after = (learner.model(input_ids=one).logits for one in (ids, other))
    return (before - after).abs().amax(dim=(0, 2)).gt(1e-6).nonzero().flatten().tolist()


@pytest.mark.parametrize("place", [1, 63, BLOCK - 1])
def test_no_later_word_leaks_into_the_next_ones_prediction(place: int, learners: Learners) -> None:
    ids = learners.course.corpus.batch(0, 2)
    causal = changed_positions(learners["causal"], ids, place)
    assert causal == list(range(place, BLOCK))
    assert changed_positions(learners["masked"], ids, place) == list(range(BLOCK))


def test_both_learn(course: Course) -> None:
    both = Learners(replace(course, updates=60, lr=5e-3), 60)
    for name in OBJECTIVES:
        losses = both[name].losses
        assert np.mean(losses[-5:]) < losses[0] - 1.0
    assert both["causal"].losses[0] == pytest.approx(np.log(len(course.corpus.tokenizer)), abs=0.5)


def test_a_loss_that_is_not_finite_ends_it(course: Course) -> None:
    learner = beginner("causal", course)
    with torch.no_grad():
        learner.model.lm_head.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"update 1 of causal words: .*--pretraining-lr"):
        learn(learner, course)
    assert learner.updates == 0


# ---- what is saved


@pytest.mark.parametrize(("objective", "string"), [("causal", "0000"), ("masked", "1111")])
def test_a_saved_model_is_an_encoder_that_a_string_makes_what_it_was(
    objective: Objective, string: str, learners: Learners, tmp_path: Path
) -> None:
    learner, ids = learners[objective], learners.course.corpus.batch(0, 1)
    pretraining.save_model(learner, learners.course.corpus.tokenizer, tmp_path / "model")
    pretraining.save_model(learner, learners.course.corpus.tokenizer, tmp_path / "model")
    base = load_base(str(tmp_path / "model"))
    assert base.kind == "encoder" and base.depth == 4
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with torch.no_grad():
        expected = learner.model.roberta(input_ids=ids).last_hidden_state
        for own in ("0000", "0011", "1111"):
            decoder = lmsl.unmask(base.decoder.eval(), own)
            found = decoder(input_ids=ids, use_cache=False).last_hidden_state
            assert torch.allclose(found, expected, atol=1e-5) == (own == string)


def test_a_saved_model_is_fine_tuned(learners: Learners, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    pretraining.save_model(learners["causal"], learners.course.corpus.tokenizer, folder)
    flags = system_of(MODES[0], 0, Settings()).flags
    asked = ("--model", str(folder), *flags, "--max-steps", "1", "--lr", "0.001")
    run = train(data, tmp_path / "run", *asked, unmask=("0011",))
    assert metrics_of(run)["dev"]["gold"] > 0


# ---- going on


@pytest.fixture(scope="module")
def finished(text: Path, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after pre-training."""
    folder = tmp_path_factory.mktemp("finished") / "scratch"
    settings = tiny(text, shutil.copytree(prepared, folder))
    assert pretrained(settings, 10_000) == 1
    return folder


class Ticks(Clock):
    """Over after it was asked so often."""

    def __init__(self, count: int) -> None:
        super().__init__(None)
        self.count = count

    @property
    def over(self) -> bool:
        self.count -= 1
        return self.count < 0


def pretrained(settings: Settings, ticks: int) -> int:
    """Pre-train in pieces; how many there were."""
    stages.check_origin(settings)
    for piece in range(1, 20):
        try:
            stages.pretrain(settings, Ticks(ticks))
            return piece
        except TimeIsUp:
            pass
    raise AssertionError("it does not come to its end")


def test_pieces_give_the_weights_of_one_go_to_the_bit(
    text: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    whole, pieces = (
        tiny(text, shutil.copytree(prepared, tmp_path / name), tokens=2500, checkpoints=4)
        for name in ("whole", "pieces")
    )
    assert pretrained(whole, 10_000) == 1
    assert pretrained(pieces, 4) == 5
    names = {folder_name(o, updates, whole) for o in OBJECTIVES for updates in checkpoints(whole)}
    assert len(names) == 7 and "causal-2560" in names
    models = [load_file(whole.scratch / "checkpoints" / n / "model.safetensors") for n in names]
    for name, expected in zip(names, models, strict=True):
        found = load_file(pieces.scratch / "checkpoints" / name / "model.safetensors")
        assert all(torch.equal(found[key], expected[key]) for key in expected), name
    word = "embeddings.word_embeddings.weight"
    assert len({one[word].numpy().tobytes() for one in models}) == 7, "all are different"
    lines = [read_records(own.record, own.same) for own in (whole, pieces)]
    first, second = (
        {cell: {k: v for k, v in one.items() if k != "machine"} for cell, one in found.items()}
        for found in lines
    )
    assert len(first) == 8 and first == second
    assert "held-out loss" in capsys.readouterr().out


def test_who_is_asked_to_stop_keeps_the_update_at_work(
    asked: list[str], prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learnt(*both: Any) -> float:
        loss = learn(*both)
        signal.raise_signal(signal.SIGTERM)
        return loss

    monkeypatch.setattr(stages, "learn", learnt)
    scratch = shutil.copytree(prepared, tmp_path / "new")
    assert study.main([*asked, f"--scratch={scratch}"]) == 143
    state = torch.load(scratch / "pretraining" / "masked.pt", weights_only=True)
    assert state["updates"] == len(state["losses"]) == 1


def test_a_finished_pre_training_is_not_touched(
    text: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "corpus", None)
    stages.pretrain(tiny(text, shutil.copytree(finished, tmp_path / "scratch")), Ticks(0))


def test_a_state_that_is_none_is_refused(text: Path, prepared: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(prepared, tmp_path / "scratch")
    settings = tiny(text, folder)
    stages.check_origin(settings)
    with pytest.raises(TimeIsUp):
        stages.pretrain(settings, Ticks(1))
    (folder / "pretraining" / "masked.pt").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"masked.pt: cannot be gone on from"):
        stages.pretrain(settings, Ticks(1))


def test_a_folder_of_other_settings_is_refused(text: Path, tmp_path: Path) -> None:
    stages.check_origin(tiny(text, tmp_path))
    stages.check_origin(tiny(text, tmp_path, lr=2e-3, seeds=1, minutes=3.0))
    with pytest.raises(InputError, match=r"made with width 32, got 64; name another folder"):
        stages.check_origin(tiny(text, tmp_path, width=64))
    other = write_archive(tmp_path / "other.tar", a_txt=b"another text")
    with pytest.raises(InputError, match="made with text "):
        stages.check_origin(tiny(other, tmp_path))


def test_an_alarm_ends_waiting_and_is_off_afterwards() -> None:
    began = time.monotonic()
    with pytest.raises(TimeIsUp), Clock(0.001).alarm():
        time.sleep(30)
    assert time.monotonic() - began < 10
    clock = Clock(0.001)
    with clock.alarm():
        pass
    time.sleep(0.1)
    assert clock.over and not Clock(None).over


# ---- order


def test_checkpoints_are_spread_geometrically() -> None:
    settings = Settings(tokens=81 * 4096 * 10)
    assert checkpoints(settings) == [0, 10, 30, 90, 270, 810]
    assert total_updates(replace(settings, tokens=1)) == 1
    assert checkpoints(replace(settings, tokens=1)) == [0, 1]
    assert checkpoints(replace(settings, checkpoints=2)) == [0, 810]
    few = replace(settings, tokens=4096 * 4 + 1)
    assert checkpoints(few) == [0, 1, 2, 5], "the last holds all tokens asked for, and some"


def test_a_seed_of_everything_comes_before_the_next() -> None:
    settings = Settings(seeds=3, checkpoints=3, tokens=4096 * 9)
    plan = fine_tunings(settings)
    # Two models for each objective with four modes, the initial one with three.
    assert len(plan) == 3 * 3 * (2 * 4 + 3)
    assert [cell.seed for cell in plan] == sorted(cell.seed for cell in plan)
    data = [cell.data for cell in plan if cell.seed == 1]
    assert data == ["snips"] * 11 + ["conll2000"] * 11 + ["mams_atsa"] * 11
    first = [cell.system for cell in plan][:7]
    assert first == [
        *("initial 1111", "initial 0000", "initial 0011"),
        *("masked-12288 1111", "causal-12288 0000", "causal-12288 1111", "causal-12288 0011"),
    ]
    assert all(cell.lr == settings.lr and cell.ready for cell in plan)
    flags = {system.flags for system in plan.values()}
    assert flags == {("--tune", "full", "--max-length", "128")}


# ---- labelled data


def columns(path: Path, sentences: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"Ada{n} NN B-NP\nsleeps VB B-VP\n\n" for n in range(sentences))
    path.write_text(text)


def test_a_set_without_dev_has_some_of_train_held_out(tmp_path: Path) -> None:
    for split, sentences in (("train", 40), ("test", 6)):
        columns(tmp_path / "data" / "conll2000" / f"{split}.txt", sentences)
    found = parts("conll2000", tmp_path / "data", tmp_path / "scratch", (20, 3, 6))
    train, dev, test = (read(path) for path in (found.part, found.dev, found.test))
    assert [len(one) for one in (train, dev, test)] == [20, 3, 6]
    words = [{one.words[0] for one in own} for own in (train, dev)]
    assert not words[0] & words[1]
    assert (found.sentences, found.whole_sentences) == (20, 36)
    assert found.gold == {"dev": 6, "test": 12} and found.words == 40 + 2 * 6 + 12
    again = parts("conll2000", tmp_path / "data", tmp_path / "other", (20, 3, 6))
    assert again.part.read_bytes() == found.part.read_bytes(), "whatever the seed"


def test_what_is_not_cut_is_read_where_it_lies(tmp_path: Path) -> None:
    for file in ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"):
        columns(tmp_path / "data" / "wnut17" / file, 6)
    found = parts("wnut17", tmp_path / "data", tmp_path / "scratch", (100, 5, 6))
    assert found.part == found.whole == tmp_path / "data" / "wnut17" / "wnut17train.conll"
    assert found.test.name == "emerging.test.annotated"
    assert len(read(found.dev)) == 5 and found.dev.is_relative_to(tmp_path / "scratch")
    assert found.gold == {"dev": 10, "test": 12}


def test_missing_files_are_named(tmp_path: Path) -> None:
    columns(tmp_path / "conll2000" / "train.txt", 4)
    with pytest.raises(InputError, match=r"conll2000 with train.txt, test.txt, found no test.txt"):
        parts("conll2000", tmp_path, tmp_path, (1, 1, 1))


# ---- the loop


def good(f1: float) -> dict[str, Any]:
    rates = dict.fromkeys(("f1", "precision", "recall"), f1)
    scores = {**rates, "gold": 4, "predicted": 4, "correct": 2, "per_type": {}}
    figures = {"made": 5, "measured": "measured: none", "seconds": 60.0, "resumed": False}
    return {"dev": scores, "test": scores, "test_units": {}, **figures}


class Trainings:
    """Stands for real ones: notes who came, fails or stops whom it is told to."""

    def __init__(self, **told: Callable[[], None]) -> None:
        self.told, self.seen, self.anew = told, list[Cell](), list[bool]()

    def __call__(self, cell: Cell, *others: Any, anew: bool) -> dict[str, Any]:
        self.seen.append(cell)
        self.anew.append(anew)
        for name, act in self.told.items():
            if name == cell.system.split()[0]:
                act()
        return good(0.5)


def fails() -> None:
    raise Failed("exit status 1: full disk")


def stops() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def asked(text: Path, finished: Path, tmp_path: Path) -> list[str]:
    """Flags of a study on few sentences; three models are fine-tuned, which are there."""
    for split, times in (("train", 6), ("valid", 2), ("test", 1)):
        folder = tmp_path / "data" / "snips" / split
        folder.mkdir(parents=True)
        (folder / "seq.in").write_text("see Ada\ngo to Rome\n" * times)
        (folder / "seq.out").write_text("O B-per\nO O B-loc\n" * times)
    shutil.copytree(finished, tmp_path / "scratch")
    named = {"text": text, "scratch": tmp_path / "scratch", "data": tmp_path / "data"}
    named |= {"record": tmp_path / "scratch" / "record.jsonl"}
    flags = [f"--{flag}={value}" for flag, value in (named | SMALL).items()]
    return [*flags, "--datasets", "snips", "--seeds", "1"]


def run(asked: Sequence[str], trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(stages, "trained", trainings)
    return study.main(asked)


def test_cells_are_done_once_and_failed_ones_again_when_asked(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Trainings(**{"masked-512": fails})
    assert run(asked, first, monkeypatch) == 1
    assert len(first.seen) == 7 and not any(first.anew)
    said = capsys.readouterr().out
    assert "7 of 7 fine-tunings left, 0 failed" in said
    assert "failed: exit status 1: full disk" in said and "test F1 50.00" in said
    assert "about 3 min by what such cells took" in said
    second = Trainings()
    assert run(asked, second, monkeypatch) == 1 and second.seen == []
    assert "0 of 7 fine-tunings left, 1 failed" in capsys.readouterr().out
    assert run([*asked, "--retry"], second, monkeypatch) == 0
    assert [cell.system for cell in second.seen] == ["masked-512 1111"] and second.anew == [True]
    # More seeds are more cells, of a pre-training that is there.
    third = Trainings()
    assert run([*asked, "--seeds", "2"], third, monkeypatch) == 0
    assert {cell.seed for cell in third.seen} == {2} and len(third.seen) == 7


def test_when_time_is_up_it_says_so_and_goes_on(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Over before anything is trained; then in the middle of the fifth fine-tuning.
    assert run([*asked, "--minutes", "1e-9"], Trainings(), monkeypatch) == 0
    assert "the time is over; the same command goes on" in capsys.readouterr().out
    seen = Trainings(**{"causal-512": lambda: time.sleep(30)})
    monkeypatch.setattr(study, "Clock", lambda minutes: Brief(seen))
    assert run([*asked, "--minutes", "1"], seen, monkeypatch) == 0
    said = capsys.readouterr().out
    assert "the time is over" in said and said.count("test F1") == len(seen.seen) - 1 == 4
    monkeypatch.undo()
    rest = Trainings()
    assert run(asked, rest, monkeypatch) == 0
    assert rest.seen[0] == seen.seen[-1] and len(rest.seen) == 3


class Brief(Clock):
    """A tenth of a second for the fifth training, and time enough for the others."""

    def __init__(self, trainings: Trainings) -> None:
        super().__init__(1)
        self.trainings = trainings

    def alarm(self) -> AbstractContextManager[None]:
        return Clock(0.002 if len(self.trainings.seen) == 4 else 1).alarm()


def test_who_stops_it_is_told_how_to_go_on(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(asked, Trainings(initial=stops), monkeypatch) == 130
    assert capsys.readouterr().out.endswith("stopped; the same command goes on from here\n")


def test_a_record_says_what_was_trained_and_nothing_of_this_machine(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run(asked, Trainings(), monkeypatch) == 0
    said = (tmp_path / "scratch" / "record.jsonl").read_text()
    lines = list(map(json.loads, said.splitlines()))
    assert len(lines) == 4 + 7 and str(tmp_path.parent) not in said
    assert lines[1]["cell"]["system"] == "masked 512" and lines[1]["updates"] == 2
    assert lines[1]["config"]["parameters"] > 32 * lines[1]["config"]["vocabulary"]
    assert lines[-1]["config"]["unmask"] == "0011" and "per_type" not in lines[-1]["test"]
    assert lines[-1]["machine"]["versions"]["torch"] and "commit" in lines[-1]["machine"]


def test_refusals_are_one_line(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = str(REPOSITORY / "scratch")
    for flags, expected in (
        (["--datasets", "conll"], "--datasets: expected some of snips, conll2000, mams_atsa"),
        (["--width", "33"], "--width: expected a multiple of 32, which a head has, got 33"),
        (["--width", "800"], "--width: expected a multiple of 64"),
        (["--checkpoints", "1"], "--checkpoints: expected at least 2, got 1"),
        (["--lr", "0"], "--lr: expected more than 0"),
        (["--pretraining-lr", "nan"], "--pretraining-lr: expected more than 0"),
        (["--minutes", "0"], "--minutes: expected more than 0"),
        (["--scratch", inside], "expected a folder outside the repository"),
        (["--text", str(tmp_path / "absent")], "expected a tar archive, found none"),
        (["--table"], "expected cells that are done, found none"),
    ):
        assert study.main([*asked, *flags]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and expected in error and error.count("\n") == 1


# ---- the table


@pytest.fixture
def scored() -> tuple[Settings, dict[Cell, Any]]:
    """Settings, and the records of some cells of snips."""
    settings = Settings(seeds=3, checkpoints=3, tokens=4096 * 9, datasets=("snips", "wnut17"))
    initial = system_of(MODES[0], 0, settings)
    last = system_of(MODES[1], 9, settings)
    machine = {"date": "2024-01-25"}
    records = {
        cell_of("snips", system, seed): {"status": "done", "machine": machine, **good(f1)}
        for system, seed, f1 in ((initial, 1, 0.5), (initial, 2, 0.6), (last, 3, 0.7))
    }
    records[cell_of("wnut17", last, 1)] = {"status": "failed", "reason": "full disk"}
    return settings, records


def test_the_table_has_a_row_for_each_checkpoint(
    scored: tuple[Settings, dict[Cell, Any]],
) -> None:
    settings, records = scored
    tables = {data: rows_of(data, settings, records) for data in settings.datasets}
    lines = markdown(settings, tables, records)
    place = lines.index("## snips")
    assert lines[place + 2] == (
        "| tokens | Encoder | Decoder masked | Decoder unmasked | Decoder 0011 |"
    )
    # The initial model is the encoder's and the unmasked decoder's alike.
    assert lines[place + 4] == "| 0 | 55.00 ± 7.07 (2) |  | 55.00 ± 7.07 (2) |  |"
    assert lines[place + 5] == "| 36,864 |  | 70.00 (1) |  |  |"
    assert "## wnut17" not in lines
    assert "Not there yet: 62 of 66 fine-tunings." in lines
    assert lines[-1] == "- failed: wnut17, causal-36864 0000, lr 0.001, seed 1: full disk"
    points = curves(settings, tables)
    assert list(points) == ["snips"]
    assert points["snips"]["Encoder"] == [(0, pytest.approx(55), pytest.approx(7.0711, abs=1e-4))]
    assert points["snips"]["Decoder masked"] == [(36864, pytest.approx(70), 0.0)]


def test_the_table_is_written_with_losses_and_a_picture(
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib")
    assert run(asked, Trainings(), monkeypatch) == 0
    # Settings of another study in the same record are no part of this table.
    assert study.main([*asked, "--table", "--updates", "7"]) == 2
    assert study.main([*asked, "--table"]) == 0
    said = (tmp_path / "scratch" / "record.md").read_text()
    assert said in capsys.readouterr().out
    assert "| 512 | 50.00 (1) | 50.00 (1) | 50.00 (1) | 50.00 (1) |" in said
    losses = next(line for line in said.splitlines() if line.startswith("| 0 | ")).split(" | ")
    assert all(4 < float(loss.strip(" |")) < 10 for loss in losses[1:])
    assert "Not there yet" not in said
    assert (tmp_path / "scratch" / "record.png").read_bytes().startswith(b"\x89PNG")
