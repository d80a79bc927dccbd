"""Reading token-labelled datasets from the Hugging Face hub, where `datasets` is installed.

Hub datasets keep words in one column and tags, as class numbers or strings, in another. Loading
scripts no longer exist in `datasets`, so old names such as ``conll2003`` need a mirror that holds
parquet files.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from lmsl.errors import InputError
from lmsl.resolve import resolve
from lmsl.sentence import Dataset, Raw, ReadOptions

_WORD_COLUMNS = ("tokens", "words")
_TAG_COLUMNS = ("ner_tags", "tags", "labels", "chunk_tags", "pos_tags")
_SPLITS = {"train": ("train",), "dev": ("validation", "dev", "valid"), "test": ("test",)}


def read_hub(name: str, options: ReadOptions) -> dict[str, Dataset]:
    """Load `NAME` or `NAME:CONFIG` from the hub (or its cache) as train, dev and test."""
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"--data {name}: no such folder, and a Hugging Face dataset needs the package "
            "datasets (pip install datasets)"
        ) from None
    path, _, config = name.partition(":")
    try:
        splits = datasets.load_dataset(path, config or None)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--data {name}: cannot be loaded as a dataset ({reason})") from None
    return from_hub(splits, name, options)


def from_hub(splits: Mapping[str, Any], name: str, options: ReadOptions) -> dict[str, Dataset]:
    """Convert a loaded dataset: a mapping of split names to rows with `features`."""
    found = {}
    for split, names in _SPLITS.items():
        given = next((candidate for candidate in names if candidate in splits), None)
        if given is not None:
            found[split] = _convert(splits[given], f"{name}[{given}]", options)
    if "train" not in found:
        raise InputError(f"--data {name}: expected a split train, found {', '.join(splits)}")
    return found


def _convert(rows: Any, source: str, options: ReadOptions) -> Dataset:
    words = _column(rows.features, _WORD_COLUMNS, source)
    tags = _column(rows.features, _TAG_COLUMNS, source)
    names = _class_names(rows.features[tags])
    raws = []
    for number, row in enumerate(rows):
        place = f"{source}: row {number}"
        if len(row[words]) != len(row[tags]):
            raise InputError(f"{place}: expected {len(row[words])} {tags}, got {len(row[tags])}")
        raws.append(
            Raw(
                words=tuple(row[words]),
                places=(place,),
                tags=tuple(_named(row[tags], names, place)),
                document=_text(row.get("doc_id") or row.get("document_id")),
                id=_text(row.get("id")),
            )
        )
    return resolve(raws, source, options, [f"words from {words!r}, tags from {tags!r}"])


def _column(features: Iterable[str], candidates: tuple[str, ...], source: str) -> str:
    found = [name for name in candidates if name in features]
    if not found:
        raise InputError(
            f"{source}: expected a column {' or '.join(candidates)}, found {', '.join(features)}"
        )
    return found[0]


def _class_names(feature: Any) -> list[str] | None:
    """Names of a sequence of ClassLabel; None where the tags are strings already."""
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return list(names) if names is not None else None


def _named(values: Iterable[Any], names: list[str] | None, place: str) -> Iterable[str | None]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif names is None or not 0 <= value < len(names):
            # -100 and -1 mark words without a label; any other number has no name.
            if value not in (-1, -100):
                raise InputError(f"{place}: tag number {value} has no name in the dataset")
            yield None
        else:
            yield names[value]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
