"""A trained run in use: load it, then ``predict``, ``predict_tags`` or ``evaluate``.

    labeler = lmsl.Labeler.load("runs/1")
    labeler.predict(["Ada Lovelace met Babbage."])

Training ends with a Labeler too, and reports what that one predicts: what was scored is what a
loaded run does, in any process.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lmsl.config.choices import CudaGraphs, Quantize, Resident, check_choice
from lmsl.console import Console, Track
from lmsl.data.tags.calibration import calibration, judged
from lmsl.data.tags.decode import Decoded, decode, rescored
from lmsl.data.tags.distribution import Floats
from lmsl.data.tags.operating import operating_points
from lmsl.data.tags.sentence import Dataset, Sentence
from lmsl.data.tags.thresholds import LEAST, Threshold, thresholds_of
from lmsl.errors import InputError
from lmsl.layers.head import StackedHead, load_head
from lmsl.packs.alignment import Aligner
from lmsl.packs.examples import Examples, build_examples
from lmsl.run_directory.find import find_run
from lmsl.run_directory.info import RunInfo, read_info
from lmsl.tagger.captured import choose_forward
from lmsl.tagger.emissions import emissions
from lmsl.tagger.inference import EagerForward, Forward
from lmsl.tagger.positions import check_positions
from lmsl.tagger.predictor import Predictor, Tagged
from lmsl.tagger.restore import restore_run
from lmsl.tagger.tagger import Tagger


class Labeler(Predictor):
    """A tagger of one run with its tokenizer and settings; ``load`` and ``lmsl.train`` make it.

        >>> labeler = lmsl.Labeler.load("runs/1")
        >>> labeler.info.unmask, labeler.info.base, labeler.info.decode
        ('0011', 'tiny', 'viterbi')

    The decoder is a transformers model, so what it does can be measured:

        >>> lmsl.probe(labeler.tagger.decoder)
        [False, False, False, False, True, True, True, True]

    Args:
        compute: how packs are computed; by default eagerly.
        causal_lm: the language model that the tagger's decoder is part of, where it was loaded.
    """

    device: torch.device
    """Where it computes."""

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
        self._causal_lm = causal_lm
        self.tagger = tagger
        self._aligner = aligner
        self.info = info
        self.device = device
        self._autocast = autocast
        self._compute = EagerForward(tagger, device, autocast) if compute is None else compute

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

            >>> labeler = lmsl.Labeler.load("runs/1", device="cpu")
            >>> lmsl.Labeler.load("data")
            Traceback (most recent call last):
            lmsl.errors.InputError: data: expected a run directory, found no lmsl.json in it

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
        if info.generation is not None:
            raise InputError(f"{folder}: a run that writes answers; use lmsl.Generator.load")
        say = say or Console().say
        check_choice("--cuda-graphs", cuda_graphs, CudaGraphs)
        restored = restore_run(
            folder,
            info,
            device=device,
            attention=attention,
            quantize=quantize,
            resident=resident,
            allow_changed_base=allow_changed_base,
            causal_lm=causal_lm,
            say=say,
        )
        tagger = restored.assembled.tagger
        assert isinstance(tagger.head, StackedHead)
        load_head(tagger.head, 0, folder)
        compute = choose_forward(
            tagger,
            restored.device,
            restored.autocast,
            cuda_graphs=cuda_graphs,
            attention=attention or "auto",
            say=say,
        )
        base, place = restored.assembled.base, restored.device
        aligner = Aligner(base.tokenizer, info.tokenization)
        whole = base.causal_lm and base.causal_lm.to(place).eval()
        return cls(tagger, aligner, info, place, restored.autocast, compute, whole)

    def tag(
        self,
        sentences: Sequence[Sentence],
        examples: Examples | None = None,
        track: Track | None = None,
        threshold: Threshold | None = None,
    ) -> Tagged:
        """Decode sentences, packed under the run's token budget, in order.

        Args:
            examples: of these sentences, where they were built already.
            track: told of every pack.
            threshold: see ``predict``.
        """
        least = None if threshold is None else thresholds_of(threshold, self.info.labels)
        if examples is None:
            examples = self._examples(sentences)
        found = emissions(
            self.tagger,
            examples.examples,
            [len(sentence.words) for sentence in sentences],
            tokens_per_batch=self.info.tokens_per_batch,
            device=self.device,
            autocast=self._autocast,
            compute=self._compute,
            track=track,
        )
        decoded = self._decode(found, least)
        return Tagged(decoded=decoded, examples=examples, emissions=found)

    def _decode(
        self, emissions: Sequence[Floats], thresholds: Floats | None = None
    ) -> list[Decoded]:
        """Tags and spans of log-probabilities [words, labels], as the run decodes them.

        Args:
            thresholds: of every type [types].
        """
        return decode(
            emissions,
            self.info.labels,
            self.info.decode,
            temperature=self.info.temperature,
            thresholds=thresholds,
        )

    def at_temperature(self, tagged: Tagged, temperature: float) -> list[Decoded]:
        """The same tags and spans, as probable as they would be at another temperature."""
        assert tagged.emissions is not None
        return rescored(
            tagged.decoded,
            tagged.emissions,
            self.info.labels,
            self.info.decode,
            temperature=temperature,
        )

    def metrics(self, dataset: Dataset, tagged: Tagged) -> dict[str, Any]:
        """As of every run, and where there are spans how far their probabilities can be trusted,
        in ``calibration`` (``lmsl.data.tags.calibration``)."""
        found = super().metrics(dataset, tagged)
        if self.info.labels.plain:
            return found
        entities = before = judged(dataset.sentences, tagged.decoded)
        if self.info.temperature != 1.0:
            before = judged(dataset.sentences, self.at_temperature(tagged, 1.0))
        return {**found, "calibration": calibration(entities, before, self.info.temperature)}

    def operating_points(self, dataset: Dataset, tagged: Tagged) -> dict[str, Any]:
        """What every threshold would give on data tagged already, however that was
        (``lmsl.data.tags.operating``)."""
        assert tagged.emissions is not None
        all_spans = self._decode(tagged.emissions, thresholds_of(LEAST, self.info.labels))
        return operating_points(dataset.sentences, all_spans, self.info.labels)

    def _examples(self, sentences: Sequence[Sentence]) -> Examples:
        """What the model reads of sentences under the run's settings."""
        examples = build_examples(
            sentences,
            self._aligner,
            max_length=self.info.max_length,
            overflow=self.info.overflow,
            repeat=self.info.repeat,
            context=self.info.context,
        )
        check_positions(self.tagger.decoder, sentences, examples, self.info.repeat)
        return examples
