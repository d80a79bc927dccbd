"""From sentences to what a language model reads: a question, and in training its answer.

    opening  before sentence after  closing  |  answer  end

Question and answer are tokenised apart, so that a question is the same sub-words in training and
in use. Only the markup of a chat becomes special tokens: what data brings is spelt out. A sentence
is its words between single spaces, on one line.

To the loop of training a language model is a tagger with one label for each entry of its
vocabulary: the words that are read are the sub-words whose next one carries loss, and that one is
the label. So packs, the loss and its division by what carries loss are those of labelling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lmsl.config.choices import Generation, LossOn, Overflow
from lmsl.data.tags.schemes import IGNORED, tag_spans
from lmsl.data.tags.sentence import Sentence
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.errors import InputError
from lmsl.generation.grammar import Listed, read_answer, write_answer
from lmsl.generation.locate import locate, pieces
from lmsl.generation.notes import AnswerNotes
from lmsl.packs.alignment import Aligner, AlignmentNotes, Encoding, Ints
from lmsl.packs.examples import Example, Examples, too_long

MOST_NEW = 1024
"""Sub-words of an answer, at most."""
# Sub-words of the marks around a type, and what an answer may have beyond its parts.
_MARKS, _SLACK = 3, 8
_NOTHING = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True, kw_only=True)
class Question(Example):
    """An example that is to be answered; no word of it is read."""

    most_new: int
    """Sub-words that its answer may have."""


class Prompter:
    """Makes questions of sentences and answers of their spans.

    Args:
        aligner: tokenises.
        tokenizer: the same, as transformers has it: it knows the markup of chats, and how an
            answer ends.
        generation: what is asked.
        labels: the types that answers name.
        max_length: of a sentence, in sub-words; prompt and answer are not counted.

    Raises:
        InputError: the tokenizer has neither an end of sequence nor a line end.
    """

    def __init__(
        self,
        aligner: Aligner,
        tokenizer: Any,
        generation: Generation,
        labels: LabelSet,
        *,
        max_length: int,
        overflow: Overflow,
    ) -> None:
        self.aligner, self.tokenizer = aligner, tokenizer
        self.generation, self.labels = generation, labels
        self._max_length, self._overflow = max_length, overflow
        self._inline = aligner.joint if generation.prompt == "default" else ""
        chat = bool(generation.opening)
        self._opening = self._markup(generation.opening) if chat else aligner.bos
        self._closing = self._markup(generation.closing)
        self.end = self._end()

    @property
    def around(self) -> int:
        """Sub-words of a question beside its sentence."""
        return len(self._question([]))

    @cached_property
    def line_ends(self) -> list[int]:
        """Ids whose text holds a line end."""
        every = [[number] for number in range(len(self.tokenizer))]
        texts = self.tokenizer.batch_decode(every, clean_up_tokenization_spaces=False)
        return [number for number, text in enumerate(texts) if "\n" in text]

    def questions(self, sentences: Sequence[Sentence]) -> Examples:
        """A question for each sentence that has words.

        Raises:
            InputError: a sentence too long under ``--overflow error``.
        """
        encodings, kept = self._encoded(sentences)
        examples: list[Example] = []
        for number, (encoding, words) in enumerate(zip(encodings, kept, strict=True)):
            if words:
                question = Question(
                    ids=self._question(sentences[number].words[:words]),
                    sentence=number,
                    first_word=0,
                    starts=_NOTHING,
                    ends=_NOTHING,
                    most_new=self._most_new(encoding, words),
                )
                examples.append(question)
        return self._examples(sentences, encodings, kept, examples)

    def lessons(self, sentences: Sequence[Sentence], loss_on: LossOn) -> Examples:
        """A question with its answer for each sentence that has words; see `next_ids`.

        Args:
            loss_on: the answer, or the question too.

        Raises:
            InputError: a sentence too long under ``--overflow error``, or words without a label.
        """
        encodings, kept = self._encoded(sentences)
        examples = []
        for number, (sentence, words) in enumerate(zip(sentences, kept, strict=True)):
            if IGNORED in (sentence.tags or ()):
                raise InputError(
                    f"{sentence.where}: expected a label on every word: an answer lists all spans "
                    "of a sentence; leave out --ignore-tag, or these sentences"
                )
            if not words:
                continue
            question = self._question(sentence.words[:words])
            answer = self._answer(self.answer(sentence, words))
            ids = np.concatenate([question, answer]).astype(np.int32)
            first = len(question) if loss_on == "answer" else 1
            reading = np.arange(first - 1, len(ids) - 1, dtype=np.int32)
            examples.append(
                Example(
                    ids=ids,
                    sentence=number,
                    first_word=0,
                    starts=reading,
                    ends=reading + 1,
                )
            )
        return self._examples(sentences, encodings, kept, examples)

    def answer(self, sentence: Sentence, words: int | None = None) -> str:
        """The right answer: the spans of known types among the first so many words."""
        cut = pieces(sentence.words)
        names = dict(zip(self.labels.types, self.generation.names, strict=True))
        listed = []
        for span in tag_spans(sentence.tags or ()):
            own = tuple(piece for word in cut[span.start : span.end] for piece in word)
            if own and span.type in names and (words is None or span.end <= words):
                listed.append(Listed(words=own, type=names[span.type]))
        return write_answer(listed, self.generation.prompt)

    def _most_new(self, encoding: Encoding, words: int) -> int:
        """Room for all sub-words of a sentence, and for every second word to begin a span."""
        ids, spans = int(encoding.ends[words - 1] - encoding.starts[0]), -(-words // 2)
        return min(MOST_NEW, ids + spans * (self._longest_name + _MARKS) + _SLACK)

    @cached_property
    def _longest_name(self) -> int:
        texts = [self.aligner.joint + name for name in self.generation.names]
        return max((len(self.aligner.text(text)[0]) for text in texts), default=0)

    def _encoded(self, sentences: Sequence[Sentence]) -> tuple[list[Encoding], list[int]]:
        """Every sentence as a line of its own, and how many of its words are read."""
        lines = []
        for sentence in sentences:
            words = _on_one_line(sentence.words)
            lines.append([self._inline + words[0], *words[1:]] if words else [])
        encodings, kept = self.aligner.encode(lines), []
        for number, encoding in enumerate(encodings):
            if not len(encoding.starts):
                kept.append(0)
                continue
            first, last = encoding.starts[0], encoding.ends[-1]
            if self._overflow == "error" and last - first > self._max_length:
                where = sentences[number].where or f"sentence {number + 1}"
                raise too_long(where, last - first, self._max_length, instead="truncate")
            limit = first + self._max_length
            kept.append(int(np.searchsorted(encoding.ends, limit, side="right")))
        return encodings, kept

    def _question(self, words: Sequence[str]) -> Ints:
        space = " " if self.generation.prompt == "default" else ""
        line = space + " ".join(_on_one_line(words))
        text = self.generation.before + line + self.generation.after
        asked = [*self._opening, *self.aligner.text(text)[0], *self._closing]
        return np.array(asked, dtype=np.int32)

    def _answer(self, text: str) -> list[int]:
        return [*(self.aligner.text(self._inline + text)[0].tolist() if text else []), *self.end]

    def _examples(
        self,
        sentences: Sequence[Sentence],
        encodings: Sequence[Encoding],
        kept: Sequence[int],
        examples: list[Example],
    ) -> Examples:
        truncated = [
            len(sentence.words) - words for sentence, words in zip(sentences, kept, strict=True)
        ]
        told = [
            self._sayable(sentence, encoding, words)
            for sentence, encoding, words in zip(sentences, encodings, kept, strict=True)
        ]
        notes = AnswerNotes(
            alignment=AlignmentNotes.of(encodings),
            windowed=0,
            cut_words=0,
            truncated_sentences=sum(count > 0 for count in truncated),
            truncated_words=sum(truncated),
            spans=sum(spans for spans, _, _ in told),
            unsayable=sum(unsayable for _, unsayable, _ in told),
            cramped=sum(cramped for _, _, cramped in told),
        )
        return Examples(examples=examples, notes=notes, truncated=truncated)

    def _sayable(
        self, sentence: Sentence, encoding: Encoding, words: int
    ) -> tuple[int, int, bool]:
        """How many spans the words that are read hold, how many of them their own answer does not
        give back, and whether it is longer than it may be."""
        known = set(self.labels.types)
        gold = {span for span in tag_spans(sentence.tags or ()) if span.end <= words}
        gold = {span for span in gold if span.type in known}
        if not gold:
            return 0, 0, False
        text = self.answer(sentence, words)
        listed = read_answer(text, self.generation.prompt).listed
        read = sentence.words[:words]
        found, _ = locate(read, listed, self.labels.types, self.generation.names)
        most = self._most_new(encoding, words)
        return len(gold), len(gold - set(found)), len(self._answer(text)) > most

    def _markup(self, text: str) -> list[int]:
        """Ids of text of our own, in which special tokens are what they say."""
        if not text:
            return []
        found: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return found

    def _end(self) -> list[int]:
        """What ends an answer: the end of the sequence, else of the line; in `acl2024` both."""
        end = self.tokenizer.eos_token_id
        line: list[int] = []
        if self.generation.prompt == "acl2024" or end is None:
            line = [number for number in self.line_ends if self.tokenizer.decode([number]) == "\n"]
        if end is None and not line:
            raise InputError(
                "tokenizer: expected an end of sequence or of a line to end answers with, found "
                "neither; name one as eos_token in tokenizer_config.json"
            )
        return [*line[:1], *([] if end is None else [end])]


def _on_one_line(words: Sequence[str]) -> list[str]:
    return [" ".join(own) for own in pieces(words)]


def next_ids(examples: Examples, sentences: int) -> list[list[int]]:
    """For each sentence the ids behind the sub-words that are read: its labels in training."""
    found: list[list[int]] = [[] for _ in range(sentences)]
    for example in examples.examples:
        found[example.sentence] = example.ids[example.ends].tolist()
    return found
