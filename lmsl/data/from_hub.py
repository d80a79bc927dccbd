"""Reading token-labelled datasets from the Hugging Face hub, where `datasets` is installed.

Hub datasets keep words in one column and tags, as class numbers or strings, in another. Loading
scripts no longer exist in `datasets`, so old names such as ``conll2003`` need a mirror that holds
parquet files. A folder in the layout of the hub is read as ``FOLDER:default``.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lmsl.data.formats.options import ReadOptions
from lmsl.data.formats.raw import Raw
from lmsl.data.resolve import resolve
from lmsl.data.tags.sentence import Dataset, Name
from lmsl.errors import InputError
from lmsl.hub import unreachable
from lmsl.wording import install, one_line, quoted, shortened

_WORD_COLUMNS = ("tokens", "words")
_TAG_COLUMNS = ("ner_tags", "tags", "labels", "chunk_tags", "pos_tags")
_SPLITS = {"train": ("train",), "dev": ("validation", "dev", "valid", "val"), "test": ("test",)}


def read_hub(name: str, options: ReadOptions) -> dict[str, Dataset]:
    """Load `NAME` or `NAME:CONFIG` from the hub (or its cache) as train, dev and test."""
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"--data {name}: no such folder, and a Hugging Face dataset needs the package "
            f"datasets; {install('datasets')}"
        ) from None
    path, _, config = name.partition(":")
    prepared = Path(datasets.config.HF_DATASETS_CACHE, path.replace("/", "___"))
    here = Path(path).is_dir() or prepared.is_dir()
    if not here and (offline := unreachable(path, "README.md", dataset=True)):
        raise InputError(
            f"--data {name}: no such folder, not in the cache of datasets, and the Hugging Face "
            f"hub cannot be reached ({offline})"
        )
    try:
        # From version 4 on datasets knows no code in a repository, so there is nothing to refuse.
        splits = datasets.load_dataset(path, config or None)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = one_line(error)[:200]
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
        raise InputError(
            f"--data {name}: expected a split train, found {shortened(', '.join(splits))}"
        )
    return found


def _convert(rows: Any, source: str, options: ReadOptions) -> Dataset:
    words = _column(rows.features, _WORD_COLUMNS, source)
    tags = _column(rows.features, _TAG_COLUMNS, source)
    names = _class_names(rows.features[tags])
    raws = []
    for number, row in enumerate(rows):
        place = f"{source}: row {number}"
        own, tagged = (_list(row[column], column, place) for column in (words, tags))
        if len(own) != len(tagged):
            raise InputError(f"{place}: expected {len(own)} {tags}, got {len(tagged)}")
        if not all(isinstance(word, str) for word in own):
            raise InputError(f"{place}: expected {words} to be strings")
        raws.append(
            Raw(
                words=tuple(own),
                where=place,
                tags=tuple(_named(tagged, names, place)),
                document=_name(row.get("doc_id", row.get("document_id"))),
                id=_name(row.get("id")),
            )
        )
    return resolve(raws, source, options, [f"words from {words!r}, tags from {tags!r}"])


def _column(features: Iterable[str], candidates: tuple[str, ...], source: str) -> str:
    found = [name for name in candidates if name in features]
    if not found:
        raise InputError(
            f"{source}: expected a column {' or '.join(candidates)}, found "
            f"{shortened(', '.join(features))}"
        )
    return found[0]


def _class_names(feature: Any) -> list[str] | None:
    """Names of a sequence of ClassLabel; None where the tags are strings already."""
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return list(names) if names is not None else None


def _list(value: Any, column: str, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{place}: expected {column} to be a list, got {quoted(value)}")
    return value


def _named(values: Iterable[Any], names: list[str] | None, place: str) -> Iterable[str | None]:
    for value in values:
        if value is None or isinstance(value, str):
            yield value
        elif not isinstance(value, int):
            raise InputError(f"{place}: expected tags to be text or numbers, got {quoted(value)}")
        elif names is None or not 0 <= value < len(names):
            # -100 and -1 mark words without a label; any other number has no name.
            if value not in (-1, -100):
                raise InputError(f"{place}: tag number {quoted(value)} has no name in the dataset")
            yield None
        else:
            yield names[value]


def _name(value: Any) -> Name | None:
    return value if value is None or isinstance(value, int) else str(value)
