"""A loaded run that repeats or exits early: what its training scored, and what is so by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

import lmsl
from lmsl.layers.lora import trainable_parameters
from lmsl.mask.bits import layer_bits
from lmsl.tagger.base import load_tokenizer
from lmsl.tagger.emissions import emissions
from lmsl.tagger.source import tiny_folder
from tests.small_runs import metrics_of, rows, train, updates_of, written
from tests.tagger.by_hand import ByHand, text_of

TRAIN = "The DT dog NN barks VBZ 's POS|Zoë NNP ☕ NN 3 CD in IN|A DT cat NN sat VBD . ."
# Of words that were not seen, whose tags change with whatever changes.
DEV = "Some DT old NN frogs NN jumped VBD|x NN|near IN by IN 🐸 NN 's POS 3 CD ! . no DT one NN"


def columns(text: str) -> str:
    """`word tag word tag|word tag`, as a file."""
    sentences = [sentence.split() for sentence in text.split("|")]
    lines = [zip(s[::2], s[1::2], strict=True) for s in sentences]
    return "\n\n".join("\n".join(map("\t".join, own)) for own in lines) + "\n"


@pytest.mark.parametrize(
    ("repeat", "layers", "block"),
    [(2, None, "own"), (0, 5, "plain"), (1, 3, "own")],
    ids=["repeat", "exit", "both"],
)
def test_answers_of_a_loaded_run(
    repeat: int, layers: int | None, block: str, tmp_path: Path
) -> None:
    data = written(tmp_path / "data", train=columns(TRAIN), dev=columns(DEV))
    flags = ["--repeat", str(repeat), "--block", block, "--lr", "0.01", "--scheme", "plain"]
    flags += [] if layers is None else ["--exit-layer", str(layers)]
    # By hand there are neither quantised weights nor best paths.
    run = train(data, tmp_path / "run", *flags, "--quantize", "none", "--decode", "argmax")
    labeler = lmsl.Labeler.load(run, device="cpu")
    assert (labeler.info.repeat, labeler.info.exit_layer) == (repeat, layers)
    assert labeler.evaluate(data / "dev.conll") == metrics_of(run)["dev"]

    # One update reads all of train, every copy of it.
    tokenizer, names = load_tokenizer("tiny"), labeler.info.labels.names
    read = [" ".join(one.split()[::2]) for one in TRAIN.split("|")]
    size = sum(len(tokenizer(text)["input_ids"]) for text in read)
    assert {line["tokens"] for line in updates_of(run)} == {(repeat + 1) * size}

    predicted = list(rows(run / "predictions.dev.conll"))
    sentences = [labeler.sentence([row[0] for row in sentence]) for sentence in predicted]
    tags = [[row[2] for row in sentence] for sentence in predicted]
    assert len({tag for own in tags for tag in own}) > 1, "nothing was learnt to differ in"
    assert labeler.predict_tags([sentence.words for sentence in sentences]) == tags
    # What it makes of sentences itself; tags alone hardly tell one copy from three.
    examples = labeler.tag(sentences).examples.examples
    counts = [len(sentence.words) for sentence in sentences]
    scores = emissions(
        labeler.tagger, examples, counts, tokens_per_batch=4096, device=labeler.device
    )

    lora = labeler.info.lora
    by_hand = ByHand(
        decoder=AutoModel.from_pretrained(tiny_folder(), dtype=torch.float32).eval(),
        layers=layers,
        copies=repeat + 1,
        label_at="last",
        scale=lora.alpha / lora.rank,
    )
    trained = {n: p.detach()[0] for n, p in trainable_parameters(labeler.tagger).items()}
    bits = layer_bits("0011", 8)
    for sentence, own, found in zip(sentences, tags, scores, strict=True):
        text = text_of(tokenizer, sentence.words, [0] * len(sentence.words))
        with torch.no_grad():
            expected = by_hand.logits(text, bits, trained).log_softmax(-1).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        assert [names[best] for best in expected.argmax(-1)] == own
