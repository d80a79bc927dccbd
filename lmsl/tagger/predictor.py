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
from lmsl.data.tags.distribution import Floats
from lmsl.data.tags.entities import Entity, entities
from lmsl.data.tags.sentence import Dataset, Sentence
from lmsl.data.tags.thresholds import Threshold
from lmsl.errors import InputError
from lmsl.packs.examples import Examples
from lmsl.run_directory.info import RunInfo
from lmsl.tagger.scoring import scored
from lmsl.tagger.tagger import Tagger


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """Decoded sentences, and what happened on the way."""

    decoded: list[Decoded]
    examples: Examples
    emissions: list[Floats] | None = None
    """Log-probabilities [words, labels] that they were decoded from; None where a model writes."""


class Predictor(ABC):
    """A run with what prediction needs.

    ``predict``, ``predict_tags`` and ``evaluate`` are what it is for. ``tag`` and ``metrics`` are
    their halves, for who wants answers and scores of one pass; ``sentence`` makes of a text what
    ``tag`` takes.
    """

    info: RunInfo
    """Its unmask string, labels, base and settings: what ``lmsl.json`` says."""
    tagger: Tagger
    """The module; ``tagger.decoder`` is transformers' own, with the adapter in it."""

    @abstractmethod
    def tag(
        self,
        sentences: Sequence[Sentence],
        examples: Examples | None = None,
        track: Track | None = None,
        threshold: Threshold | None = None,
    ) -> Tagged:
        """Decode sentences, in order.

        Args:
            examples: of these sentences, where they were built already.
            track: told of every pack.
            threshold: see ``predict``.
        """

    def predict(
        self, texts: Sequence[str | Sequence[str]], *, threshold: Threshold | None = None
    ) -> list[list[Entity]]:
        """The entities of every text, in order; a text is a string or a list of words.

            >>> text = "Ada Lovelace met Babbage."
            >>> found, none = lmsl.Labeler.load("runs/1").predict([text, ""])
            >>> text[found[0].start : found[0].end] == found[0].text
            True
            >>> none
            []

        Args:
            threshold: instead of the entities of the best tags, all that are at least as probable,
                by falling probability without overlap. One number, from 0.001 to 1, for all types,
                or some types with theirs, such as ``{"PER": 0.1}``; 0.5 for the others then.

        Raises:
            InputError: one text instead of a list of them, a run whose labels are plain tags, or a
                threshold out of range, of a type that the run does not know, or for a run that
                writes spans and has no probabilities.
        """
        if isinstance(texts, str):
            raise InputError("predict: expected a list of texts, got one string; put it in a list")
        if self.info.labels.plain:
            raise InputError("predict: this run predicts plain tags, no spans; use predict_tags")
        sentences = [self.sentence(text) for text in texts]
        tagged = self.tag(sentences, threshold=threshold)
        return [entities(*pair) for pair in zip(sentences, tagged.decoded, strict=True)]

    def predict_tags(
        self, sentences: Sequence[Sequence[str]], *, threshold: Threshold | None = None
    ) -> list[list[str]]:
        """One tag a word (IOB2, or plain) for sentences given as lists of words.

        >>> labeler = lmsl.Labeler.load("runs/1")
        >>> [len(tags) for tags in labeler.predict_tags([["Ada", "Lovelace"], []])]
        [2, 0]

        Args:
            threshold: as of ``predict``.
        """
        for words in sentences:
            if isinstance(words, str):
                raise InputError(
                    f"predict_tags: expected lists of words, got the text {words!r:.40}"
                )
        tagged = self.tag([self.sentence(words) for words in sentences], threshold=threshold)
        return [list(decoded.tags) for decoded in tagged.decoded]

    def evaluate(
        self,
        data: str | Path | Dataset,
        options: ReadOptions | None = None,
        *,
        threshold: Threshold | None = None,
    ) -> dict[str, Any]:
        """Metrics on labelled data: see ``lmsl.data.tags.metrics.score``.

            >>> metrics = lmsl.Labeler.load("runs/1").evaluate("data/dev.conll")
            >>> 0 <= metrics["f1"] <= 1 and metrics["gold"] >= metrics["correct"]
            True

        Without options files are read as those of the training were.

        Args:
            threshold: as of ``predict``.

        Raises:
            InputError: the data cannot be read, or has labels this run does not know.
        """
        if options is None:
            options = self.info.read_options()
        dataset = data if isinstance(data, Dataset) else read_with(data, options)
        self.info.check_scorable(dataset)
        return self.metrics(dataset, self.tag(dataset.sentences, threshold=threshold))

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
