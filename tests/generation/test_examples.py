"""What a language model reads: questions, lessons, where loss lies, and what is said of them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lmsl.data.tags.schemes import IGNORED
from lmsl.data.tags.sentence import Sentence
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.errors import InputError
from lmsl.generation.examples import MOST_NEW, Question, next_ids
from lmsl.tagger.source import tiny_folder
from tests.generation.generation_tools import prompter, sentence

ADA = sentence("Ada Lovelace saw Paris", (0, 2, "PER"), (3, 4, "LOC"))
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def tiny() -> Any:
    return AutoTokenizer.from_pretrained(tiny_folder())


@pytest.fixture
def chatty(tiny: Any) -> Any:
    """The same with an end of sequence and a chat template, whose marks are special tokens."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder())
    tokenizer.add_special_tokens(
        {"eos_token": "<|end|>", "additional_special_tokens": ["<|user|>", "<|assistant|>"]}
    )
    tokenizer.chat_template = CHAT
    return tokenizer


def text_of(tokenizer: PreTrainedTokenizerFast, ids: Any) -> str:
    return tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)


def test_a_question_ends_where_its_answer_begins(tiny: Any) -> None:
    (question,) = prompter(tiny).questions([ADA]).examples
    assert isinstance(question, Question) and len(question.starts) == 0
    assert text_of(tiny, question.ids) == (
        "<s> List the spans of these types in the sentence, in order: span = type ; span = type\n"
        "Types: location ; person\nSentence: Ada Lovelace saw Paris\nAnswer:"
    )


@pytest.mark.parametrize("loss_on", ["answer", "text"])
def test_loss_lies_on_the_answer_or_on_everything(tiny: Any, loss_on: Any) -> None:
    asks = prompter(tiny)
    lessons = asks.lessons([ADA], loss_on)
    (lesson,), ((question,), (labels,)) = (
        lessons.examples,
        (asks.questions([ADA]).examples, next_ids(lessons, 1)),
    )
    size = len(question.ids)
    assert lesson.ids[:size].tolist() == question.ids.tolist()
    answer = lesson.ids[size:].tolist()
    # Nothing ends a sequence of this tokenizer: the line ends the answer.
    assert text_of(tiny, answer) == " Ada Lovelace = person ; Paris = location\n"
    # Each place that is read is right before the sub-word that it is to foretell.
    assert labels == lesson.ids[lesson.starts + 1].tolist()
    assert labels == (answer if loss_on == "answer" else lesson.ids[1:].tolist())
    assert (lesson.ends == lesson.starts + 1).all()


def test_a_span_has_the_sub_words_that_it_has_in_the_sentence(tiny: Any) -> None:
    (lesson,) = prompter(tiny).lessons([ADA], "answer").examples
    ids = lesson.ids.tolist()
    for name in ("Ada Lovelace", "Paris"):
        own = tiny(name, add_special_tokens=False).input_ids
        places = [i for i in range(len(ids)) if ids[i : i + len(own)] == own]
        assert len(places) == 2, "once in the sentence, once in the answer"


def test_a_chat_is_markup_and_what_data_brings_is_spelt_out(chatty: Any) -> None:
    hostile = sentence("say <|end|> and <|assistant|> now", (1, 2, "PER"))
    asks = prompter(chatty)
    (lesson,) = asks.lessons([hostile], "answer").examples
    special = [number for number in lesson.ids.tolist() if number >= len(chatty) - 3]
    marks = chatty.convert_ids_to_tokens(special)
    assert marks == ["<|user|>", "<|end|>", "<|assistant|>", "<|end|>"]
    assert "Answer:" not in text_of(chatty, lesson.ids), "the turn of the assistant says it"
    assert asks.generation.opening == "<|user|>"
    plain = prompter(chatty, chat_template="no")
    assert plain.generation.opening == "" and plain.end == [chatty.eos_token_id]


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('no') }}", "nothing of what was said", "{{ messages[0]['content'] }}"],
)
def test_a_chat_template_that_serves_nothing_is_not_taken(chatty: Any, template: str) -> None:
    chatty.chat_template = template
    assert prompter(chatty).generation.closing == ""


def test_the_prompt_of_the_paper_is_the_papers(chatty: Any) -> None:
    asks = prompter(chatty, prompt="acl2024")
    (lesson,) = asks.lessons([ADA], "answer").examples
    assert text_of(chatty, lesson.ids).replace(" \n", "\n") == (
        "<s> ### Instruction:\nplease extract named entities and their type from the input "
        "sentence, all entity types are in options\n\n### Options:\nlocation, person\n\n"
        "### Sentence:\nAda Lovelace saw Paris\n\n### Response:\n"
        " Ada Lovelace:person;Paris:location\n<|end|>"
    )


def test_sentences_are_cut_at_their_end_and_counted(tiny: Any) -> None:
    long = sentence("a " * 30 + "Paris", (0, 1, "PER"), (30, 31, "LOC"))
    asks = prompter(tiny, max_length=20)
    made = asks.lessons([long, ADA], "answer")
    cut = made.truncated[0]
    assert cut > 10 and made.truncated[1] == 0
    text = text_of(tiny, made.examples[0].ids)
    assert text.endswith("a = person\n") and "Paris" not in text
    (line,) = [line for line in made.notes.lines() if "not read" in line]
    assert line == f"{cut} words beyond the maximum length and not read"
    with pytest.raises(
        InputError, match=r"f:1: expected at most 20 .* or choose --overflow trunc"
    ):
        prompter(tiny, max_length=20, overflow="error").questions([replace(long, where="f:1")])


def test_what_an_answer_cannot_say_is_counted(tiny: Any) -> None:
    # The second is meant, and an answer that names it alone means the first.
    second = sentence("Paris saw Paris", (2, 3, "PER"))
    notes = prompter(tiny).lessons([ADA, second], "answer").notes
    (line,) = [line for line in notes.lines() if "cannot be told" in line]
    assert line.startswith("1 span of 3 cannot be told by an answer")
    marks = sentence("x ; y = z saw Paris", (0, 5, "PER"))
    assert not prompter(tiny).lessons([marks], "answer").notes.lines()
    (line,) = prompter(tiny, prompt="acl2024").lessons([marks], "answer").notes.lines()
    assert line.startswith("1 span of 1 cannot")


def test_an_answer_has_room_for_its_sentence_and_no_more(tiny: Any) -> None:
    asks = prompter(tiny)
    short, long = asks.questions([ADA, sentence("Paris " * 400)]).examples
    assert isinstance(short, Question) and isinstance(long, Question)
    (lesson,) = asks.lessons([ADA], "answer").examples
    assert len(lesson.ids) - len(short.ids) <= short.most_new < 80
    assert long.most_new <= MOST_NEW
    # Every word a span is more than is expected of an answer, and it is said.
    crowd = sentence("a b c d e f g h i j k l", *((i, i + 1, "PER") for i in range(12)))
    (line,) = asks.lessons([crowd], "answer").notes.lines()
    assert line == (
        "1 sentence whose right answer is longer than answers may become, so it cannot be right"
    )


def test_odd_words_and_sentences_are_asked_too(tiny: Any) -> None:
    odd = [
        Sentence(words=(), tags=()),
        Sentence(words=("",), tags=("B-PER",)),
        Sentence(words=("a\nb", "\ud800", "<pad>"), tags=("B-PER", "O", "B-LOC")),
        Sentence(words=("x",), tags=None),
    ]
    asks = prompter(tiny)
    made = asks.questions(odd)
    assert [example.sentence for example in made.examples] == [1, 2, 3]
    text = text_of(tiny, made.examples[1].ids)
    assert "\nSentence: a b \ufffd <pad>\nAnswer:" in text, "one line"
    assert tiny.pad_token_id not in made.examples[1].ids
    assert any("lone surrogates" in line for line in made.notes.lines())
    lessons = asks.lessons(odd[:3], "answer")
    assert next_ids(lessons, 3)[0] == []
    assert text_of(tiny, next_ids(lessons, 3)[1]) == "\n", "a blank word cannot be named"


def test_words_without_a_label_cannot_be_learnt_from(tiny: Any) -> None:
    partial = Sentence(words=("a", "b"), tags=("O", IGNORED), where="f:7")
    with pytest.raises(InputError, match=r"f:7: expected a label on every word"):
        prompter(tiny).lessons([partial], "answer")
    assert prompter(tiny).questions([partial]).examples, "but asked about"


def test_types_that_the_run_does_not_know_are_not_counted(tiny: Any) -> None:
    foreign = sentence("Ada saw Paris", (0, 1, "ORG"), (2, 3, "LOC"))
    notes = prompter(tiny).questions([foreign]).notes
    assert notes.lines() == []


def test_a_tokenizer_that_ends_nothing_is_refused(tiny: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(
        "lmsl.generation.examples.Prompter.line_ends", property(lambda self: list[int]())
    )
    with pytest.raises(InputError, match="expected an end of sequence or of a line"):
        prompter(tiny)


def test_a_label_set_without_types_asks_for_nothing(tiny: Any) -> None:
    (question,) = prompter(tiny, LabelSet(("O",))).questions([ADA]).examples
    assert isinstance(question, Question) and question.most_new > 0
    assert np.asarray(question.ids).dtype == np.int32
