"""Words to sub-words: one map, made by us from character offsets and checked on every call.

Libraries' own word indices are wrong for several tokenizers, and tokenising a list of words is
not the same as tokenising the sentence for byte-level ones. So a sentence is tokenised as the one
text ``' '.join(words)``, as the model saw text in pre-training, and each sub-word goes to the word
whose characters it covers. What differs between tokenizers is absorbed by three rules:

1. The space before a word counts as that word's, so a sub-word that is only such spaces goes to
   the word that follows. This serves offsets with and without the leading space alike.
2. A sub-word with an empty span belongs where its span starts: to the word of the character there,
   or to the last word at the end of the text.
3. A sub-word that covers characters of two words has no owner. Its sentence is then tokenised word
   by word, each word with the leading space it would have inside a sentence.

A word left without any sub-word (an empty or stripped one) gets a placeholder, so that it still
has a position to be read at. Texts such as ``</s>`` are spelt out instead of becoming special
tokens, as far as the tokenizer declares them special.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lmsl.errors import InputError
from lmsl.packs.subwords import owners
from lmsl.wording import counted

Ints = NDArray[np.int32]

# Bounds the memory that offsets take as Python objects; larger chunks are not faster.
SENTENCES_PER_CALL = 1024
JOINED, CLOSED = "joined", "joined, closed"
REPLACEMENT = "\ufffd"
SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """One sentence as sub-words; word ``w`` owns ``ids[starts[w]:ends[w]]``, never empty.

    ``ids`` begins with the beginning-of-sequence ids where the tokenizer adds them (they belong to
    no word) and has no end-of-sequence id: where texts are closed, ``Aligner.eos`` says by what.
    The words' ranges follow one another without a gap.
    """

    ids: Ints
    starts: Ints
    ends: Ints
    placeholders: int = 0
    """Words that the tokenizer dropped to nothing."""
    word_by_word: bool = False
    """Whether a sub-word straddled two words (rule 3 of the module)."""
    repaired: int = 0
    """Words with lone surrogates, which no tokenizer accepts; each became U+FFFD."""


@dataclass(frozen=True, kw_only=True)
class AlignmentNotes:
    """What had to be repaired over many sentences, for the report."""

    placeholders: int = 0
    word_by_word: int = 0
    repaired: int = 0

    @classmethod
    def of(cls, encodings: Sequence[Encoding]) -> "AlignmentNotes":
        return cls(
            **{
                field.name: sum(int(getattr(encoding, field.name)) for encoding in encodings)
                for field in fields(cls)
            }
        )

    def lines(self) -> list[str]:
        """One sentence for people per kind of repair that happened."""
        told = (
            (self.placeholders, "word", "without a sub-word, read at a placeholder"),
            (self.word_by_word, "sentence", "tokenised word by word"),
            (self.repaired, "word", "with lone surrogates, replaced by U+FFFD"),
        )
        return [f"{counted(count, noun)} {what}" for count, noun, what in told if count]


class Aligner:
    """Tokenises sentences given as words and says which sub-words are whose.

    Args:
        tokenizer: a ``transformers`` tokenizer backed by the ``tokenizers`` library, or one of
            that library itself. It is copied for encoding: what is done to it later
            does not matter, and it is not changed.
        mode: how sentences are tokenised, stored with a run: ``"joined"`` as above, or
            ``"joined, closed"`` for encoders, whose texts end with what their tokenizer puts
            there, as [SEP].

    Raises:
        InputError: the tokenizer has no character offsets (pure Python ones), the mode is
            unknown, or nothing at all can be encoded.
    """

    def __init__(self, tokenizer: Any, mode: str = JOINED) -> None:
        if mode not in (JOINED, CLOSED):
            raise InputError(
                f"tokenisation mode: expected {JOINED!r} or {CLOSED!r}, got {mode!r:.40}"
            )
        self.mode = mode
        self._given = tokenizer
        self._backend = _private_copy(tokenizer)
        self.bos, closing = _special_ids(self._backend)
        self.eos = closing if mode == CLOSED else []
        self.joint = _joint(self._backend)
        """What makes a tokenizer spell the first word of a text as one inside of it."""
        self._placeholder = _placeholder(tokenizer, self._backend)

    def encode(self, sentences: Sequence[Sequence[str]]) -> list[Encoding]:
        """Encode sentences in order; a sentence without words keeps only the ``bos`` ids."""
        encodings: list[Encoding] = []
        for first in range(0, len(sentences), SENTENCES_PER_CALL):
            encodings += self._encode_chunk(sentences[first : first + SENTENCES_PER_CALL])
        return encodings

    def text(self, text: str) -> tuple[Ints, int]:
        """The sub-words of a running text, without ``bos``, and how many characters the first has.

        Here too texts such as ``</s>`` are spelt out.
        """
        readable = SURROGATES.sub(REPLACEMENT, text)
        encoded = self._backend.encode(readable, add_special_tokens=False)
        ids = np.array(encoded.ids, dtype=np.int32)
        return ids, int(encoded.offsets[0][1]) if len(ids) else 0

    def spelt(self, ids: Iterable[int]) -> str:
        """The text of sub-words."""
        found: str = self._backend.decode([int(token) for token in ids], skip_special_tokens=False)
        return found

    def save(self, folder: Path) -> None:
        """Write the tokenizer as it was given, in its own library's files."""
        if isinstance(self._given, Tokenizer):
            self._given.save(str(folder / "tokenizer.json"))
        else:
            self._given.save_pretrained(folder)

    def _encode_chunk(self, sentences: Sequence[Sequence[str]]) -> list[Encoding]:
        readable, repaired = _replace_surrogates(sentences)
        wordy = [index for index, words in enumerate(readable) if words]
        chosen = [readable[index] for index in wordy]
        joined = self._joined(chosen)
        straddling = [index for index, encoding in zip(wordy, joined, strict=True) if not encoding]
        spelt = self._word_by_word([readable[index] for index in straddling])

        nothing = np.zeros(0, dtype=np.int32)
        empty = Encoding(ids=np.asarray(self.bos, dtype=np.int32), starts=nothing, ends=nothing)
        by_index = dict(zip(wordy, joined, strict=True)) | dict(
            zip(straddling, spelt, strict=True)
        )
        return [
            replace(by_index.get(index) or empty, repaired=count)
            for index, count in enumerate(repaired)
        ]

    def _joined(self, sentences: list[Sequence[str]]) -> list[Encoding | None]:
        """Tokenise each sentence as one text; None where a sub-word straddles two words."""
        if not sentences:
            return []
        texts = [" ".join(words) for words in sentences]
        encoded = self._backend.encode_batch(texts, add_special_tokens=False)
        sizes = np.array([len(each) for each in encoded])
        spans = np.array(list(chain.from_iterable(each.offsets for each in encoded)), np.int64)
        owner, straddles = owners(sentences, sizes, spans.reshape(-1, 2))

        token_sentence = np.repeat(np.arange(len(sentences)), sizes)
        word_sentence = np.repeat(np.arange(len(sentences)), [len(words) for words in sentences])
        bad = np.bincount(token_sentence[straddles], minlength=len(sentences)) > 0
        kept = ~bad[token_sentence]
        ids = np.array(list(chain.from_iterable(each.ids for each in encoded)), dtype=np.int32)
        counts = np.bincount(owner[kept], minlength=len(word_sentence))[~bad[word_sentence]]
        good = self._assemble([len(sentences[i]) for i in np.flatnonzero(~bad)], ids[kept], counts)
        following = iter(good)
        return [None if straddled else next(following) for straddled in bad]

    def _word_by_word(self, sentences: list[Sequence[str]]) -> list[Encoding]:
        """Tokenise every word alone, with the space it would have inside a sentence."""
        texts = [
            self.joint + word if position else word
            for words in sentences
            for position, word in enumerate(words)
        ]
        encoded = self._backend.encode_batch(texts, add_special_tokens=False)
        ids = np.array(list(chain.from_iterable(each.ids for each in encoded)), dtype=np.int32)
        counts = np.array([len(each) for each in encoded], dtype=np.int64)
        assembled = self._assemble([len(words) for words in sentences], ids, counts)
        return [replace(encoding, word_by_word=True) for encoding in assembled]

    def _assemble(
        self, words_per_sentence: list[int], ids: Ints, counts: NDArray[np.int64]
    ) -> list[Encoding]:
        """Cut flat ids, ``counts[w]`` of them for word ``w``, into sentences; fill empty words."""
        dropped = counts == 0
        if dropped.any():
            filler = self._filler()
            before = np.cumsum(counts)[dropped]
            ids = np.insert(
                ids, np.repeat(before, len(filler)), np.tile(filler, int(dropped.sum()))
            )
            counts = np.where(dropped, len(filler), counts)
        ends = np.cumsum(counts)
        if len(ids) != (ends[-1] if len(ends) else 0):
            raise RuntimeError(f"alignment lost sub-words: {len(ids)} ids, {ends[-1:]} owned")
        starts = ends - counts

        bos = np.asarray(self.bos, dtype=np.int32)
        encodings = []
        first_word = 0
        for words in words_per_sentence:
            own = slice(first_word, first_word + words)
            first_word += words
            first_id = starts[own][0]
            shift = first_id - len(bos)
            encodings.append(
                Encoding(
                    ids=np.concatenate([bos, ids[first_id : ends[own][-1]]]).astype(np.int32),
                    starts=(starts[own] - shift).astype(np.int32),
                    ends=(ends[own] - shift).astype(np.int32),
                    placeholders=int(dropped[own].sum()),
                )
            )
        return encodings

    def _filler(self) -> list[int]:
        if not self._placeholder:
            raise InputError(
                "tokenizer: a word was dropped to nothing, and there is neither an unknown token "
                "nor an encoding of U+FFFD to stand for it; remove that word or add unk_token"
            )
        return self._placeholder


def _private_copy(tokenizer: Any) -> Tokenizer:
    """A copy of the Rust tokenizer without truncation, padding or matching of special tokens."""
    backend = tokenizer
    if not isinstance(backend, Tokenizer):
        backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise InputError(
            "tokenizer: expected one with character offsets (backed by the tokenizers library), "
            f"got {type(tokenizer).__name__}; use a model that ships a tokenizer.json"
        )
    copy = Tokenizer.from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    copy.encode_special_tokens = True
    return copy


def _special_ids(backend: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer itself puts before a text, and those after it."""
    for probe in ("a", "1", REPLACEMENT):
        encoding = backend.encode(probe, add_special_tokens=True)
        special = list(encoding.special_tokens_mask)
        if 0 in special:
            ids = [int(token) for token in encoding.ids]
            last = len(special) - special[::-1].index(0)
            return ids[: special.index(0)], ids[last:]
    raise InputError("tokenizer: it encodes neither 'a' nor '1' nor U+FFFD to any sub-word")


def _joint(backend: Tokenizer) -> str:
    """What to put before a word alone so that it is spelt as inside a sentence: "" or " "."""

    def ids(text: str) -> list[int]:
        return list(backend.encode(text, add_special_tokens=False).ids)

    alone = ids("a")
    return "" if ids("a a") == alone + alone else " "


def _placeholder(tokenizer: Any, backend: Tokenizer) -> list[int]:
    """The unknown token's id, else the sub-words of U+FFFD, else nothing."""
    unknown = getattr(tokenizer, "unk_token", None) or getattr(backend.model, "unk_token", None)
    unknown_id = backend.token_to_id(str(unknown)) if unknown else None
    if unknown_id is not None:
        return [int(unknown_id)]
    return [int(token) for token in backend.encode(REPLACEMENT, add_special_tokens=False).ids]


def _replace_surrogates(
    sentences: Sequence[Sequence[str]],
) -> tuple[list[Sequence[str]], list[int]]:
    """Replace lone surrogates (JSON can carry them) by U+FFFD; count the words concerned."""
    repaired = [sum(bool(SURROGATES.search(word)) for word in words) for words in sentences]
    readable = [
        [SURROGATES.sub(REPLACEMENT, word) for word in words] if count else words
        for words, count in zip(sentences, repaired, strict=True)
    ]
    return readable, repaired
