"""Lengths of sentences are counted as they are written down, and written as they ship."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.shared import lengths
from benchmarks.shared.lengths import as_json, known_lengths, main
from lmsl.packs.alignment import Aligner
from lmsl.tagger.base import load_tokenizer
from tests.shared import DATA, TOKENIZERS, needs_shared

TEXT = "Zoë\tB-PER\nmet\tO\nBob\tB-LOC\n\n\nx\tO\n\nŁódź\tB-PER\n\n"


def test_what_ships_is_written_as_it_is() -> None:
    text = lengths._FILE.read_text(encoding="utf-8")
    assert as_json(known_lengths()) == text
    assert max(map(len, text.splitlines())) <= 99


def test_a_file_is_counted_and_other_entries_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = tmp_path / "a.conll", tmp_path / "lengths.json"
    file.write_text(TEXT, encoding="utf-8")
    output.write_text('{"other": {"classes": 3, "words": 1, "sentences_by_length": [[2, 1]]}}')
    arguments = [f"some={file}", "--tokenizer", "tiny", "--output", str(output)]
    assert main(arguments) == 0
    found = json.loads(output.read_text())
    assert found["other"] == {"classes": 3, "words": 1, "sentences_by_length": [[2, 1]]}
    # O, and B and I of two types; one token at the beginning of each sentence.
    assert (found["some"]["classes"], found["some"]["words"]) == (5, 5)
    aligner = Aligner(load_tokenizer("tiny"))
    sentences = [["Zoë", "met", "Bob"], ["x"], ["Łódź"]]
    sizes = [1 + len(one.ids) - len(aligner.bos) for one in aligner.encode(sentences)]
    expected = [[size, sizes.count(size)] for size in sorted(set(sizes))]
    assert found["some"]["sentences_by_length"] == expected
    assert "some: 3 sentences, 5 words" in capsys.readouterr().out
    before = output.read_text()
    assert main(arguments) == 0 and output.read_text() == before


@pytest.mark.parametrize(
    ("file", "expected"),
    [("some", "expected NAME=FILE, got 'some'"), ("some=nowhere.conll", "nowhere.conll")],
)
def test_bad_input_is_one_line(file: str, expected: str, tmp_path: Path, refused: Any) -> None:
    output = str(tmp_path / "lengths.json")
    refused(main, [file, "--tokenizer", "tiny", "--output", output], expected)


@needs_shared
def test_conll2000_is_that_of_the_data(tmp_path: Path) -> None:
    """Phi-3-mini's first 32,000 sub-words are those of Llama 2."""
    output = tmp_path / "lengths.json"
    file, tokenizer = DATA / "conll2000" / "train.txt", TOKENIZERS / "phi-3-mini"
    arguments = [f"conll2000={file}", "--tokenizer", str(tokenizer), "--output", str(output)]
    assert main(arguments) == 0
    assert known_lengths(output)["conll2000"] == known_lengths()["conll2000"]
