"""The share of attention to the right: by hand from the model's own eager attention, 0 where a
layer is causal, 1/2 for an even head, and as influence.json and the command state it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface

from lmsl.cli import main
from lmsl.errors import InputError
from lmsl.packs.examples import Example
from lmsl.run_directory.influence import INFLUENCE, RightAttention, read_influence
from lmsl.tagger.influence import right_influence
from lmsl.tagger.right_attention import RightShares
from lmsl.tagger.tagger import Tagger
from tests.decoders import ORACLE, WINDOW, Explicit, oracle_attention, use_oracle
from tests.layers.block_tools import assembled, sentences
from tests.tagger.tagger_tools import CPU, example


def measured(own: Tagger, examples: Sequence[Example], tokens: int = 4096) -> RightAttention:
    found = right_influence(own, examples, tokens_per_batch=tokens, device=CPU)
    assert found is not None and found.attention is not None
    return found.attention


def by_hand(own: Tagger, examples: Sequence[Example], bits: Sequence[bool]) -> list[list[float]]:
    """Of each layer the share of each head, over all queries but the last of each sentence."""
    sums: dict[int, list[list[float]]] = {}

    def record(module: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        out, weights = oracle_attention(module, *args, **kwargs)
        n = weights.shape[-1]
        for i in range(n - 1):
            right = [float(head[i, i + 1 :].sum()) for head in weights[0]]
            sums.setdefault(module.layer_idx, []).append(right)
        return out, weights

    use_oracle(own.decoder)
    AttentionInterface.register(ORACLE, record)
    own.eval()
    for one in examples:
        ids = torch.tensor([one.ids.tolist()])
        explicit = Explicit(tuple(bits), torch.ones_like(ids))
        with torch.no_grad():
            own.decoder(ids, use_cache=False, explicit=explicit)
    return [
        [sum(head) / len(rows) for head in zip(*rows, strict=True)]
        for _, rows in sorted(sums.items())
    ]


@pytest.mark.parametrize(
    ("string", "block", "family"),
    [("0110", "own", "llama"), ("1111", "plain", "llama"), ("0011", "own", "mistral")],
)
def test_it_is_what_was_added_up_by_hand(string: str, block: str, family: str) -> None:
    own = assembled(family=family, block=block, string=string).tagger
    examples = sentences([6, 3, 8])
    found = measured(own, examples)
    bits = [bit == "1" for bit in string]
    for heads, bit in zip(found.heads, bits, strict=True):
        assert len(heads) == 4
        assert all(0 < share < 1 for share in heads) if bit else set(heads) == {0.0}
    expected = by_hand(own, examples, bits)
    for heads, expect in zip(found.heads, expected, strict=True):
        assert list(heads) == pytest.approx(expect, rel=1e-4, abs=1e-7)


def test_an_even_head_gives_half_where_it_sees_all() -> None:
    own = assembled(string="0110").tagger
    even = measured(own, sentences([6, 3, 8])).even
    assert even[0] == even[3] == 0.0
    assert even[1] == pytest.approx(0.5, abs=1e-7) == even[2]


def test_a_window_lets_an_even_head_give_less() -> None:
    own = assembled(family="mistral", string="0110").tagger
    one = example([1] * 12)
    n = len(one.ids)
    shares = []
    for i in range(n - 1):
        seen = [j for j in range(n) if abs(i - j) < WINDOW]
        shares.append(sum(j > i for j in seen) / len(seen))
    assert measured(own, [one]).even[1] == pytest.approx(sum(shares) / len(shares), abs=1e-7)


def test_packs_do_not_matter_and_influence_does_not_change() -> None:
    own, examples = assembled(string="0101").tagger, sentences([6, 2, 4, 9])
    whole = measured(own, examples)
    for tokens in (1, 30):
        cut = measured(own, examples, tokens)
        for ours, theirs in zip(cut.heads, whole.heads, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5)
        assert cut.even == pytest.approx(whole.even)


def test_sums_are_of_queries_and_a_lone_token_has_none() -> None:
    shares = RightShares()
    two = torch.tensor([[[0.25, 0.75], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]])
    three = torch.tensor([[[0.0, 0.5, 0.5], [0.3, 0.3, 0.4], [1.0, 0.0, 0.0]]] * 2)
    for probabilities in (two, torch.ones(2, 1, 1), three):
        shares(0, probabilities, torch.full(probabilities.shape[1:], 0.5))
    found = shares.result()
    # Queries: one of the first sequence, none of the second, two of the third.
    assert found.heads == (
        (pytest.approx((0.75 + 1.0 + 0.4) / 3), pytest.approx((0.0 + 1.0 + 0.4) / 3)),
    )
    assert found.even == (pytest.approx((0.5 + 1.0 + 0.5) / 3),)
    assert RightShares().result() == RightAttention(heads=(), even=())


@pytest.mark.parametrize(
    "attention",
    [
        "x",
        {"heads": [[0.5]], "even": [0.5]},
        {"heads": [[0.5], [1.5]], "even": [0.5, 0.5]},
        {"heads": [[0.5], ["a"]], "even": [0.5, 0.5]},
        {"heads": [[0.5], [float("nan")]], "even": [0.5, 0.5]},
        {"heads": [[0.5], [0.5]]},
        {"heads": [0.5, 0.5], "even": [0.5, 0.5]},
    ],
)
def test_a_broken_entry_is_refused_and_a_missing_one_is_old(
    attention: Any, tmp_path: Path
) -> None:
    document = {"layers": [0.1, 0.2], "positions": 3, "sentences": 1}
    (tmp_path / INFLUENCE).write_text(json.dumps(document))
    old = read_influence(tmp_path)
    assert old is not None and old.attention is None
    (tmp_path / INFLUENCE).write_text(json.dumps(document | {"attention": attention}))
    with pytest.raises(InputError, match=r"influence\.json: expected the influence"):
        read_influence(tmp_path)


def test_a_run_records_it_and_the_command_says_it(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_influence(run)
    assert found is not None and found.attention is not None
    heads, even = found.attention.heads, found.attention.even
    assert [len(layer) for layer in heads] == [6] * 8
    assert {share for layer in heads[:4] for share in layer} == {0.0} == set(even[:4])
    assert all(0 < share < 1 for layer in heads[4:] for share in layer)
    assert even[4:] == pytest.approx([0.5] * 4, abs=1e-7)
    capsys.readouterr()
    file = str(data / "dev.conll")
    assert main(["probe", str(run), "--data", file, "--device", "cpu"]) == 0
    said = capsys.readouterr().out.splitlines()
    last = heads[7]
    assert said[8].endswith(
        f"; {sum(last) / 6:.3f} of attention to the right (heads {min(last):.3f} to "
        f"{max(last):.3f}, 0.500 if even)"
    )
    assert said[1] == "layer 0: causal, 0.0000"
