"""Masked next-token prediction before labels: what is predicted where, and what becomes of it."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lmsl.config.choices import LoRA
from lmsl.layers.head import LanguageHead
from lmsl.mask.bits import layer_bits
from lmsl.packs.examples import Example
from lmsl.packs.packing import pack
from lmsl.tagger.assemble import Operators, Storage, Trained, assemble
from lmsl.tagger.base import load_base
from lmsl.tagger.tagger import Tagger
from lmsl.training.warmup import MASKED, mask_token, masked_task
from tests.small_runs import ADAPTER, refused, same_files, train

CPU = torch.device("cpu")
WARM = ("--warmup-mntp", "12")


def example(*ids: int) -> Example:
    nothing = np.zeros(0, dtype=np.int32)
    return Example(
        ids=np.array(ids, dtype=np.int32), sentence=0, first_word=0, starts=nothing, ends=nothing
    )


def test_each_masked_sub_word_is_read_where_it_is_predicted() -> None:
    sentences = [example(*range(10, 60)), example(7), example(8, 9), example(*range(100, 400))]
    task = masked_task(sentences, 300, mask=5)
    assert len(task) == len(task.labels) == len(task.names) == 300
    usable = [sentences[place].ids for place in (0, 2, 3)]
    masked = tokens = 0
    for number, ((one,), labels) in enumerate(zip(task.examples, task.labels, strict=True)):
        whole = usable[number % 3]
        assert one.sentence == number and (one.starts == one.ends - 1).all()
        assert len(labels) == len(one.starts) >= 1 and one.ends.min() >= 1
        assert whole[one.ends].tolist() == labels and (one.ids[one.ends] == 5).all()
        rest = np.delete(np.arange(len(whole)), one.ends)
        assert (one.ids[rest] == whole[rest]).all(), "and nothing else is changed"
        if len(whole) > 2:
            masked, tokens = masked + len(labels), tokens + len(whole) - 1
    assert masked / tokens == pytest.approx(MASKED, abs=0.01)
    again = masked_task(sentences, 300, mask=5)
    assert again.labels == task.labels
    assert task.labels[0] != task.labels[3], "the same sentence is masked anew"


def test_its_logits_are_those_of_the_language_model() -> None:
    """Under transformers' eager attention with a mask of our own making."""
    base, theirs = load_base("tiny", causal_lm=True), load_base("tiny", causal_lm=True).causal_lm
    theirs.set_attn_implementation("eager")
    lora = LoRA(rank=2, alpha=4.0, dropout=0.0, targets=("attention",))
    assembled = assemble(
        base,
        bits=[layer_bits("1111", 8)],
        seeds=(1,),
        trained=Trained(classes=3, label_at="first", lora=lora, head_dropout=0.0),
        storage=Storage(quantize="none", resident="no", device=CPU, dtype=torch.float32),
        operators=Operators(),
    )
    head = LanguageHead(base.causal_lm.get_output_embeddings(), softcap=None, runs=1)
    own = assembled.tagger
    tagger = Tagger(own.decoder, head, "last", own.block, own.bits, own.mixture, own.calling)
    task = masked_task([example(0, *range(300, 330)), example(0, 9, 8)], 2, mask=64)
    examples = [one for own in task.examples for one in own]
    logits = tagger(pack([examples], None, CPU))[0]
    wanted = []
    for one in examples:
        ids = torch.tensor(one.ids)[None].long()
        mask = torch.zeros(1, 1, ids.shape[1], ids.shape[1])
        found = theirs(input_ids=ids, attention_mask=mask, use_cache=False).logits[0]
        wanted.append(found[torch.tensor(one.ends - 1).long()])
    torch.testing.assert_close(logits, torch.cat(wanted), atol=1e-4, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in head.parameters())


def test_a_run_warms_up_once_and_the_same_alone_and_in_a_stack(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    run = train(data, tmp_path / "run", *WARM, "--lr", "0.01", unmask=("1111",))
    (said,) = re.findall(r"warm-up: (.*)", capsys.readouterr().err)
    first, last = map(float, re.findall(r"loss (\d+\.\d+) .* (\d+\.\d+) in the last", said)[0])
    assert said.startswith("12 updates of masked next-token") and "become '_'" in said
    assert last < first < 12
    again = train(data, tmp_path / "again", *WARM, "--lr", "0.01", unmask=("1111",))
    same_files(run, again)
    train(data, tmp_path / "cold", "--lr", "0.01", unmask=("1111",))
    warm, cold = load_file(run / ADAPTER), load_file(tmp_path / "cold" / ADAPTER)
    assert any((warm[name] - cold[name]).abs().max() > 1e-3 for name in warm)
    from lmsl.cli import main

    line = ["--unmask", "1111", "0000", "--data", str(data), "--lr", "0.01", "--device", "cpu"]
    short = ("--max-steps", "6", "--epochs", "2", "--batch-size", "4", "--stack", "2")
    assert main(["sweep", *line, *WARM, *short, "--output", str(tmp_path / "two")]) == 0
    stacked = load_file(tmp_path / "two" / "1111" / "seed1" / ADAPTER)
    for name, tensor in warm.items():
        torch.testing.assert_close(stacked[name], tensor, atol=1e-4, rtol=1e-3)


def test_what_it_cannot_teach_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["train", "--unmask", "1111", "--data", str(data), "--device", "cpu", *WARM]
    refused(capsys, [*line, "--tune", "full"], "--warmup-mntp 12: not with --tune full")
    refused(capsys, [*line, "--repeat", "1"], "--warmup-mntp 12: not with --repeat")
    refused(capsys, [*line[:-1], "-1"], "--warmup-mntp: expected at least 0, got -1")


def test_a_mask_token_is_taken_where_there_is_one() -> None:
    tokenizer = load_base("tiny").tokenizer
    assert mask_token(tokenizer) == ("_", tokenizer.convert_tokens_to_ids("_"))
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    assert mask_token(tokenizer) == ("<mask>", tokenizer.mask_token_id)
