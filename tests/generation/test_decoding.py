"""Answers of a language model: those of training, batched, ended, drawn, and checked first."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lmsl.config.choices import LoRA
from lmsl.errors import InputError
from lmsl.generation.decoding import batches, check_alike
from lmsl.generation.examples import Prompter, Question
from lmsl.generation.respondent import Respondent, _fitted
from lmsl.layers.head import LanguageHead
from lmsl.mask.attention import NAME
from lmsl.packs.packing import pack
from lmsl.tagger.assemble import Assembled, Operators, Storage, Trained, assemble
from lmsl.tagger.base import load_base
from tests.generation.generation_tools import prompter, real_model, sentence, write_causal_lm

CPU = torch.device("cpu")
SENTENCES = [
    sentence("Ada Lovelace saw Paris", (0, 2, "PER"), (3, 4, "LOC")),
    sentence("Paris"),
    sentence("a b c d e f g h i j"),
]


def assembled(name: str = "tiny", dtype: torch.dtype = torch.float32) -> Assembled:
    """A model as a writer, with adapters that do something."""
    torch.set_num_threads(1)
    base = load_base(name, causal_lm=True, dtype=dtype)
    made = assemble(
        base,
        bits=[(False,) * base.depth],
        seeds=(1,),
        trained=Trained(
            classes=0,
            label_at="last",
            lora=LoRA(rank=4, alpha=8.0, dropout=0.1, targets=("query-value",)),
            head_dropout=0.0,
        ),
        storage=Storage(quantize="nf4", resident="yes", device=CPU, dtype=dtype),
        operators=Operators(),
        own_head=True,
    )
    generator = torch.Generator().manual_seed(3)
    for place, parameter in made.tagger.named_parameters():
        if place.endswith("lora_B"):
            with torch.no_grad():
                parameter.normal_(std=0.05, generator=generator)
    return made


@pytest.fixture(scope="module")
def writer() -> Assembled:
    return assembled()


@pytest.fixture(scope="module")
def asks(writer: Assembled) -> Prompter:
    return prompter(writer.base.tokenizer)


def respondent(writer: Assembled, asks: Prompter, **generation: Any) -> Respondent:
    made = Respondent.of(
        writer.tagger, writer.base, asks, seed=5, tokens_per_batch=8192, device=CPU, autocast=None
    )
    speaker = replace(made.speaker, generation=replace(asks.generation, **generation))
    return replace(made, speaker=speaker)


def questions(asks: Prompter, most: int) -> list[Question]:
    found = [one for one in asks.questions(SENTENCES).examples if isinstance(one, Question)]
    return [replace(one, most_new=most + number) for number, one in enumerate(found)]


def test_only_adapters_are_trained_and_the_head_is_the_models_own(writer: Assembled) -> None:
    trained = [name for name, p in writer.tagger.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    head = writer.tagger.head
    assert isinstance(head, LanguageHead) and (head.classes, head.hidden) == (2048, 192)
    assert head.projection.weight is writer.base.decoder.embed_tokens.weight, "tied as before"


def test_logits_and_loss_are_those_of_transformers_on_the_same_text(
    writer: Assembled, asks: Prompter
) -> None:
    lessons = asks.lessons(SENTENCES, "text").examples
    logits = writer.tagger.eval()(pack([lessons], None, CPU))[0]
    found = iter(logits.split([len(lesson.starts) for lesson in lessons]))
    causal_lm = writer.base.causal_lm
    causal_lm.set_attn_implementation("eager")
    with torch.no_grad():
        for lesson in lessons:
            ids = torch.tensor(lesson.ids, dtype=torch.int64)[None]
            expected = causal_lm(input_ids=ids).logits[0, :-1]
            torch.testing.assert_close(next(found), expected, atol=2e-3, rtol=1e-3)
    causal_lm.set_attn_implementation(NAME)


def test_greedy_answers_are_those_of_step_by_step_argmax(
    writer: Assembled, asks: Prompter
) -> None:
    asked = questions(asks, 6)
    speaker = respondent(writer, asks).speaker
    written = speaker.answers(asked)
    for question, one in zip(asked, written, strict=True):
        ids = question.ids.tolist()
        for _ in range(question.most_new):
            read = replace(
                question,
                ids=np.array(ids, dtype=np.int32),
                starts=np.array([len(ids) - 1], dtype=np.int32),
                ends=np.array([len(ids)], dtype=np.int32),
            )
            with torch.no_grad():
                ids.append(int(writer.tagger.eval()(pack([[read]], None, CPU)).argmax()))
            if ids[-1] in speaker.stops:
                break
        expected = ids[len(question.ids) :]
        ended = expected[-1] in speaker.stops
        assert one.ids == (expected[:-1] if ended else expected) and one.truncated == (not ended)
    assert writer.base.decoder.config._attn_implementation == NAME, "as training needs it"


def test_an_answer_ends_at_a_stop_and_not_with_its_batch(
    writer: Assembled, asks: Prompter
) -> None:
    speaker = respondent(writer, asks).speaker
    asked = questions(asks, 4)
    free = speaker.answers(asked)
    assert [len(one.ids) for one in free] == [4, 5, 6], "each has a length of its own"
    third = free[2].ids[2]
    stopped = replace(speaker, stops=(third,)).answers(asked)
    for before, one in zip(free, stopped, strict=True):
        end = before.ids.index(third) if third in before.ids else len(before.ids)
        assert one.ids == before.ids[:end]
        assert one.truncated == (third not in before.ids)


def test_drawn_answers_are_those_of_the_seed(writer: Assembled, asks: Prompter) -> None:
    drawn = respondent(writer, asks, decoding="sample", temperature=1.5).speaker
    asked = questions(asks, 8)
    state = torch.get_rng_state()
    first, again = drawn.answers(asked), drawn.answers(asked)
    assert first == again and torch.equal(state, torch.get_rng_state()), "nobody else's draws"
    assert replace(drawn, seed=6).answers(asked) != first
    # So little is left to chance that the likeliest sub-word is drawn.
    sure = replace(drawn, generation=replace(drawn.generation, top_p=1e-6))
    assert sure.answers(asked) == respondent(writer, asks).speaker.answers(asked)
    cold = replace(drawn, generation=replace(drawn.generation, temperature=1e-4))
    assert cold.answers(asked) == sure.answers(asked)


def test_a_models_own_habits_of_decoding_are_put_aside(writer: Assembled, asks: Prompter) -> None:
    speaker, asked = respondent(writer, asks).speaker, questions(asks, 6)
    before = speaker.answers(asked)
    habits = writer.base.causal_lm.generation_config
    habits.repetition_penalty, habits.do_sample, habits.min_new_tokens = 5.0, True, 9
    assert speaker.answers(asked) == before
    assert writer.base.causal_lm.generation_config is habits, "and are there again"
    habits.repetition_penalty, habits.do_sample, habits.min_new_tokens = None, None, None


def test_what_decoding_does_not_know_of_a_head_is_refused(
    writer: Assembled, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_alike(writer.tagger, writer.base.causal_lm, CPU, None) == "sdpa"
    monkeypatch.setattr(writer.tagger.head, "softcap", 1.0)
    with pytest.raises(InputError, match=r"LlamaForCausalLM does not write what it is trained to"):
        check_alike(writer.tagger, writer.base.causal_lm, CPU, None)
    assert writer.base.decoder.config._attn_implementation == NAME


@pytest.mark.parametrize(
    ("family", "changes", "attention"),
    [
        ("gpt2", {}, "sdpa"),
        ("mistral", {}, "sdpa"),
        # Scaled dot-product attention of torch bounds no scores, as this one does.
        ("gemma2", {"final_logit_softcapping": 3.0}, "eager"),
        ("cohere", {"logit_scale": 0.3}, None),
    ],
)
def test_each_family_is_decoded_as_it_is_trained_or_refused(
    family: str, changes: dict[str, Any], attention: str | None, tmp_path: Path
) -> None:
    write_causal_lm(tmp_path, family, **changes)
    made = assembled(str(tmp_path))
    found = (made.tagger, made.base.causal_lm, CPU, None)
    if attention is not None:
        assert check_alike(*found) == attention
        return
    with pytest.raises(InputError, match="its head does more than is known here"):
        check_alike(*found)


def test_a_pre_trained_model_is_asked_in_its_chat() -> None:
    made = assembled(real_model("smollm2-135m"))
    asks = prompter(made.base.tokenizer)
    assert asks.generation.opening.endswith("<|im_start|>user\n")
    assert asks.generation.closing == "<|im_end|>\n<|im_start|>assistant\n"
    assert made.base.tokenizer.decode(asks.end) == "<|im_end|>"
    (lesson,) = asks.lessons(SENTENCES[:1], "answer").examples
    own = made.base.tokenizer(" Ada Lovelace", add_special_tokens=False).input_ids
    places = [i for i in range(len(lesson.ids)) if lesson.ids[i : i + len(own)].tolist() == own]
    assert len(places) == 2, "a span has the sub-words that it has in the sentence"
    assert check_alike(made.tagger, made.base.causal_lm, CPU, None) == "sdpa"


def test_sixteen_bits_round_and_are_no_other_model() -> None:
    made = assembled(dtype=torch.bfloat16)
    assert check_alike(made.tagger, made.base.causal_lm, CPU, torch.bfloat16) == "sdpa"


def test_batches_hold_all_questions_within_their_budget() -> None:
    def question(size: int, most: int) -> Question:
        nothing = np.zeros(0, dtype=np.int32)
        ids = np.zeros(size, dtype=np.int32)
        return Question(
            ids=ids, sentence=0, first_word=0, starts=nothing, ends=nothing, most_new=most
        )

    asked = [question(*pair) for pair in [(10, 5), (40, 5), (12, 50), (11, 5), (200, 9)]]
    groups = batches(asked, 130)
    assert sorted(number for group in groups for number in group) == [0, 1, 2, 3, 4]
    for group in groups:
        width = max(len(asked[n].ids) for n in group) + max(asked[n].most_new for n in group)
        assert len(group) * width <= 130 or len(group) == 1
    assert groups[0] == [4] and len(groups) < 5
    assert batches([], 10) == []


def test_sentences_are_tagged_by_what_is_answered(
    writer: Assembled, asks: Prompter, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = respondent(writer, asks)
    texts = iter(["paris = location ; Ada Lovelace = person ; x = planet", "no idea", ""])
    monkeypatch.setattr(type(made), "_text", lambda self, written: next(texts))
    empty = sentence("")
    answered = made.tag([SENTENCES[0], replace(empty, words=(), tags=()), *SENTENCES[1:]])
    assert [one.tags for one in answered.decoded] == [
        ("B-PER", "I-PER", "O", "B-LOC"),
        (),
        ("O",),
        ("O",) * 10,
    ]
    assert answered.decoded[0].scores == (None, None)
    assert answered.answers[1] is None and answered.answers[3] == ""
    report = answered.report()
    assert {name: count for name, count in report.items() if count and name != "truncated"} == {
        "answers": 3,
        "unparsable": 1,
        "spans": 3,
        "broken": 1,
        "unknown_type": 1,
        "case": 1,
    }


def test_more_than_the_positions_of_a_model_is_refused(tmp_path: Path) -> None:
    write_causal_lm(tmp_path, "gpt2")
    made = assembled(str(tmp_path))
    asks = prompter(made.base.tokenizer)
    long = sentence("Paris " * 30, where="f:3")
    with pytest.raises(InputError, match=r"f:3: expected at most 64 sub-words, for which"):
        respondent(made, asks).tag([long])


@pytest.mark.parametrize(("positions", "most"), [(None, 9), (200, 9), (75, 5), (70, 1), (69, 9)])
def test_an_answer_ends_with_the_positions_of_a_model(positions: int | None, most: int) -> None:
    ids, nothing = np.zeros(70, dtype=np.int32), np.zeros(0, dtype=np.int32)
    question = Question(
        ids=ids, sentence=0, first_word=0, starts=nothing, ends=nothing, most_new=9
    )
    # Beyond them a question is answered as ever: it was said that it is.
    assert _fitted(question, positions).most_new == most
