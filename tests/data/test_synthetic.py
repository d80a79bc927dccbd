"""The generator is honest: the right context decides to the set degree, and nothing else tells."""

import random
from collections import Counter
from itertools import islice

import pytest

from lmsl.data import phrases, synthetic
from lmsl.data.synthetic import (
    TYPES,
    Clause,
    Writer,
    closers,
    generate,
    left_to_right_ceiling,
    name_words,
    openers,
)
from lmsl.data.tags.schemes import tag_spans
from lmsl.errors import InputError

SPLITS = ("pretrain", "train", "dev", "test")


def clauses(split: str, dial: float, count: int) -> list[Clause]:
    writer = Writer(split, dial, random.Random(f"test {split} {dial}"))
    return [clause for _ in range(count) for clause in writer.sentence()]


def deciding_cues(words: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """First word, one past the last, and type of every deciding phrase among ``words``."""
    types = {noun: kind for kind, nouns in phrases.CUE_NOUNS.items() for noun in nouns}
    found = []
    for frame in phrases.DECIDING_FRAMES:
        parts = tuple(frame.split())
        for start in range(len(words) - len(parts) - 1):
            noun = start + len(parts) + 1
            if words[start : start + len(parts)] == parts and words[noun] in types:
                found.append((start, noun + 1, types[words[noun]]))
    return found


def test_the_same_call_gives_the_same_sentences():
    assert generate("train", 0.8, 50) == generate("train", 0.8, 50)
    assert generate("train", 0.8, 50).sentences[:20] == generate("train", 0.8, 20).sentences


def test_every_name_has_exactly_one_deciding_cue_of_its_type():
    for clause in clauses("train", 0.5, 400):
        ((start, end, kind),) = deciding_cues(clause.words)
        assert kind == clause.type
        assert (start >= clause.end) == clause.cue_right
        assert (end <= clause.start) == (not clause.cue_right)


def test_the_dial_is_the_share_of_cues_to_the_right():
    for dial in (0.0, 0.3, 0.8, 1.0):
        drawn = clauses("train", dial, 1500)
        share = sum(clause.cue_right for clause in drawn) / len(drawn)
        assert abs(share - dial) < 0.04
        assert dial not in (0.0, 1.0) or share == dial


def test_cues_stand_at_the_same_distances_on_both_sides():
    distances: dict[bool, list[int]] = {True: [], False: []}
    for clause in clauses("train", 0.5, 4000):
        ((start, end, _),) = deciding_cues(clause.words)
        gap = start - clause.end if clause.cue_right else clause.start - end
        # The comma between name and cue is no distance.
        distances[clause.cue_right].append(gap)
    for side in distances.values():
        assert min(side) == 1 and 11 <= max(side) <= 12
    means = [sum(side) / len(side) for side in distances.values()]
    assert abs(means[0] - means[1]) < 0.3
    shares = [Counter(side) for side in distances.values()]
    for gap in range(1, 13):
        left, right = (shares[s][gap] / len(distances[bool(1 - s)]) for s in (0, 1))
        assert abs(left - right) < 0.03


def test_types_are_even_and_names_say_nothing():
    drawn = clauses("test", 0.8, 4000)
    types = Counter(clause.type for clause in drawn)
    assert all(abs(types[kind] / len(drawn) - 0.25) < 0.03 for kind in TYPES)
    by_name: dict[str, set[str]] = {}
    for clause in drawn:
        by_name.setdefault(clause.words[clause.start], set()).add(clause.type)
    frequent = [kinds for kinds in by_name.values() if len(kinds) > 1]
    assert len(frequent) > len(by_name) / 2


def test_distractors_are_drawn_independently_of_the_type():
    same = seen = 0
    types = {noun: kind for kind, nouns in phrases.CUE_NOUNS.items() for noun in nouns}
    for clause in clauses("train", 0.8, 2000):
        cues = deciding_cues(clause.words)
        for place, word in enumerate(clause.words):
            if word in types and not any(start <= place < end for start, end, _ in cues):
                seen += 1
                same += types[word] == clause.type
    assert seen > 2000 and abs(same / seen - 0.25) < 0.03


def test_splits_share_no_name_and_no_template():
    names = {split: set(name_words(split)) for split in SPLITS}
    for one in SPLITS:
        assert len(names[one]) > 500
        for other in SPLITS:
            if one < other:
                assert not names[one] & names[other]
                assert not set(openers(one)) & set(openers(other))
                assert not set(closers(one)) & set(closers(other))


def test_no_opener_or_closer_weighs_much_in_a_split():
    for split in ("train", "dev", "test"):
        for pool in (openers(split), closers(split)):
            assert len(pool) >= 16 and len(set(pool)) == len(pool)


def test_openers_of_dev_and_test_begin_with_words_that_train_begins_with():
    known = {opener.split()[0] for opener in openers("train")}
    for split in ("dev", "test"):
        assert {opener.split()[0] for opener in openers(split)} <= known


def test_pretraining_text_holds_nothing_that_is_kept_for_the_task():
    text = " ".join(islice(synthetic.pretraining_paragraphs(7), 200))
    words, taught = set(text.split()), Writer("pretrain", 0.5, random.Random(1))
    for split in ("train", "dev", "test"):
        writer = Writer(split, 0.5, random.Random(1))
        assert words.isdisjoint(writer.names)
        assert set(writer.adverbs + writer.places).isdisjoint(taught.adverbs + taught.places)
        assert not any(template in text for template in writer.openers + writer.closers)


def test_tags_cover_the_names():
    lexicon = set(name_words("dev"))
    for sentence in generate("dev", 0.8, 300):
        spans = tag_spans(sentence.tags)
        named = {i for span in spans for i in range(span.start, span.end)}
        assert named == {i for i, word in enumerate(sentence.words) if word in lexicon}


@pytest.mark.parametrize("dial", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_the_ceiling_is_what_the_best_left_to_right_tagger_gets(dial):
    drawn = clauses("test", dial, 6000)
    rng = random.Random(5)
    guess = sum(c.type == (rng.choice(TYPES) if c.cue_right else c.type) for c in drawn)
    silent = sum(not c.cue_right for c in drawn)
    best = max(guess / len(drawn), 2 * silent / (silent + len(drawn)))
    assert abs(best - left_to_right_ceiling(dial)) < 0.02


def test_a_dial_out_of_range_is_refused():
    with pytest.raises(InputError, match="expected a dial from 0 to 1, got 7"):
        synthetic.load(7)
