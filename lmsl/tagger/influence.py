"""How much each layer owes to the right context, measured on the forward that predicts.

A word is read at a sub-word t of its sequence. Let h_l(t) be what layer l gives out there for the
whole sequence, and h'_l(t) what it gives out for the sequence cut behind t. The influence of the
right context at layer l is the mean over such positions of

    |h_l(t) - h'_l(t)| / |h_l(t)|        (Euclidean norms)

over read words of some sentences, the last word of each excepted: behind it there is nothing.
It is 0 to rounding in every layer below the first unmasked one, and in all of a causal string; how
far it rises above is what training made of the mask. Where a word is read at the mean of its
sub-words, t is the last of them.

A few words tell: at most ``SENTENCES`` sentences, at equal distances through the data, each
without what lies beyond ``SUBWORDS`` sub-words, and at most ``WORDS`` words of each, at equal
distances too. That costs what predicting some fifty sentences does. A window of a long sentence
counts as a sentence, document context is kept, and of repeated copies the last is cut. The cut
sequences are packed like any others, under the budget of predictions. While the whole ones are
read, their attention is looked at too: see ``lmsl.tagger.right_attention``.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch

from lmsl.config.choices import LabelAt
from lmsl.data.tags.sentence import Sentence
from lmsl.errors import InputError
from lmsl.mask.probing import undisturbed
from lmsl.mask.unmasking import watched, why_not_unmasked
from lmsl.packs.examples import Example
from lmsl.packs.packing import pack, under_budget
from lmsl.packs.prefixes import cut_behind
from lmsl.packs.running import spread
from lmsl.run_directory.influence import Influence
from lmsl.tagger.emissions import prediction_budget
from lmsl.tagger.labeler import Labeler
from lmsl.tagger.right_attention import RightShares
from lmsl.tagger.tagger import Tagger, read_rows

SENTENCES = 16
SUBWORDS = 40
WORDS = 6


def labeler_influence(labeler: Labeler, examples: Sequence[Example]) -> Influence | None:
    """``right_influence`` of a run, with its own settings."""
    return right_influence(
        labeler.tagger,
        examples,
        copies=labeler.info.repeat + 1,
        tokens_per_batch=labeler.info.tokens_per_batch,
        device=labeler.device,
        autocast=labeler._autocast,
    )


def influence_on(labeler: Labeler, sentences: Sequence[Sentence]) -> Influence | None:
    """``labeler_influence`` on sentences, as the run reads them."""
    return labeler_influence(labeler, labeler._examples(sentences).examples)


def right_influence(
    tagger: Tagger,
    examples: Sequence[Example],
    *,
    copies: int = 1,
    tokens_per_batch: int,
    device: torch.device,
    autocast: torch.dtype | None = None,
) -> Influence | None:
    """Measure a tagger of one run; None where no sentence has two words.

    Args:
        copies: how often a sentence stands in its example.

    Raises:
        InputError: a layer gives out what is not finite.
    """
    assert tagger.head.runs == 1
    wholes = _chosen(examples, copies, tagger.label_at)
    if not wholes:
        return None
    cuts = [_up_to(whole, int(place)) for whole in wholes for place in whole.starts]
    budget = prediction_budget(tokens_per_batch, device)
    sums, done = torch.zeros(0, dtype=torch.float64), 0
    with (
        undisturbed(tagger),
        torch.inference_mode(),
        torch.autocast(device.type, dtype=autocast, enabled=autocast is not None),
    ):
        groups = under_budget(wholes, budget)
        shares = RightShares()
        with watched(tagger.decoder, shares) if _watchable(tagger) else nullcontext():
            states = torch.cat([_states(tagger, group, device) for group in groups], dim=1)
        for group in under_budget(cuts, budget):
            own = states[:, done : done + len(group)]
            change = (own - _states(tagger, group, device)).norm(dim=-1)
            size = own.norm(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
            part = (change / size).double().sum(1).cpu()
            sums = part + sums if done else part
            done += len(group)
    layers = tuple((sums / done).tolist())
    for number, value in enumerate(layers):
        if not math.isfinite(value):
            raise InputError(
                f"right-context influence: expected finite outputs of layer {number}, got {value}"
            )
    attention = shares.result() if _watchable(tagger) else None
    return Influence(layers=layers, positions=done, sentences=len(wholes), attention=attention)


def _watchable(tagger: Tagger) -> bool:
    """Whether the attention of packs goes through ours, so that it can be looked at."""
    return not tagger.calling.padded and why_not_unmasked(tagger.decoder) is None


def _chosen(examples: Sequence[Example], copies: int, label_at: LabelAt) -> list[Example]:
    """At most ``SENTENCES`` examples, whose words are the positions that are looked at."""
    usable = [own for one in examples if len((own := _shortened(one, copies)).starts) > 1]
    chosen = [usable[place] for place in spread(len(usable), SENTENCES)]
    found = []
    for one in chosen:
        read = (one.starts if label_at == "first" else one.ends - 1)[:-1]
        at = read[spread(len(read), WORDS)]
        found.append(replace(one, starts=at, ends=at + 1))
    return found


def _shortened(example: Example, copies: int) -> Example:
    """The example up to its last word within ``SUBWORDS``; as it is where that is all of it."""
    limit = example.starts[:1] + SUBWORDS
    kept = int(np.searchsorted(example.ends, limit, side="right").sum())
    if kept in (0, len(example.ends)):
        return replace(example, starts=example.starts[:kept], ends=example.ends[:kept])
    return cut_behind(example, copies, 0, kept)


def _up_to(example: Example, place: int) -> Example:
    """The example up to one position, which is the only one looked at."""
    at = np.array([place], dtype=np.int32)
    return replace(example, ids=example.ids[: place + 1], starts=at, ends=at + 1)


def _states(tagger: Tagger, group: Sequence[Example], device: torch.device) -> torch.Tensor:
    """What all layers give out at the positions of some examples, float32
    [layers, positions, hidden]."""
    batch = pack([group], None, device)
    rows = read_rows(batch, "last")
    assert rows is not None
    index, found = rows.index, list[torch.Tensor]()

    def keep(hidden: torch.Tensor) -> None:
        # Behind the last layer there may be the read rows alone. Where there are as many read
        # rows as rows, they are the same.
        whole = len(hidden) != len(index)
        found.append((hidden.index_select(0, index) if whole else hidden).float())

    tagger(batch, keep)
    return torch.stack(found)
