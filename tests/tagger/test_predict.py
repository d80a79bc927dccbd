"""A trained run in use: any text in, entities with the right characters out, in order."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lmsl
from lmsl.data.tags.entities import entities
from lmsl.data.tags.schemes import tag_spans
from lmsl.errors import InputError
from lmsl.layers.quantize import NF4Linear
from lmsl.tagger.emissions import emissions

HARD_TEXTS = [
    "",
    " ",
    "\t\n \u00a0\u2003",
    "Ada",
    "  Ada Lovelace\tmet\n\nBabbage.  ",
    "👩‍👩‍👧‍👦 family 🏳️‍🌈 flag 👍🏽 Ada",
    "re\u0301sume\u0301 Zoe\u0308 n\u0303 a\u0301\u0302\u0303",
    "قال محمد إن القاهرة جميلة \u202b(كبيرة)\u202c",
    "東京都で会いました。",
    "ไทยไม่มีช่องว่าง",
    "a\u200bb \ufeffc \u00add \u2028e \x85f",
    "\x00\x01 control \x7f",
    "<s> </s> <|endoftext|> [PAD] <unk>",
    "-DOCSTART- -X- O O",
    "x" * 3000,
    "'\"{}[]\\ \\n %s {0} $(rm)",
    "half a character \ud83d alone",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ﬁne ½ ①",
]


class TestPredict:
    @pytest.mark.parametrize("text", HARD_TEXTS, ids=range(len(HARD_TEXTS)))
    def test_characters_are_those_of_the_text(self, text: str, labeler: lmsl.Labeler) -> None:
        (found,) = labeler.predict([text])
        words = labeler.sentence(text).words
        (tags,) = labeler.predict_tags([words])
        assert len(tags) == len(words)
        assert [e.start_word for e in found] == [span.start for span in tag_spans(tags)]
        for entity in found:
            assert text[entity.start : entity.end] == entity.text != ""
            assert 0 <= entity.score <= 1
            assert entity.text.startswith(words[entity.start_word])
            assert entity.text.endswith(words[entity.end_word - 1])

    @pytest.mark.parametrize(
        "words", [["Ada", "Love lace", "met", "."], ["a\tb", "\u200b", " ", "👍🏽"], ["x"], []]
    )
    def test_characters_of_word_lists_are_those_of_the_joined_words(
        self, words: list[str], labeler: lmsl.Labeler
    ) -> None:
        (found,) = labeler.predict([words])
        joined = " ".join(words)
        for entity in found:
            assert joined[entity.start : entity.end] == entity.text
            assert entity.text == " ".join(words[entity.start_word : entity.end_word])

    def test_the_model_finds_something_at_all(self, labeler: lmsl.Labeler) -> None:
        """Else the tests above would hold for a tagger that is silent."""
        assert sum(len(found) for found in labeler.predict(HARD_TEXTS)) > 5

    def test_nothing(self, labeler: lmsl.Labeler) -> None:
        assert labeler.predict([]) == [] and labeler.predict_tags([]) == []
        assert labeler.predict(["", []]) == [[], []] and labeler.predict_tags([[]]) == [[]]

    def test_order_and_company_do_not_matter(self, labeler: lmsl.Labeler) -> None:
        texts = [text for text in HARD_TEXTS if len(text) < 100]
        together = labeler.predict(texts)
        for text, found in zip(texts, together, strict=True):
            (alone,) = labeler.predict([text])
            assert [(e.start, e.end, e.label) for e in alone] == [
                (e.start, e.end, e.label) for e in found
            ]
            assert [e.score for e in alone] == pytest.approx([e.score for e in found], abs=1e-4)

    def test_two_thousand_words_are_read_in_windows(self, labeler: lmsl.Labeler) -> None:
        """What is read grows with the text and no faster: attention never sees all of it."""
        text = "Stetol opened , plainly a harbour , slowly near the old gate . " * 160
        sentence = labeler.sentence(text)
        whole = len(labeler._aligner.encode([sentence.words])[0].ids)
        tagged = labeler.tag([sentence])
        read = [len(each.ids) for each in tagged.examples.examples]
        assert max(read) <= labeler.info.max_length < whole / 10 and sum(read) < 2.1 * whole
        found = entities(sentence, tagged.decoded[0])
        assert found and found[-1].start > len(text) // 2
        assert all(text[e.start : e.end] == e.text for e in found)

    @pytest.mark.parametrize(
        "texts", ["Ada met Babbage.", [None], [5], [["Ada", 5]], [b"Ada"]], ids=repr
    )
    def test_what_is_no_list_of_texts_is_refused(self, texts: Any, labeler: lmsl.Labeler) -> None:
        with pytest.raises(lmsl.InputError, match="predict: expected"):
            labeler.predict(texts)

    def test_a_text_is_no_word_list(self, labeler: lmsl.Labeler) -> None:
        with pytest.raises(lmsl.InputError, match="lists of words"):
            labeler.predict_tags(["Ada met"])

    def test_scores_are_probabilities_by_enumeration(self, labeler: lmsl.Labeler) -> None:
        seen = 0
        for words in (["Stetol", "Foris", "sat"], ["The", "harbour", "."], ["Ada", "met", "Bob"]):
            (found,) = labeler.predict([words])
            seen += sum(entity.end_word < len(words) for entity in found)
            for entity in found:
                exact = enumerated(labeler, words, entity)
                assert entity.score == pytest.approx(exact, abs=1e-6)
        assert seen > 1, "an entity that something follows is the harder case"


def enumerated(labeler: lmsl.Labeler, words: Sequence[str], entity: lmsl.Entity) -> float:
    """The share of all valid tag sequences, by probability, that hold exactly this entity."""
    tagged = labeler.tag([labeler.sentence(words)])
    (logs,) = emissions(
        labeler.tagger,
        tagged.examples.examples,
        [len(words)],
        tokens_per_batch=labeler.info.tokens_per_batch,
        device=labeler.device,
    )
    names = labeler.info.labels.names
    wanted = (entity.start_word, entity.end_word, entity.label)
    total = share = 0.0
    for path in itertools.product(range(len(names)), repeat=len(words)):
        tags = [names[label] for label in path]
        if any(
            tag.startswith("I-") and before not in (tag, f"B-{tag[2:]}")
            for before, tag in zip(["O", *tags], tags, strict=False)
        ):
            continue
        probability = float(np.exp(sum(logs[word, label] for word, label in enumerate(path))))
        total += probability
        if wanted in [(span.start, span.end, span.type) for span in tag_spans(tags)]:
            share += probability
    return share / total


def test_weights_are_kept_dequantised_or_not_and_nothing_else_changes(
    talkative_run: Path,
) -> None:
    found = {}
    for resident in ("yes", "no"):
        labeler = lmsl.Labeler.load(talkative_run, device="cpu", resident=resident)
        layers = [m for m in labeler.tagger.modules() if isinstance(m, NF4Linear)]
        assert layers and all((m.resident is not None) == (resident == "yes") for m in layers)
        found[resident] = labeler.predict(["Ada Lovelace met Babbage in London ."])
    assert found["yes"] == found["no"]
    with pytest.raises(InputError, match="--resident: expected one of auto, yes, no, got 'maybe'"):
        lmsl.Labeler.load(talkative_run, device="cpu", resident="maybe")  # type: ignore[arg-type]
