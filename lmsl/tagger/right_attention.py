"""How much of its attention each head of a run gives to what is to the right.

For a query i of a sequence of n sub-words let a_ij be its attention probabilities. What goes to
the right is the sum of a_ij over j > i; the share of a head is the mean of that over the queries
of some sentences, the last of each sequence excepted: behind it there is nothing. Queries are all
sub-words that the model reads, those of document context, of repeated copies and in front of the
text among them.

What a head would have that looks evenly at all it may see is computed alike, from the same
sequences. In an unmasked layer without a window it is 1/2 exactly: the mean of (n - 1 - i) / n
over i = 0 ... n - 2. A causal layer has 0, and so has every head in it.
"""

import torch
from torch import Tensor

from lmsl.run_directory.influence import RightAttention


class RightShares:
    """A ``Watch`` (``lmsl.mask.attention``) that sums up shares over sequences."""

    def __init__(self) -> None:
        self._heads: dict[int, Tensor] = {}
        self._even: dict[int, float] = {}
        self._queries: dict[int, int] = {}

    def __call__(self, layer: int, probabilities: Tensor, even: Tensor) -> None:
        heads = _to_the_right(probabilities).sum(-1)
        self._heads[layer] = self._heads.get(layer, torch.zeros_like(heads)) + heads
        self._even[layer] = self._even.get(layer, 0.0) + float(_to_the_right(even).sum())
        self._queries[layer] = self._queries.get(layer, 0) + max(0, even.shape[-1] - 1)

    def result(self) -> RightAttention:
        """The means over all that was seen."""
        layers = sorted(self._queries)
        count = {layer: max(1, self._queries[layer]) for layer in layers}
        return RightAttention(
            # No rounding of a sum of probabilities makes a share more than all.
            heads=tuple(
                tuple((self._heads[layer] / count[layer]).clamp(max=1.0).tolist())
                for layer in layers
            ),
            even=tuple(self._even[layer] / count[layer] for layer in layers),
        )


def _to_the_right(probabilities: Tensor) -> Tensor:
    """Of each query but the last: [..., n, n] to [..., n - 1]."""
    return probabilities.double().triu(1).sum(-1)[..., :-1].cpu()
