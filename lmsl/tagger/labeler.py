"""A trained run in use: load it, then ``predict``, ``predict_tags`` or ``evaluate``.

    labeler = lmsl.Labeler.load("runs/1")
    labeler.predict(["Ada Lovelace met Babbage."])

Training ends with a Labeler too, and reports what that one predicts: what was scored is what a
loaded run does, in any process.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lmsl.config.choices import CudaGraphs, Quantize, Resident, check_choice
from lmsl.console import Console, Track
from lmsl.data.formats.options import ReadOptions
from lmsl.data.formats.words import split_words
from lmsl.data.read import read_with
from lmsl.data.tags.decode import Decoded, decode
from lmsl.data.tags.entities import Entity, entities
from lmsl.data.tags.sentence import Dataset, Sentence
from lmsl.device import choose_device, choose_dtype
from lmsl.errors import InputError
from lmsl.layers.head import load_head
from lmsl.layers.peft_format import load_adapter
from lmsl.mask.bits import layer_bits
from lmsl.mask.unmasking import stored_string
from lmsl.packs.alignment import Aligner
from lmsl.packs.examples import Examples, build_examples
from lmsl.run_directory.digests import check_base, check_run_files
from lmsl.run_directory.find import find_run
from lmsl.run_directory.folder import is_loaded
from lmsl.run_directory.info import RunInfo, read_info
from lmsl.tagger.assemble import Operators, Storage, Trained, assemble
from lmsl.tagger.base import Base, load_base
from lmsl.tagger.captured import choose_forward
from lmsl.tagger.emissions import emissions
from lmsl.tagger.inference import EagerForward, Forward
from lmsl.tagger.positions import check_positions
from lmsl.tagger.scoring import scored
from lmsl.tagger.source import TINY
from lmsl.tagger.tagger import Tagger


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """Decoded sentences, and what happened on the way."""

    decoded: list[Decoded]
    examples: Examples


class Labeler:
    """A tagger of one run with its tokenizer and settings.

    Args:
        compute: how packs are computed; by default eagerly.
        causal_lm: the language model that the tagger's decoder is part of, where it was loaded.
    """

    def __init__(
        self,
        tagger: Tagger,
        aligner: Aligner,
        info: RunInfo,
        device: torch.device,
        autocast: torch.dtype | None,
        compute: Forward | None = None,
        causal_lm: Any = None,
    ) -> None:
        self.causal_lm = causal_lm
        self.tagger = tagger
        self.aligner = aligner
        self.info = info
        self.device = device
        self.autocast = autocast
        self.compute = EagerForward(tagger, device, autocast) if compute is None else compute

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str | None = None,
        attention: str | None = None,
        quantize: Quantize | None = None,
        resident: Resident = "auto",
        cuda_graphs: CudaGraphs = "off",
        allow_changed_base: bool = False,
        causal_lm: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> "Labeler":
        """Load a run directory, or a run on the hub by its id.

        Args:
            path: folder, or hub id where there is no such folder.
            device: as ``--device``; by default CUDA where there is one.
            attention: as ``--attention``.
            quantize: as ``--quantize``; by default as the run was trained.
            resident: as ``--resident``.
            cuda_graphs: as ``--cuda-graphs``.
            allow_changed_base: as ``--allow-changed-base``.
            causal_lm: load the language-model head of the base too.
            say: told what becomes of that; by default it goes to standard error.

        Raises:
            InputError: not a run, one whose files or base model are damaged, changed or gone, or
                files that do not fit the base.
        """
        folder = find_run(path)
        info = read_info(folder)
        say = say or Console().say
        quantize = info.quantize if quantize is None else quantize
        if info.lora is None and quantize == "nf4":
            raise InputError(f"--quantize nf4: {folder} was trained as a whole; expected none")
        check_choice("--quantize", quantize, Quantize)
        check_choice("--resident", resident, Resident)
        check_choice("--cuda-graphs", cuda_graphs, CudaGraphs)
        place = choose_device(device or "auto")
        dtype = choose_dtype(info.dtype, place)
        base = _base_of(folder, info, dtype, allow_changed_base, causal_lm, say)
        assembled = assemble(
            base,
            bits=[_bits_of(base, info)],
            seeds=(info.seed,),
            trained=Trained(
                classes=len(info.labels),
                label_at=info.label_at,
                lora=None if info.lora is None else replace(info.lora, dropout=0.0),
                head_dropout=0.0,
            ),
            storage=Storage(quantize=quantize, resident=resident, device=place, dtype=dtype),
            operators=Operators(
                attention=attention or "auto",
                # Its own forward again, so that its predictions are those it was scored on.
                block="plain" if info.block == "plain" else "auto",
            ),
        )
        if info.lora is not None:
            load_adapter(assembled.tagger.decoder, 0, folder)
        load_head(assembled.tagger.head, 0, folder)
        aligner = Aligner(base.tokenizer, info.tokenization)
        autocast = None if dtype == torch.float32 else dtype
        compute = choose_forward(
            assembled.tagger.eval(),
            place,
            autocast,
            cuda_graphs=cuda_graphs,
            attention=attention or "auto",
            say=say,
        )
        whole = base.causal_lm and base.causal_lm.to(place).eval()
        return cls(assembled.tagger, aligner, info, place, autocast, compute, whole)

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

    def tag(
        self,
        sentences: Sequence[Sentence],
        examples: Examples | None = None,
        track: Track | None = None,
    ) -> Tagged:
        """Decode sentences, packed under the run's token budget, in order.

        Args:
            examples: of these sentences, where they were built already.
            track: told of every pack.
        """
        if examples is None:
            examples = self.examples(sentences)
        found = emissions(
            self.tagger,
            examples.examples,
            [len(sentence.words) for sentence in sentences],
            tokens_per_batch=self.info.tokens_per_batch,
            device=self.device,
            autocast=self.autocast,
            compute=self.compute,
            track=track,
        )
        return Tagged(decoded=decode(found, self.info.labels, self.info.decode), examples=examples)

    def examples(self, sentences: Sequence[Sentence]) -> Examples:
        """What the model reads of sentences under the run's settings."""
        examples = build_examples(
            sentences,
            self.aligner,
            max_length=self.info.max_length,
            overflow=self.info.overflow,
            repeat=self.info.repeat,
            context=self.info.context,
        )
        check_positions(self.tagger.decoder, sentences, examples, self.info.repeat)
        return examples

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


def _base_of(
    folder: Path,
    info: RunInfo,
    dtype: torch.dtype,
    allow_changed_base: bool,
    causal_lm: bool,
    say: Callable[[str], None],
) -> Base:
    """The base model of a run, both as they were in training; the model in the run itself where
    all weights were trained."""
    if info.digests is None:
        say(f"{folder}: older than digests of runs; taken as it is, unchecked")
    else:
        check_run_files(folder, info.digests, is_loaded)
    if info.lora is None:
        return load_base(str(folder), dtype=torch.float32)
    try:
        base = load_base(
            info.base,
            revision=None if info.base == TINY else info.revision,
            exit_layer=info.exit_layer,
            dtype=dtype,
            causal_lm=causal_lm,
        )
    except InputError as error:
        raise InputError(f"{folder}: its base model: {error}") from error
    if info.digests is not None:
        check_base(base.folder, info.digests, allowed=allow_changed_base, say=say)
    return base


def _bits_of(base: Base, info: RunInfo) -> tuple[bool, ...]:
    """Which layers of a run see to the right, a bit for each that is kept."""
    if info.lora is None:
        # Its model has no more layers than are kept, and says it of each.
        return layer_bits(stored_string(base.decoder)[0], base.depth)
    return layer_bits(info.unmask, base.depth)[: info.exit_layer]
