"""The model card that every run directory carries, in plain Markdown."""

import json
from pathlib import Path
from typing import Any

from lmsl.config.config import Config
from lmsl.run_directory.info import RunInfo


def model_card(
    info: RunInfo,
    config: Config,
    metrics: dict[str, Any],
    data: str,
    *,
    base_name: str,
    kept: str,
) -> str:
    """README.md of a run: what it is, what it scored, how to use and how to repeat it.

    Args:
        base_name: by which other programs load the base model.
        kept: one bit for each layer that is kept.
    """
    # Where the base is a folder here, the hub would read its name as a repository's.
    on_hub = "" if Path(base_name).is_absolute() else f"base_model: {info.base}\n"
    rows = "\n".join(
        f"| {split} | {_percent(m['precision'])} | {_percent(m['recall'])} | {_percent(m['f1'])} "
        f"| {_percent(m['accuracy'])} | {m['gold']} |"
        for split, m in metrics.items()
    )
    kind = "tags" if info.labels.plain else "entities"
    weights = "NF4" if info.quantize == "nf4" else "unquantised"
    call = "predict(['Ada Lovelace met Babbage.'])"
    if info.labels.plain:
        call = "predict_tags([['Ada', 'met', 'Babbage']])"
    return f"""---
{on_hub}library_name: lmsl
pipeline_tag: token-classification
---

# {Path(config.model).name}, unmasked {info.unmask}, on {data}

A sequence labeler: the decoder `{info.base}` with the causal mask removed as `{info.unmask}` says
(one bit a layer group, the leftmost nearest the input, 1 = bidirectional), fine-tuned with LoRA
(rank {info.lora.rank}) over {weights} weights by lmsl. Labels: {", ".join(info.labels.types)}.

| split | precision | recall | F1 | word accuracy | gold {kind} |
|---|---|---|---|---|---|
{rows}

Micro-averaged, strict IOB2, in percent; every gold entity of the files counts. Selected on dev
(`{config.select}`), seed {info.seed}, recipe `{config.recipe}`.

## Use

```python
import lmsl

labeler = lmsl.Labeler.load("PATH OF THIS FOLDER")
labeler.{call}
```

{_by_hand(info, base_name, kept)}

Repeat the run with `lmsl train --config config.yaml`.
"""


def _by_hand(info: RunInfo, base_name: str, kept: str) -> str:
    """How other programs use the run: PEFT for the adapter, then the mask, then the head."""
    if info.repeat:
        return (
            f"The run reads the last of {info.repeat + 1} copies of a sentence, which other "
            "programs do not make; use lmsl."
        )
    string = info.unmask if info.exit_layer is None else kept
    layers = f", num_hidden_layers={info.exit_layer}" if info.exit_layer else ""
    read = {
        "first": "hidden[encoded.char_to_token(start)]",
        "last": "hidden[encoded.char_to_token(end - 1)]",
        "mean": (
            "hidden[encoded.char_to_token(start) : encoded.char_to_token(end - 1) + 1].mean(0)"
        ),
    }[info.label_at]
    return f"""Without `lmsl.Labeler` the adapter sits on a causal model until `lmsl.unmask` takes
the mask off. It loads over `AutoModel` and `AutoModelForCausalLM` alike; the base is not quantised
here, so numbers differ a little.

```python
import re

import lmsl
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

run, base = "PATH OF THIS FOLDER", {json.dumps(base_name)}
model = AutoModel.from_pretrained(base, dtype=torch.float32{layers})
model = PeftModel.from_pretrained(model, run).eval()
lmsl.unmask(model, "{string}")
head = load_file(run + "/head.safetensors")
labels = {json.dumps(info.labels.names, ensure_ascii=False)}

text = "Ada Lovelace met Babbage ."
encoded = AutoTokenizer.from_pretrained(run)(text, return_tensors="pt")
with torch.inference_mode():
    hidden = model(**encoded, use_cache=False).last_hidden_state[0]
for word in re.finditer(r"\\S+", text):
    start, end = word.span()
    read = {read}
    logits = head["weight"] @ read + head["bias"]
    print(word.group(), labels[int(logits.argmax())])
```"""


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f}"
