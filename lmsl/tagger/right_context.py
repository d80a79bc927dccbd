"""What a run predicts with the right context taken away.

For each word the run is asked anew with its sequence cut behind the word's last sub-word, document
context and repeated copies included, and the answer for that word is kept. Its own mask, weights
and place of reading stay: the run is not made causal, there is nothing to the right that it could
see. (Putting the mask back would change more: a word on the left, which may see what stands
between it and the word, would be read otherwise too.) The cut is behind the word and not behind
its entity, as where an entity ends is itself a thing that the right context tells, and a cut there
would give it away.

Tags are then decoded from the answers of all words of a sentence as ever: transitions between
labels are no context that the model sees. So a causal run without repetition changes nothing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmsl.console import Track
from lmsl.data.tags.schemes import IGNORED, OUTSIDE
from lmsl.data.tags.sentence import Dataset, Sentence
from lmsl.data.tags.thresholds import Threshold
from lmsl.packs.prefixes import each_word_last
from lmsl.tagger.labeler import Labeler, Tagged


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Words with a label, and those of them whose predicted tag changed, by gold type."""

    words: Counter[str]
    changed: Counter[str]

    def to_json(self) -> dict[str, Any]:
        """Counts and shares, of all words and per type; O is the type of words outside."""
        kinds = sorted(self.words)
        per_type = {kind: _counts(self.words[kind], self.changed[kind]) for kind in kinds}
        return {**_counts(self.words.total(), self.changed.total()), "per_type": per_type}


def without_right_context(
    labeler: Labeler,
    sentences: Sequence[Sentence],
    tagged: Tagged,
    track: Track | None = None,
    threshold: Threshold | None = None,
) -> Tagged:
    """Tag sentences anew, each word without what stands to the right of it: a forward a word.

    Args:
        tagged: the same sentences as the run tags them.
        track: told of every pack.
        threshold: by which they were tagged.
    """
    copies = labeler.info.repeat + 1
    cut = list(each_word_last(tagged.examples.examples, copies, labeler._aligner.eos))
    return labeler.tag(sentences, replace(tagged.examples, examples=cut), track, threshold)


def changes(dataset: Dataset, before: Tagged, after: Tagged) -> Changes:
    """Compare the tags of the words that have a label in ``dataset``."""
    found = Changes(words=Counter(), changed=Counter())
    for sentence, one, other in zip(dataset, before.decoded, after.decoded, strict=True):
        for gold, first, second in zip(sentence.tags or (), one.tags, other.tags, strict=True):
            if gold == IGNORED:
                continue
            kind = gold if dataset.plain or gold == OUTSIDE else gold[2:]
            found.words[kind] += 1
            found.changed[kind] += first != second
    return found


def _counts(words: int, changed: int) -> dict[str, Any]:
    return {"words": words, "changed": changed, "share": changed / words if words else 0.0}
