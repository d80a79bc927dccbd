"""Ours and transformers with PEFT on padded batches learn alike, update by update.

Both are causal, without dropout, with the same adapters and head, over the same sentences; what
differs is padding, the fused forward and backward, and the order of sums.
"""

from dataclasses import replace
from itertools import islice

import pytest

from benchmarks.padded_peer import build_peer, check_not_repacked, copy_adapters
from benchmarks.peer_steps import peer_updates
from benchmarks.train_work import build_ours, labelled_work, our_updates
from lmsl import synthetic
from lmsl.config import Config
from lmsl.lora import trainable_parameters
from lmsl.optim import build_optimizer, default_lr

STEPS = 10
CONFIG = Config(
    unmask=("causal",),
    batch_size=6,
    epochs=2,
    schedule="constant",
    warmup=0.0,
    lora_dropout=0.0,
    head_dropout=0.0,
    resident="yes",
)


@pytest.mark.parametrize("quantize", ["nf4", "none"])
def test_ten_updates(quantize: str) -> None:
    config = replace(CONFIG, quantize=quantize)
    data = synthetic.generate("train", synthetic.DEFAULT_DIAL, 6 * STEPS // 2)
    work = labelled_work(data, config)
    ours = build_ours(work)
    peer = build_peer(work.base(), config, classes=work.classes, place=work.place)
    copy_adapters(ours.tagger, peer)
    optimizer = build_optimizer(
        trainable_parameters(peer),
        name="adamw",
        lr=default_lr(ours.tagger.head.hidden),
        beta2=config.beta2,
        epsilon=config.epsilon,
        weight_decay=config.weight_decay,
    )
    mine = list(islice(our_updates(ours, work, train=True), STEPS))
    updates = peer_updates(peer, work.task, config, optimizer=optimizer, place=work.place)
    its = list(islice(updates, STEPS))
    check_not_repacked(peer)
    losses = [update.loss[0] for update in mine]
    assert len(losses) == len(its) == STEPS
    assert losses == pytest.approx([update.loss for update in its], rel=1e-4)
    norms = [update.grad_norm[0] for update in mine]
    assert norms == pytest.approx([update.grad_norm for update in its], rel=1e-3)
    # Were nothing learnt, the curves would say nothing.
    assert losses[-1] < 0.8 * losses[0]
