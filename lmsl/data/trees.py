"""Dependency trees of labelled sentences: from the file itself, or from a parser at hand.

A CoNLL-U file has them in its seventh column, HEAD. Whoever has none can have spaCy or Stanza
parse the sentences (the extra ``parsers``), with the words that the file has: neither may split or
join them. Models are never downloaded here.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from lmsl.data.dependency import Heads, Trees
from lmsl.data.formats.cells import Peeked
from lmsl.data.formats.columns import read_columns
from lmsl.data.formats.layout import find_layout
from lmsl.data.formats.options import ReadOptions
from lmsl.data.formats.raw import Raw
from lmsl.data.formats.source import STDIN, shown, stream_lines, within_limits
from lmsl.data.read import data_files, open_source
from lmsl.data.tags.sentence import Dataset
from lmsl.errors import InputError
from lmsl.wording import counted, install, one_line, quoted

PARSERS = "spacy:MODEL or stanza:LANGUAGE"
_HEAD, _COLUMNS = 7, 10
_BATCH = 256
"""Sentences that Stanza is given at once."""


def trees_of(parser: str | None, options: ReadOptions) -> Trees:
    """Who gives trees: the files themselves, read as ``options`` say, or a parser.

    Raises:
        InputError: no such parser, or it or its model is not installed.
    """
    if parser is None:
        changed = "the file changed while it was read"
        return lambda dataset: _checked(dataset, file_trees(dataset.source, options), changed)
    library, _, model = parser.partition(":")
    if library not in ("spacy", "stanza") or not model:
        raise InputError(f"--parser: expected {PARSERS}, got {quoted(parser)}")
    parse = spacy_heads if library == "spacy" else stanza_heads
    pipeline = (_spacy if library == "spacy" else _stanza)(model)
    changed = "the parser changed the words of the file"
    return lambda dataset: _checked(
        dataset, parse(pipeline, [sentence.words for sentence in dataset]), changed
    )


def file_trees(source: str, options: ReadOptions) -> Iterator[Heads]:
    """The trees that a CoNLL-U file, or a folder of them, states, sentence by sentence.

    Raises:
        InputError: it is no CoNLL-U, or a HEAD that is the number of no other word.
    """
    if source == STDIN:
        raise InputError(
            f"--right-dependency: expected files, which are read twice, got {shown(source)}; save "
            f"it to a file, or have it parsed with --parser {PARSERS}"
        )
    path = Path(source)
    # A pair of files is one source, which has no column HEAD.
    whole = not path.is_dir() or open_source(path, options).kind == "seq"
    for file in [path] if whole else data_files(path):
        with within_limits(str(file)):
            yield from map(_heads, _head_columns(file, options))


def _head_columns(path: Path, options: ReadOptions) -> Iterator[Raw]:
    """Sentences with HEAD in place of tags; what is no word is skipped as for the tags."""
    kind = open_source(path, options).kind
    found = f"the format {kind}"
    if kind == "columns":
        lines = Peeked(stream_lines(path))
        layout = find_layout(lines, str(path), replace(options, labelled=False))
        if layout.numbered and layout.width >= _COLUMNS:
            reading = replace(options, tag_column=_HEAD, scheme="plain", labelled=True)
            yield from read_columns(lines, str(path), reading, [])
            return
        numbered = "numbers the words" if layout.numbered else "does not number the words"
        found = f"{layout.width} columns, of which the first {numbered}"
    raise InputError(
        f"{path}: expected CoNLL-U, ten columns of which the seventh is HEAD, got {found}; have "
        f"it parsed with --parser {PARSERS}"
    )


def _heads(raw: Raw) -> Heads:
    numbers: dict[str | None, int] = {str(number): number for number in range(len(raw.words) + 1)}
    heads = [numbers.get(cell) for cell in raw.tags or ()]
    found = []
    for place, head in enumerate(heads):
        if head is None or head == place + 1:
            raise InputError(
                f"{raw.place(place)}: HEAD: expected 0 or the number of another of "
                f"{counted(len(raw.words), 'word')}, got {quoted((raw.tags or ())[place])}; "
                f"correct it, or have the file parsed with --parser {PARSERS}"
            )
        found.append(head)
    return found


def spacy_heads(pipeline: Any, sentences: Sequence[Sequence[str]]) -> Iterator[Heads]:
    """The trees that a spaCy pipeline finds; a word that is its own head is a root."""
    from spacy.tokens import Doc

    docs = (Doc(pipeline.vocab, words=list(words)) for words in sentences)
    for doc in pipeline.pipe(docs):
        if not doc.has_annotation("DEP"):
            raise InputError(
                f"--parser: expected a spaCy model with a parser, got one of "
                f"{', '.join(pipeline.pipe_names) or 'no components'}"
            )
        yield [0 if word.head.i == word.i else word.head.i + 1 for word in doc]


def stanza_heads(pipeline: Any, sentences: Sequence[Sequence[str]]) -> Iterator[Heads]:
    """The trees that a Stanza pipeline finds, which was told that its input has words."""
    for first in range(0, len(sentences), _BATCH):
        some = [list(words) for words in sentences[first : first + _BATCH]]
        for sentence in pipeline(some).sentences:
            yield [int(word.head) for word in sentence.words]


def _checked(dataset: Dataset, trees: Iterable[Heads], why: str) -> Iterator[Heads]:
    """The trees, each with as many words as its sentence; ``why`` one can have others."""
    rest = iter(trees)
    for sentence in dataset:
        heads = next(rest, ())
        if len(heads) != len(sentence.words):
            raise InputError(
                f"{sentence.where}: expected a tree of {len(sentence.words)} words, got one of "
                f"{len(heads)}; {why}"
            )
        yield heads


def _spacy(model: str) -> Any:
    spacy = _imported("spacy", model)
    # An installed package, no folder: of a folder nobody knows who wrote it.
    if not spacy.util.is_package(model):
        raise InputError(
            f"--parser spacy:{model}: expected an installed model; python -m spacy download "
            f"{model}"
        )
    try:
        return spacy.load(model)
    except Exception as error:
        raise InputError(
            f"--parser spacy:{model}: cannot be loaded: {one_line(error):.200}"
        ) from error


def _stanza(language: str) -> Any:
    stanza = _imported("stanza", language)
    try:
        return stanza.Pipeline(
            language,
            processors="tokenize,pos,lemma,depparse",
            tokenize_pretokenized=True,
            download_method=None,
            verbose=False,
        )
    except Exception as error:
        raise InputError(
            f"--parser stanza:{language}: expected an installed model; python -c "
            f"\"import stanza; stanza.download('{language}')\" ({one_line(error):.200})"
        ) from error


def _imported(library: str, model: str) -> Any:
    try:
        return import_module(library)
    except ImportError as error:
        raise InputError(
            f"--parser {library}:{model}: expected {error.name}, which is not installed; "
            f"{install('parsers')}"
        ) from error
