"""A trained run that writes answers, in use: ``predict``, ``predict_tags`` or ``evaluate``.

    generator = lmsl.Generator.load("runs/1")
    generator.predict(["Ada Lovelace met Babbage."])

It does what a ``Labeler`` does. Entities have no score: how likely an answer is says nothing of
how likely one of its spans is, which is the sum over all answers that list it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lmsl.config.choices import CudaGraphs, Quantize, Resident
from lmsl.console import Console, Track
from lmsl.data.tags.sentence import Dataset, Sentence
from lmsl.data.tags.thresholds import Threshold
from lmsl.errors import InputError
from lmsl.generation.examples import Prompter
from lmsl.generation.respondent import Answered, Respondent
from lmsl.packs.alignment import Aligner
from lmsl.packs.examples import Examples
from lmsl.run_directory.find import find_run
from lmsl.run_directory.info import RunInfo, read_info
from lmsl.tagger.labeler import Labeler
from lmsl.tagger.predictor import Predictor, Tagged
from lmsl.tagger.restore import restore_run


class Generator(Predictor):
    """A language model of one run with its prompt and settings.

    >>> config = lmsl.Config(task="generate", data="data", max_steps=1, output="written")
    >>> (trained,) = lmsl.train(config)
    >>> generator = lmsl.Generator.load("written")
    >>> len(generator.predict(["Ada Lovelace met Babbage.", ""]))
    2
    """

    def __init__(self, respondent: Respondent, info: RunInfo) -> None:
        self._respondent = respondent
        self.info = info
        self.tagger = respondent.speaker.tagger

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str | None = None,
        attention: str | None = None,
        quantize: Quantize | None = None,
        resident: Resident = "auto",
        allow_changed_base: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> "Generator":
        """Load a run directory, or a run on the hub; arguments and errors as ``Labeler.load``."""
        folder = find_run(path)
        info = read_info(folder)
        if info.generation is None:
            raise InputError(f"{folder}: a run that labels words; use lmsl.Labeler.load")
        restored = restore_run(
            folder,
            info,
            device=device,
            attention=attention,
            quantize=quantize,
            resident=resident,
            allow_changed_base=allow_changed_base,
            causal_lm=True,
            say=say or Console().say,
        )
        base = restored.assembled.base
        prompter = Prompter(
            Aligner(base.tokenizer, info.tokenization),
            base.tokenizer,
            info.generation,
            info.labels,
            max_length=info.max_length,
            overflow=info.overflow,
        )
        respondent = Respondent.of(
            restored.assembled.tagger,
            base,
            prompter,
            seed=info.seed,
            tokens_per_batch=info.tokens_per_batch,
            device=restored.device,
            autocast=restored.autocast,
        )
        return cls(respondent, info)

    def tag(
        self,
        sentences: Sequence[Sentence],
        examples: Examples | None = None,
        track: Track | None = None,
        threshold: Threshold | None = None,
    ) -> Answered:
        """Ask for the spans of sentences, in order.

        Args:
            examples: questions of these sentences, where they were made already.
            track: told of every batch.
            threshold: refused.
        """
        if threshold is not None:
            raise InputError(
                "threshold: expected a run that labels words, got one that writes spans and gives "
                "them no probability"
            )
        return self._respondent.tag(sentences, examples, track)

    def metrics(self, dataset: Dataset, tagged: Tagged) -> dict[str, Any]:
        """As of a ``Labeler``, and counts of what was wrong with answers in ``generation``."""
        found = super().metrics(dataset, tagged)
        assert isinstance(tagged, Answered)
        return {**found, "generation": tagged.report()}


def load_run(
    path: str | Path,
    device: str | None = None,
    attention: str | None = None,
    *,
    quantize: Quantize | None = None,
    resident: Resident = "auto",
    cuda_graphs: CudaGraphs = "off",
    allow_changed_base: bool = False,
    causal_lm: bool = False,
    say: Callable[[str], None] | None = None,
) -> Labeler | Generator:
    """Load a run of either kind; arguments and errors as ``Labeler.load``."""
    folder = find_run(path)
    if read_info(folder).generation is None:
        return Labeler.load(
            folder,
            device=device,
            attention=attention,
            quantize=quantize,
            resident=resident,
            cuda_graphs=cuda_graphs,
            allow_changed_base=allow_changed_base,
            causal_lm=causal_lm,
            say=say,
        )
    if cuda_graphs == "on":
        raise InputError("--cuda-graphs on: expected a run that labels words, got one that writes")
    return Generator.load(folder, device, attention, quantize, resident, allow_changed_base, say)
