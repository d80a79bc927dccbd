"""What every trained run in use can do, however it comes to its tags: predict and be scored.

``lmsl.tagger.labeler`` classifies words, ``lmsl.generation.generator`` reads the answers of a
language model.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmsl.console import Track
from lmsl.data.formats.options import ReadOptions
from lmsl.data.formats.words import split_words
from lmsl.data.read import read_with
from lmsl.data.tags.decode import Decoded
from lmsl.data.tags.entities import Entity, entities
from lmsl.data.tags.sentence import Dataset, Sentence
from lmsl.errors import InputError
from lmsl.packs.examples import Examples
from lmsl.run_directory.info import RunInfo
from lmsl.tagger.scoring import scored


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """Decoded sentences, and what happened on the way."""

    decoded: list[Decoded]
    examples: Examples


class Predictor(ABC):
    """A run with what prediction needs."""

    info: RunInfo

    @abstractmethod
    def tag(
        self,
        sentences: Sequence[Sentence],
        examples: Examples | None = None,
        track: Track | None = None,
    ) -> Tagged:
        """Decode sentences, in order.

        Args:
            examples: of these sentences, where they were built already.
            track: told of every pack.
        """

    def predict(self, texts: Sequence[str | Sequence[str]]) -> list[list[Entity]]:
        """The entities of every text, in order; a text is a string or a list of words.

        Raises:
            InputError: one text instead of a list of them, or a run whose labels are plain tags.
        """
        if isinstance(texts, str):
            raise InputError("predict: expected a list of texts, got one string; put it in a list")
        if self.info.labels.plain:
            raise InputError("predict: this run predicts plain tags, no spans; use predict_tags")
        sentences = [self.sentence(text) for text in texts]
        tagged = self.tag(sentences)
        return [entities(*pair) for pair in zip(sentences, tagged.decoded, strict=True)]

    def predict_tags(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """One tag a word (IOB2, or plain) for sentences given as lists of words."""
        for words in sentences:
            if isinstance(words, str):
                raise InputError(
                    f"predict_tags: expected lists of words, got the text {words!r:.40}"
                )
        tagged = self.tag([self.sentence(words) for words in sentences])
        return [list(decoded.tags) for decoded in tagged.decoded]

    def evaluate(
        self, data: str | Path | Dataset, options: ReadOptions | None = None
    ) -> dict[str, Any]:
        """Metrics on labelled data: see ``lmsl.data.tags.metrics.score``.

        Without options files are read as those of the training were.

        Raises:
            InputError: the data cannot be read, or has labels this run does not know.
        """
        if options is None:
            options = self.info.read_options()
        dataset = data if isinstance(data, Dataset) else read_with(data, options)
        self.info.check_scorable(dataset)
        return self.metrics(dataset, self.tag(dataset.sentences))

    def metrics(self, dataset: Dataset, tagged: Tagged) -> dict[str, Any]:
        """Metrics of tags already predicted for ``dataset``."""
        labels, truncated = self.info.labels, tagged.examples.truncated
        return scored(dataset.sentences, tagged.decoded, labels, truncated)

    def sentence(self, text: str | Sequence[str]) -> Sentence:
        """A text as a sentence: strings are split as the run says, word lists are taken as is.

        Raises:
            InputError: neither a string nor a list of strings.
        """
        if not isinstance(text, str):
            words = tuple(text) if isinstance(text, Sequence) else (text,)
            for word in words:
                if not isinstance(word, str):
                    raise InputError(
                        "predict: expected texts or lists of words, got "
                        f"{word!r:.40} ({type(word).__name__})"
                    )
            return Sentence(words=words, tags=None)
        offsets = split_words(text, self.info.words)
        found = tuple(text[start:end] for start, end in offsets)
        return Sentence(words=found, tags=None, text=text, offsets=offsets)
