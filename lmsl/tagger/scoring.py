"""What is measured of decoded sentences, inside training and by a loaded run alike."""

from collections.abc import Sequence
from typing import Any

from lmsl.data.tags.decode import Decoded
from lmsl.data.tags.metrics import lost_entities, score
from lmsl.data.tags.sentence import Sentence
from lmsl.data.tags.vocabulary import LabelSet


def scored(
    sentences: Sequence[Sentence],
    decoded: Sequence[Decoded],
    labels: LabelSet,
    truncated: Sequence[int],
) -> dict[str, Any]:
    """Metrics of ``lmsl.data.tags.metrics.score``, and the entities lost to truncation.

    Args:
        truncated: how many words at the end of each sentence are not read.
    """
    metrics = score(sentences, [one.tags for one in decoded], plain=labels.plain)
    return {**metrics, "lost_to_truncation": lost_entities(sentences, truncated)}
