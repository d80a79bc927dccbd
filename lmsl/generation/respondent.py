"""A language model that answers with the spans of sentences: in training, and as a run in use."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lmsl.console import Track
from lmsl.data.tags.decode import Decoded
from lmsl.data.tags.schemes import spans_to_tags
from lmsl.data.tags.sentence import Sentence
from lmsl.generation.decoding import Speaker, Written, check_alike
from lmsl.generation.examples import Prompter, Question
from lmsl.generation.grammar import read_answer
from lmsl.generation.locate import COUNTED, locate
from lmsl.packs.examples import Examples
from lmsl.tagger.base import Base
from lmsl.tagger.language import text_ends
from lmsl.tagger.positions import check_positions
from lmsl.tagger.predictor import Tagged
from lmsl.tagger.tagger import Tagger


@dataclass(frozen=True, kw_only=True)
class Answered(Tagged):
    """Sentences decoded from answers."""

    answers: list[str | None]
    """As they were written; None where a sentence has no words and nothing was asked."""
    counts: Counter[str]
    """Of ``locate.COUNTED``."""

    def report(self) -> dict[str, Any]:
        """What ``metrics.json`` says of the answers."""
        return {name: self.counts[name] for name in COUNTED}


@dataclass(frozen=True, kw_only=True)
class Respondent:
    """Asks and reads answers."""

    prompter: Prompter
    speaker: Speaker

    @classmethod
    def of(
        cls,
        tagger: Tagger,
        base: Base,
        prompter: Prompter,
        *,
        seed: int,
        tokens_per_batch: int,
        device: torch.device,
        autocast: torch.dtype | None,
    ) -> "Respondent":
        """The language model that a tagger was assembled of.

        Args:
            seed: of answers that are drawn.
            tokens_per_batch: of questions and answers at once.

        Raises:
            InputError: it would not write what it was trained to.
        """
        causal_lm, tokenizer = base.causal_lm, prompter.tokenizer
        stops = {*prompter.end, *prompter.line_ends, *text_ends(causal_lm)}
        pad = tokenizer.pad_token_id
        return cls(
            prompter=prompter,
            speaker=Speaker(
                tagger=tagger,
                causal_lm=causal_lm,
                attention=check_alike(tagger, causal_lm, device, autocast),
                stops=tuple(sorted(stops)),
                pad=prompter.end[-1] if pad is None else pad,
                generation=prompter.generation,
                seed=seed,
                tokens_per_batch=tokens_per_batch,
                device=device,
                autocast=autocast,
            ),
        )

    def tag(
        self,
        sentences: Sequence[Sentence],
        examples: Examples | None = None,
        track: Track | None = None,
    ) -> Answered:
        """Ask for the spans of sentences, in order.

        Args:
            examples: questions of these sentences, where they were made already.
            track: told of every batch.

        Raises:
            InputError: a question is longer than the model's table of positions.
        """
        model = self.speaker.tagger.decoder
        if examples is None:
            examples = self.prompter.questions(sentences)
            check_positions(model, sentences, examples, repeat=0)
        config: Any = model.config
        positions = getattr(config.get_text_config(), "max_position_embeddings", None)
        questions = [
            _fitted(one, positions) for one in examples.examples if isinstance(one, Question)
        ]
        answers: list[str | None] = [None] * len(sentences)
        counts: Counter[str] = Counter()
        written = self.speaker.answers(questions, track)
        for question, one in zip(questions, written, strict=True):
            answers[question.sentence] = self._text(one)
            counts["truncated"] += one.truncated
        decoded = [self._read(*pair, counts) for pair in zip(sentences, answers, strict=True)]
        return Answered(decoded=decoded, examples=examples, answers=answers, counts=counts)

    def _text(self, written: Written) -> str:
        text: str = self.prompter.tokenizer.decode(
            written.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text.strip()

    def _read(self, sentence: Sentence, text: str | None, counts: Counter[str]) -> Decoded:
        if text is None:
            return Decoded(tags=("O",) * len(sentence.words), spans=(), scores=())
        generation, labels = self.prompter.generation, self.prompter.labels
        answer = read_answer(text, generation.prompt)
        spans, found = locate(sentence.words, answer.listed, labels.types, generation.names)
        counts.update(found)
        counts.update(answers=1, broken=answer.broken, unparsable=int(answer.unparsable))
        # How sure an answer is says nothing of how sure a span is: that is the sum over all
        # answers that list it.
        return Decoded(
            tags=spans_to_tags(spans, len(sentence.words)),
            spans=tuple(spans),
            scores=(None,) * len(spans),
        )


def _fitted(question: Question, positions: Any) -> Question:
    """With an answer for which the model has positions, where it has them for the question."""
    left = positions - len(question.ids) if isinstance(positions, int) else question.most_new
    if left < 0:
        return question
    return replace(question, most_new=max(1, min(question.most_new, left)))
