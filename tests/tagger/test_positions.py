"""What is longer than a model has positions for is refused in a line, or said."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel

import lmsl
from lmsl.data.tags.sentence import Sentence
from lmsl.packs.alignment import Aligner
from lmsl.packs.examples import Examples, build_examples
from lmsl.tagger.base import load_tokenizer
from lmsl.tagger.positions import check_positions
from tests.decoders import build
from tests.small_runs import refused, train, written

ROOM = 24
SMALL: dict[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
# Rows of the table where they are not the positions of a text: two are for filling.
TABLES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gptj": {"rotary_dim": 4},
    "opt": {"ffn_dim": 40, "word_embed_proj_dim": 32},
    "bert": {},
    "roberta": {"max_position_embeddings": ROOM + 2},
}
TEXT = "Ada\tB-PER\nmet\tO\nBob\tB-PER\n.\tO\n" + "and\tO\n" * 5
LONGER = TEXT + "and\tO\n" * 10


def of_length(size: int, copies: int) -> tuple[list[Sentence], Examples]:
    """A sentence that fits, and one of so many sub-words with all its copies."""
    words = [("the",), ("the",) * (size // copies - 1)]
    sentences = [Sentence(words=own, tags=None) for own in words]
    examples = build_examples(
        sentences,
        Aligner(load_tokenizer("tiny")),
        max_length=100,
        overflow="error",
        repeat=copies - 1,
    )
    assert max(len(one.ids) for one in examples.examples) == size
    return sentences, examples


@pytest.mark.parametrize("family", TABLES)
def test_the_end_of_a_table_is_where_the_model_fails(family: str) -> None:
    sizes = {"max_position_embeddings": ROOM, "pad_token_id": 1}
    config = AutoConfig.for_model(family, **(SMALL | sizes | TABLES[family]))
    model = AutoModel.from_config(config).eval()
    given = torch.full((1, ROOM + 1), 7)
    with torch.no_grad():
        model(given[:, :ROOM])
        with pytest.raises((IndexError, RuntimeError), match=r"index|expand"):
            model(given)
    assert check_positions(model, *of_length(ROOM, 2), repeat=1) == []
    with pytest.raises(lmsl.InputError, match=r"^sentence 2: .* 24 sub-words.* got 25; lower"):
        check_positions(model, *of_length(ROOM + 1, 1), repeat=0)
    with pytest.raises(lmsl.InputError, match=r"got 27 of 3 copies; .*--max-length or --repeat$"):
        check_positions(model, *of_length(27, 3), repeat=2)


def test_beyond_what_rotation_was_made_for_is_said() -> None:
    model = build("llama", max_position_embeddings=ROOM)
    assert check_positions(model, *of_length(ROOM, 2), repeat=1) == []
    (line,) = check_positions(model, *of_length(ROOM + 1, 1), repeat=0)
    assert line.startswith("sentence 2: 25 sub-words; ") and line.endswith("at most 24")
    nothing = build_examples([], Aligner(load_tokenizer("tiny")), max_length=9, overflow="error")
    assert check_positions(model, [], nothing, repeat=0) == []


def test_copies_beyond_the_positions_of_a_base(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An IndexError in the first update, once."""
    base = tmp_path / "base"
    build("gpt2", vocab_size=2048, attn_pdrop=0.0).save_pretrained(base)
    load_tokenizer("tiny").save_pretrained(base)
    data = written(tmp_path / "data", train=TEXT, dev=TEXT)
    given = ["train", "--unmask", "0011", "--model", str(base), "--data", str(data)]
    place = f"{data / 'train.conll'}:1: expected at most 64 sub-words"
    refused(capsys, [*given, "--repeat", "7", "--output", str(tmp_path / "none")], place)
    assert not (tmp_path / "none").exists()

    run = train(data, tmp_path / "run", "--model", str(base), "--repeat", "3", "--max-steps", "1")
    labeler = lmsl.Labeler.load(run, device="cpu")
    assert len(labeler.predict_tags([["Ada", "met", "Bob"]])[0]) == 3
    longer = written(tmp_path / "longer", test=LONGER)
    with pytest.raises(lmsl.InputError, match=r"test\.conll:1: expected at most 64 sub-words"):
        labeler.evaluate(longer / "test.conll")
