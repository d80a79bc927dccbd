"""``lmsl predict`` on files and pipes: answered in order, as it comes, readable again."""

import io
import itertools
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lmsl
from lmsl.cli import main
from lmsl.cli.predict import BLOCK, FIRST_BLOCK, predict_stream
from lmsl.data.formats.layout import HEAD
from lmsl.data.formats.options import ReadOptions
from lmsl.data.read import read_with
from lmsl.data.resolve import EMPTY_WORD
from tests.small_runs import environment, refused, train, written


@pytest.fixture(scope="module")
def run(talkative_run: Path) -> Path:
    return talkative_run


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = "The\tDT\ndog\tNN\nbarks\tVBZ\n\na\tDT\n\n"
    data = written(tmp_path_factory.mktemp("data"), train=text, dev=text)
    flags = ("--scheme", "plain", "--max-steps", "1")
    return train(data, tmp_path_factory.mktemp("runs") / "plain", *flags)


class Piped:
    """Runs ``lmsl predict`` in this process on bytes as standard input."""

    def __init__(
        self, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.run, self.monkeypatch, self.capsys = run, monkeypatch, capsys
        self.status, self.err = 0, ""

    def __call__(self, text: str, *flags: str) -> list[str]:
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        self.capsys.readouterr()
        self.status = main(["predict", str(self.run), *flags, "--device", "cpu"])
        captured = self.capsys.readouterr()
        self.err = captured.err
        return captured.out.split("\n")[:-1]


@pytest.fixture
def piped(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Piped:
    return Piped(run, monkeypatch, capsys)


def read_back(tmp_path: Path, name: str, lines: list[str], **options: Any) -> Any:
    (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return read_with(tmp_path / name, ReadOptions(**options)).sentences


class TestStream:
    def test_text_is_answered_line_by_line(
        self, piped: Piped, labeler: lmsl.Labeler, tmp_path: Path
    ) -> None:
        texts = ["", "  ", "Stetol opened the harbour.", "", "  Foris 👍🏽 sat\u2028there", "{ no"]
        answers = [json.loads(line) for line in piped("\n".join(texts))]
        assert [answer["text"] for answer in answers] == texts
        for answer, found in zip(answers, labeler.predict(texts), strict=True):
            spans = [(s["start"], s["end"], s["label"], s["text"]) for s in answer["spans"]]
            assert spans == [(e.start, e.end, e.label, e.text) for e in found]
        lines = [json.dumps(answer, ensure_ascii=False) for answer in answers]
        back = read_back(tmp_path, "back.jsonl", lines, strict_tags=True)
        assert [sentence.text for sentence in back] == [text for text in texts if text.strip()]

    def test_json_keeps_id_and_document(self, piped: Piped, tmp_path: Path) -> None:
        items: list[dict[str, Any]] = [
            {"id": "a", "doc": "d1", "text": "Stetol opened."},
            {"id": "b", "tokens": ["Love lace", "sat", "\u200b"]},
            {"tokens": [], "id": "c"},
            {"text": "caf\u00e9 Foris", "spans": [{"start": 0, "end": 4, "label": "OLD"}]},
            {"id": 7, "doc": 0, "tokens": ["Ada"]},
            {"id": "7", "doc": "0", "text": "Ada"},
            {"id": -(10**30), "text": "Ada"},
        ]
        lines = piped("\n\n" + "\n".join(json.dumps(item) for item in items))
        answers = [json.loads(line) for line in lines]
        assert [answer.get("id") for answer in answers] == ["a", "b", "c", None, 7, "7", -(10**30)]
        assert [answer.get("doc") for answer in answers] == ["d1", None, None, None, 0, "0", None]
        assert answers[1]["tokens"] == items[1]["tokens"]
        assert "café" in lines[3], "characters stay as they are"
        for answer in answers:
            text = answer.get("text", " ".join(answer.get("tokens", ())))
            assert all(text[s["start"] : s["end"]] == s["text"] for s in answer["spans"])
        back = read_back(tmp_path, "back.jsonl", lines, strict_tags=True)
        assert [sentence.id for sentence in back] == ["a", "b", None, 7, "7", -(10**30)]
        assert "OLD" not in lines[3], "what the input says of entities is not an answer"

    def test_an_array_of_json_is_read_whole(
        self, piped: Piped, tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = json.dumps([{"text": "Ada sat."}, {"tokens": ["Ada"]}], indent=2)
        assert len(piped(text, "--format", "json")) == 2
        (tmp_path / "array.json").write_text(text)
        assert main(["predict", str(run), str(tmp_path / "array.json")]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 2

    @pytest.mark.parametrize(
        "bad",
        [
            *('{"text": 5}', '{"text": "a"', '{"tokens": [""]}', "plain", "[1]", '"a"'),
            # JSON may spell a surrogate alone, which is no text and cannot be written again.
            '{"text": "half \\ud83d"}',
        ],
    )
    def test_a_bad_line_is_named_and_the_lines_before_it_are_answered(
        self, bad: str, piped: Piped
    ) -> None:
        lines = piped('\n{"text": "Ada sat."}\n{"text": "b"}\n' + bad + '\n{"text": "c"}\n')
        assert piped.status == 2 and len(lines) == 2
        assert "lmsl: standard input:4: expected" in piped.err and "Traceback" not in piped.err

    def test_columns_keep_documents(
        self, piped: Piped, run: Path, tmp_path: Path, labeler: lmsl.Labeler
    ) -> None:
        start = "-DOCSTART- -X- O\n\n"
        text = start + "Ada NNP B-PER\nsat VBD O\n\nBob NNP O\n\n" + start + "c d O\n"
        lines = piped(text, "--format", "columns")
        assert sum(line.startswith("-DOCSTART-") for line in lines) == 2
        rows = [line.split("\t") for line in lines if line and not line.startswith("-DOC")]
        assert [row[0] for row in rows] == ["Ada", "sat", "Bob", "c"]
        assert [row[1:3] for row in rows] == [["0", "3"], ["4", "7"], ["0", "3"], ["0", "1"]]
        tags = labeler.predict_tags([["Ada", "sat"], ["Bob"], ["c"]])
        assert [row[-1] for row in rows] == list(itertools.chain(*tags))
        assert all(row[3] == "_" if row[4] == "O" else 0 <= float(row[3]) <= 1 for row in rows)
        back = read_back(tmp_path, "back.conll", lines, strict_tags=True, scheme="iob2")
        assert [list(sentence.tags) for sentence in back] == tags
        assert back[0].document == back[1].document != back[2].document

    def test_columns_in_a_txt_file_are_no_text(
        self, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """``evaluate`` reads such a file as columns; tagging its tags would be a bad surprise."""
        file = tmp_path / "test.txt"
        for text, kind, count in (
            ("Ada NNP B-NP\nsat VBD B-VP\n\nBob NNP I-NP\n", "columns", 3),
            ("He took vitamin B-12\nand flew a B-52\n", "text", 2),
            ("He took vitamin B-12\nand flew a B-52\nand slept\n", "text", 3),
        ):
            file.write_text(text)
            assert main(["predict", str(run), str(file), "--device", "cpu"]) == 0
            captured = capsys.readouterr()
            assert f"as {kind}," in captured.err
            assert len([line for line in captured.out.splitlines() if line]) == count

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("# sent_id = 4\nAda B-PER\nvan M-PER\nLou E-PER\n", ["Ada", "van", "Lou"]),
            ("1\tB-N\n2\tO\n", ["1", "2"]),
            ("Ada B_PER\rsat O\r\rBob B_PER\r", ["Ada", "sat", "Bob"]),
            ("so\tO\n\tB-LOC\n", ["so", EMPTY_WORD]),
        ],
        ids=["comment", "numbers", "carriage-returns", "no-word"],
    )
    def test_a_file_is_what_it_is_to_every_command(
        self, text: str, words: list[str], run: Path, tmp_path: Path, piped: Piped
    ) -> None:
        (tmp_path / "data.txt").write_text(text, newline="")
        read = read_with(tmp_path / "data.txt", ReadOptions())
        assert [word for sentence in read for word in sentence.words] == words
        for answers in (piped("", str(tmp_path / "data.txt")), piped(text)):
            assert "as columns," in piped.err
            assert [line.split("\t")[0] for line in answers if line] == words
        assert len(piped("Ada sat.\rBob sat.\r")) == 2

    def test_words_and_tags_with_a_separator_are_no_text(self, piped: Piped) -> None:
        text = "Ada,B-PER\nsat,O\n"
        assert piped(text) == [] and piped.status == 2 and "--separator ','" in piped.err
        assert [line.split("\t")[0] for line in piped(text, "--separator", ",")[:2]] == [
            "Ada",
            "sat",
        ]
        assert len(piped(text, "--format", "text")) == 2

    def test_an_endless_stream_is_asked_for_no_more_than_is_answered(
        self, labeler: lmsl.Labeler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever the format, a first answer needs the first lines alone."""
        for line in ("Ada sat.", '{"text": "Ada sat."}', "Ada\tB-PER\n"):
            asked = 0

            class Endless:
                def read1(self, size: int, line: str = line) -> bytes:
                    nonlocal asked
                    asked += 1
                    return f"{line}\n".encode()

            class Target(io.StringIO):
                def flush(self) -> None:
                    raise BrokenPipeError

            monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Endless()))
            options = ReadOptions(labelled=False)
            target = Target()
            with pytest.raises(BrokenPipeError):
                predict_stream(labeler, "-", options, target=target)
            assert 0 < len(target.getvalue().strip().split("\n")) <= 2 * FIRST_BLOCK
            assert asked <= HEAD + FIRST_BLOCK + 1

    def test_documents_go_on_from_block_to_block(
        self, piped: Piped, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lmsl.cli.predict.FIRST_BLOCK", 1)
        text = "a O\n\n-DOCSTART- O\n\nb O\n\nc O\n\nd O\n\n-DOCSTART- O\n\ne O\n\nf O\n"
        kinds = [line.split("\t")[0] for line in piped(text, "--format", "columns") if line]
        assert kinds == ["a", "-DOCSTART-", "b", "c", "d", "-DOCSTART-", "e", "f"]

    def test_more_than_a_block_of_one_document_stays_one(self, piped: Piped) -> None:
        text = "-DOCSTART- O\n\n" + "a O\n\n" * (BLOCK + 3)
        lines = piped(text, "--format", "columns")
        assert sum(line.startswith("-DOCSTART-") for line in lines) == 1
        assert sum(line.startswith("a\t") for line in lines) == BLOCK + 3

    def test_plain_tags_can_be_read_back(
        self, piped: Piped, plain_run: Path, tmp_path: Path
    ) -> None:
        piped.run = plain_run
        lines = piped("The dog barks\n\na dog\n")
        answers = [json.loads(line) for line in lines]
        assert [answer["text"] for answer in answers] == ["The dog barks", "", "a dog"]
        assert all(len(answer["tags"]) == len(answer["tokens"]) for answer in answers)
        back = read_back(tmp_path, "back.jsonl", lines, scheme="plain")
        assert [list(s.tags) for s in back] == [a["tags"] for a in answers if a["tags"]]

    def test_folders_and_xml_by_their_kind(
        self, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "seq").mkdir()
        (tmp_path / "seq" / "seq.in").write_text("Ada sat\nBob\n")
        xml = '<sentences><sentence id="7"><text>Ada sat.</text></sentence></sentences>'
        (tmp_path / "reviews.xml").write_text(xml)
        for name, count in (("seq", 2), ("reviews.xml", 1)):
            assert main(["predict", str(run), str(tmp_path / name), "--device", "cpu"]) == 0
            answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
            assert len(answers) == count
        assert answers[0]["id"] == "7" and answers[0]["text"] == "Ada sat."

    def test_an_empty_pipe_has_an_empty_answer_and_an_empty_file_a_refusal(
        self, piped: Piped, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert piped("") == [] and piped.status == 0
        (tmp_path / "empty.txt").touch()
        assert main(["predict", str(run), str(tmp_path / "empty.txt")]) == 2
        assert "empty.txt: the file is empty" in capsys.readouterr().err

    @pytest.mark.parametrize("text", ["ok\nbin\0ary\n", "ok\ncaf\udce9\n"], ids=["nul", "latin-1"])
    def test_bytes_that_are_no_text(
        self, text: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file.txt").write_bytes(text.encode("utf-8", "surrogateescape"))
        assert main(["predict", str(run), str(tmp_path / "file.txt"), "--device", "cpu"]) == 2
        captured = capsys.readouterr()
        assert "file.txt:2: expected" in captured.err and len(captured.out.splitlines()) == 1

    def test_a_pipe_is_answered_while_it_is_open(self, run: Path) -> None:
        small = "sys.modules['lmsl.cli.predict'].BLOCK = 4"
        code = f"import sys; import lmsl.cli.predict; {small}; sys.exit(lmsl.cli.main())"
        with subprocess.Popen(
            [sys.executable, "-c", code, "predict", str(run), "--device", "cpu"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            guard = threading.Timer(100, process.kill)
            guard.start()
            process.stdin.write(b"Ada sat.\n" * 4)
            process.stdin.flush()
            first = [process.stdout.readline() for _ in range(4)]
            assert all(json.loads(line)["text"] == "Ada sat." for line in first)
            process.stdin.write(b"the last\n")
            process.stdin.close()
            assert json.loads(process.stdout.readline())["text"] == "the last"
            assert process.wait() == 0
            guard.cancel()


def test_evaluate_counts_a_type_it_never_learned_as_missed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.conll").write_text("Big\tB-NEW\nthing\tI-NEW\n\nAda\tB-PER\n")
    line = ["evaluate", str(run), str(tmp_path / "new.conll"), "--device", "cpu"]
    written = tmp_path / "predictions.conll"
    assert main([*line, "--predictions", str(written)]) == 0
    captured = capsys.readouterr()
    assert "1 type unknown to the run (NEW): 1 entity counted as missed" in captured.err
    metrics = json.loads(captured.out)
    assert metrics["gold"] == 2 and metrics["per_type"]["NEW"]["gold"] == 1
    assert metrics["per_type"]["NEW"]["correct"] == 0 and "Big\tB-NEW\t" in written.read_text()
    assert main([*line, "--strict-tags"]) == 2
    advice = capsys.readouterr().err
    assert (
        "new.conll:1: tag 'B-NEW' of 'Big' does not occur" in advice and "lmsl evaluate" in advice
    )


def test_brackets_without_end_on_standard_input_are_json(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    piped = io.TextIOWrapper(io.BytesIO(b"[" * 20_000 + b"\n"))
    monkeypatch.setattr(sys, "stdin", piped)
    refused(
        capsys, ["predict", str(run), "--device", "cpu"], "standard input", "nested too deeply"
    )
