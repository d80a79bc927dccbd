"""``lmsl.json``: everything that prediction needs beside the weights."""

import dataclasses
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, get_type_hints

from lmsl.about import __version__
from lmsl.config.choices import Forward, LabelAt, LoRA, Overflow, Quantize
from lmsl.config.hints import converted, described, fits
from lmsl.data.formats.options import Columns, FileShape, ReadOptions, WordMode, read_options
from lmsl.data.tags.decode import Decoder
from lmsl.data.tags.sentence import Dataset
from lmsl.data.tags.vocabulary import LabelSet, check_labels, unknown_labels
from lmsl.errors import InputError

INFO = "lmsl.json"
_FORMAT = 1
_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "tokenizers", "numpy")


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a trained run needs to be known by, beside its weights."""

    unmask: str
    labels: LabelSet
    base: str
    revision: str | None
    lora: LoRA
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
    dtype: str
    seed: int
    files: FileShape
    """Of the files it was trained on."""

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
            if field.name != "labels"
        }
        values["lora"] = dataclasses.asdict(self.lora)
        values["files"] = dataclasses.asdict(self.files)
        scheme = "plain" if self.labels.plain else "iob2"
        heads = [{"name": "labels", "labels": list(self.labels.names), "scheme": scheme}]
        document = {"format": _FORMAT, **values, "heads": heads, "versions": versions()}
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
        raise InputError(f"{folder}: expected a run directory, found no {INFO} in it")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != _FORMAT:
            raise InputError(
                f"{path}: expected format {_FORMAT}, got {document['format']}; use the version of "
                f"lmsl that wrote it ({document['versions']['lmsl']})"
            )
        (head,) = document["heads"]
        labels = LabelSet(tuple(head["labels"]), plain=head["scheme"] == "plain")
        lora = LoRA(**_typed(path, LoRA, document["lora"]))
        # Runs that are older than this entry do not say what their files were like.
        shape = dataclasses.asdict(FileShape()) | document.get("files", {})
        files = FileShape(**_typed(path, FileShape, shape))
        built = {"labels": labels, "lora": lora, "files": files}
        # Nor whose forward they used: there was but one.
        return RunInfo(**_typed(path, RunInfo, {"block": "plain", **document, **built}))
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a description of a run: {error!r:.150}") from error


def _typed(path: Path, kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a dataclass, each checked against its hint."""
    typed = {}
    for name, hint in get_type_hints(kind).items():
        typed[name] = converted(values[name], hint)
        if not fits(typed[name], hint):
            raise InputError(
                f"{path}: {name}: expected {described(hint)}, got {values[name]!r:.60}"
            )
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
