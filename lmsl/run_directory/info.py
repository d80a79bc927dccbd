"""``lmsl.json``: everything that prediction needs beside the weights."""

import dataclasses
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, get_type_hints

from lmsl.about import __version__
from lmsl.config.choices import (
    Dtype,
    Forward,
    Generation,
    LabelAt,
    LoRA,
    Overflow,
    Quantize,
    Task,
)
from lmsl.config.hints import converted, described, fits
from lmsl.config.ranges import check_range
from lmsl.config.strings import check_string
from lmsl.data.documents import read_object
from lmsl.data.formats.options import Columns, FileShape, ReadOptions, WordMode, read_options
from lmsl.data.tags.decode import Decoder
from lmsl.data.tags.schemes import OUTSIDE
from lmsl.data.tags.sentence import Dataset
from lmsl.data.tags.vocabulary import LabelSet, check_labels, unknown_labels
from lmsl.errors import InputError
from lmsl.run_directory.digests import Digests, document_digest
from lmsl.wording import quoted

INFO = "lmsl.json"
CHECKPOINT = "checkpoint"
"""Folder in that of a run which is trained or was interrupted."""
_FORMAT = 1
_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "tokenizers", "numpy")


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a trained run needs to be known by, beside its weights."""

    unmask: str
    labels: LabelSet
    base: str
    revision: str | None
    lora: LoRA | None
    """None where all weights were trained: the run holds a model of its own."""
    label_at: LabelAt
    words: WordMode
    tokenization: str
    decode: Decoder
    repeat: int
    exit_layer: int | None
    context: int
    max_length: int
    overflow: Overflow
    tokens_per_batch: int
    quantize: Quantize
    block: Forward
    """Whose forward it was trained and scored with."""
    dtype: Dtype
    seed: int
    files: FileShape
    """Of the files it was trained on."""
    task: Task = "label"
    temperature: float = 1.0
    """Words' log-probabilities are divided by it before the probability of a span is formed."""
    generation: Generation | None = None
    """Where it writes answers: how it asks."""
    digests: Digests | None = None
    """None in runs that are older than they are."""

    def read_options(self, columns: Columns | None = None) -> ReadOptions:
        """How labelled files are read for this run: words as in training, plain tags as such.

        Args:
            columns: by default those of the files it was trained on.
        """
        columns = columns or Columns(**vars(self.files))
        options = read_options(columns, self.words)
        plain = self.labels.plain and columns.scheme == "auto"
        return dataclasses.replace(options, scheme="plain") if plain else options

    def check_scorable(self, dataset: Dataset, *, strict: bool = False) -> list[str]:
        """Notes on labels this run cannot find; InputError for data that cannot be scored.

        Args:
            strict: refuse labels that the run does not know, too.
        """
        if any(sentence.tags is None for sentence in dataset):
            raise InputError(f"{dataset.source}: expected tags to evaluate against, found none")
        if strict:
            check_labels(dataset, self.labels)
        return unknown_labels(dataset, self.labels)

    def to_json(self) -> str:
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("labels", "digests")
        }
        values["lora"] = None if self.lora is None else dataclasses.asdict(self.lora)
        if self.generation is not None or self.labels.plain:
            # There are no probabilities of spans.
            del values["temperature"]
        if self.generation is None:
            del values["generation"]
        else:
            values["generation"] = dataclasses.asdict(self.generation)
        values["files"] = dataclasses.asdict(self.files)
        scheme = "plain" if self.labels.plain else "iob2"
        heads = [{"name": "labels", "labels": list(self.labels.names), "scheme": scheme}]
        document = {"format": _FORMAT, **values, "heads": heads, "versions": versions()}
        if self.digests is not None:
            document["digests"] = dataclasses.asdict(self.digests)
            document["digest"] = document_digest(document)
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def read_info(folder: Path) -> RunInfo:
    """Read ``lmsl.json``.

    Raises:
        InputError: the folder is not a run of this format.
    """
    path = folder / INFO
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a run directory, found no such folder")
    if not path.is_file():
        if (folder / CHECKPOINT).is_dir():
            raise InputError(f"{folder}: an interrupted run; go on with lmsl train --resume")
        raise InputError(f"{folder}: expected a run directory, found no {INFO} in it")
    document = read_object(path)
    try:
        for key in ("format", "lora", "heads"):
            if key not in document:
                raise InputError(f"{path}: not a description of a run: {key}: found none")
        if document["format"] != _FORMAT:
            raise InputError(
                f"{path}: expected format {_FORMAT}, got {quoted(document['format'])}; use the "
                f"version of lmsl that wrote it ({document['versions']['lmsl']})"
            )
        digests = _digests(path, document)
        lora = None
        if document["lora"] is not None:
            lora = LoRA(**_typed(path, LoRA, document["lora"], prefix="lora_"))
        # Runs that are older than this entry do not say what their files were like.
        shape = dataclasses.asdict(FileShape()) | document.get("files", {})
        files = FileShape(**_typed(path, FileShape, shape))
        labels = _labels(path, document["heads"])
        built = {
            "labels": labels,
            "lora": lora,
            "files": files,
            "digests": digests,
            "generation": _generation(path, document, labels),
        }
        # Nor whose forward they used, nor what for: there was but one. Scores were as they came.
        before = {"block": "plain", "task": "label", "temperature": 1.0}
        info = RunInfo(**_typed(path, RunInfo, {**before, **document, **built}))
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a description of a run: {quoted(error)}") from error
    try:
        check_string(info.unmask)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return info


def _digests(path: Path, document: Mapping[str, Any]) -> Digests | None:
    """The digests of a run, the file's own among them; None where an older version wrote it."""
    if "digests" not in document and "digest" not in document:
        return None
    if document.get("digest") != document_digest(document):
        raise InputError(
            f"{path}: changed or damaged since the training (its own SHA-256 differs); copy the "
            "run anew or train it again"
        )
    digests = Digests(**document["digests"])
    for part in (digests.run, digests.base, digests.data):
        if not isinstance(part, dict) or not all(isinstance(each, str) for each in part.values()):
            raise InputError(f"{path}: digests: expected names and text, got {quoted(part)}")
    return digests


def _generation(path: Path, document: Mapping[str, Any], labels: LabelSet) -> Generation | None:
    """How a run asks that writes answers; None for one that does not."""
    found = document.get("generation")
    if (found is not None) != (document.get("task", "label") == "generate"):
        raise InputError(f"{path}: generation: expected it beside task generate, and there alone")
    if found is None:
        return None
    generation = Generation(**_typed(path, Generation, found))
    if len(generation.names) != len(labels.types):
        raise InputError(
            f"{path}: generation: names: expected {len(labels.types)}, one a type, "
            f"got {len(generation.names)}"
        )
    return generation


def _labels(path: Path, heads: Any) -> LabelSet:
    """The labels of the one head, in the order of their ids."""
    if not isinstance(heads, list) or len(heads) != 1 or not isinstance(heads[0], dict):
        raise InputError(f"{path}: heads: expected a list of one, got {quoted(heads)}")
    head = heads[0]
    names, plain = head["labels"], head["scheme"] == "plain"
    place = f"{path}: heads: labels"
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{place}: expected a list of text, got {quoted(names)}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{place}: expected each once, got {quoted(twice[0])} again")
    if head["scheme"] not in ("iob2", "plain"):
        raise InputError(
            f"{path}: heads: scheme: expected iob2 or plain, got {quoted(head['scheme'])}"
        )
    if not names:
        raise InputError(f"{place}: expected at least one, got none")
    if not plain and OUTSIDE not in names:
        raise InputError(f"{place}: expected O among them, got {quoted(names)}")
    for name in names:
        if not plain and name != OUTSIDE and (name[:2] not in ("B-", "I-") or not name[2:]):
            raise InputError(f"{place}: expected O, B-TYPE or I-TYPE, got {quoted(name)}")
    return LabelSet(tuple(names), plain=plain)


def _typed(
    path: Path, kind: type, values: Mapping[str, Any], *, prefix: str = ""
) -> dict[str, Any]:
    """The arguments of a dataclass, each checked against its hint and its range.

    Args:
        prefix: what the settings of the same ranges are called before these names.
    """
    typed = {}
    if not isinstance(values, Mapping):
        raise InputError(
            f"{path}: {kind.__name__}: expected names and values, got {quoted(values)}"
        )
    for name, hint in get_type_hints(kind).items():
        if name not in values:
            raise InputError(f"{path}: {name}: expected {described(hint)}, found none")
        typed[name] = converted(values[name], hint)
        if not fits(typed[name], hint):
            raise InputError(
                f"{path}: {name}: expected {described(hint)}, got {quoted(values[name])}"
            )
        check_range(f"{path}: {name}", prefix + name, typed[name])
    return typed


def versions(packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on; none is imported for it."""
    found = {"lmsl": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
