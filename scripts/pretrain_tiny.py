"""Pre-train the model `tiny`, a small causal Llama, on a folder of text and generated paragraphs.

    python scripts/pretrain_tiny.py --text NOVELS_FOLDER --work WORK_FOLDER

Three stages, each kept in the work folder so that an interrupted run goes on where it stopped:

1. a byte-level BPE of 2,048 sub-words, learned on a sample of the text;
2. the corpus as one array of ids: paragraphs of the folder's ``*.txt`` files and paragraphs of
   :func:`lmsl.data.synthetic.pretraining_paragraphs`, shuffled, each opened by the BOS token.
   A paragraph holding a name of the synthetic dev or test split is dropped, and every other
   paragraph of the folder has its punctuation set apart, as in the files that taggers read;
3. next-token training with Muon for the matrices of the layers and AdamW for the rest, both under
   one schedule with warm-up and a cosine to zero.

The result, bf16 weights of about 7 MB with tokenizer and configuration, is written to ``--out``
(default: the package folder, ``lmsl/tiny``).
"""

import argparse
import math
import random
import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lmsl.data.synthetic import name_words, pretraining_paragraphs

VOCABULARY = 2048
BLOCK = 256
SEED = 20240125


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(SEED)
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    tokenizer = learned_tokenizer(arguments.text, arguments.work / "tokenizer.json")
    corpus = encoded_corpus(arguments, tokenizer)
    print(f"{len(corpus) / 1e6:.1f}M tokens in the corpus", flush=True)
    model = train(arguments, corpus)
    model.to(torch.bfloat16).save_pretrained(arguments.out)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    ).save_pretrained(arguments.out)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--text", type=Path, required=True, help="folder of UTF-8 .txt files")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for tokenizer, corpus and checkpoints"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "lmsl" / "tiny")
    parser.add_argument("--tokens", type=float, default=24e6, help="tokens to train on")
    parser.add_argument("--generated", type=float, default=0.5, help="share of generated text")
    parser.add_argument("--batch", type=int, default=16, help=f"blocks of {BLOCK} tokens a step")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--save-every", type=int, default=250, help="steps between checkpoints")
    return parser.parse_args()


def paragraphs(folder: Path) -> list[str]:
    """The pieces of all files but those that hold a name of the synthetic dev or test split."""
    held_out = {name for split in ("dev", "test") for name in name_words(split)}
    found = [
        piece
        for file in sorted(folder.glob("**/*.txt"))
        for piece in pieces(file.read_text(encoding="utf-8-sig", errors="replace"))
        if held_out.isdisjoint(re.findall(r"\w+", piece))
    ]
    if not found:
        raise SystemExit(f"--text {folder}: expected .txt files with text, found none")
    return found


def pieces(text: str) -> Iterator[str]:
    """Paragraphs of 20 to 200 words, line breaks and broken hyphens mended."""
    for block in re.split(r"\n\s*\n|\n(?=\s{2,})|(?<=[.!?\"'])\n", text):
        words = re.sub(r"(\w)- (?=[a-z])", r"\1", " ".join(block.split())).split()
        for start in range(0, len(words), 200):
            piece = words[start : start + 200]
            if len(piece) >= 20:
                yield " ".join(piece)


def set_apart(text: str) -> str:
    """``text`` with a space around every punctuation mark but the apostrophe inside a word."""
    return " ".join(re.findall(r"\w+(?:['-]\w+)*|[^\w\s]", text))


def learned_tokenizer(folder: Path, file: Path) -> Tokenizer:
    """A byte-level BPE learned on an even sample of novels and generated text."""
    if file.exists():
        return Tokenizer.from_file(str(file))
    novels = paragraphs(folder)
    sample = random.Random(SEED).sample(novels, min(len(novels), 20_000))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*sample, *islice(pretraining_paragraphs(SEED), 4_000)], trainer)
    bos = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)]),
        ]
    )
    tokenizer.save(str(file))
    return tokenizer


def encoded_corpus(arguments: argparse.Namespace, tokenizer: Tokenizer) -> np.ndarray:
    """All paragraphs in a seeded random order as one array of uint16 ids."""
    file = arguments.work / "corpus.npy"
    if file.exists():
        return np.load(file, mmap_mode="r")
    rng = random.Random(SEED)
    novels = paragraphs(arguments.text)
    rng.shuffle(novels)
    generated = pretraining_paragraphs(SEED + 1)
    pieces, counts = [], {"novels": 0, "generated": 0}
    while sum(counts.values()) < arguments.tokens and novels:
        short = counts["generated"] < arguments.generated * sum(counts.values())
        source = "generated" if short else "novels"
        texts = (
            list(islice(generated, 500))
            if short
            else [novels.pop() for _ in range(min(500, len(novels)))]
        )
        if source == "novels":
            texts = [set_apart(text) if index % 2 else text for index, text in enumerate(texts)]
        for encoding in tokenizer.encode_batch(texts):
            pieces.append(np.array(encoding.ids, dtype=np.uint16))
            counts[source] += len(encoding.ids)
    order = np.random.default_rng(SEED).permutation(len(pieces))
    corpus = np.concatenate([pieces[index] for index in order])
    np.save(file, corpus)
    print(f"tokens by source: {counts}", flush=True)
    return corpus


def build_model() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=1,
    )
    return LlamaForCausalLM(config)


def build_optimizers(model: LlamaForCausalLM, lr: float) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def lr_factor(step: int, steps: int, warmup: int = 100) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def train(arguments: argparse.Namespace, corpus: np.ndarray) -> LlamaForCausalLM:
    """Train on the corpus once, from the newest checkpoint if there is one."""
    model = build_model()
    optimizers = build_optimizers(model, arguments.lr)
    tokens_per_step = arguments.batch * BLOCK
    steps = int(min(arguments.tokens, len(corpus) - 1)) // tokens_per_step
    checkpoint = arguments.work / "checkpoint.pt"
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        first = state["step"]
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        print(f"resuming at step {first} of {steps}", flush=True)
    compiled = torch.compile(model)
    began, average = time.time(), 0.0
    for step in range(first, steps):
        start = step * tokens_per_step
        block = torch.from_numpy(corpus[start : start + tokens_per_step].astype(np.int64))
        ids = block.view(arguments.batch, BLOCK)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = arguments.lr * lr_factor(step, steps)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = compiled(input_ids=ids, labels=ids, use_cache=False).loss
        if not torch.isfinite(loss):
            raise SystemExit(f"step {step}: the loss is {loss.item()}")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        average += (loss.item() - average) / min(step - first + 1, 50)
        if (step + 1) % 25 == 0:
            speed = (step + 1 - first) * tokens_per_step / (time.time() - began)
            print(f"step {step + 1}/{steps} loss {average:.3f} {speed:,.0f} tokens/s", flush=True)
        if (step + 1) % arguments.save_every == 0 or step + 1 == steps:
            state = {"step": step + 1, "model": model.state_dict()}
            state["optimizers"] = [optimizer.state_dict() for optimizer in optimizers]
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
    return model


if __name__ == "__main__":
    main()
