"""The model card that every run directory carries, in plain Markdown."""

import json
from pathlib import Path
from typing import Any

from lmsl.config.config import Config
from lmsl.run_directory.info import RunInfo
from lmsl.visible import visible

_HERE = '"PATH OF THIS FOLDER"'


def model_card(
    info: RunInfo,
    config: Config,
    metrics: dict[str, Any],
    data: str,
    *,
    base_name: str,
    kept: str | None,
    encoder: bool,
) -> str:
    """README.md of a run: what it is, what it scored, how to use and how to repeat it.

    Args:
        base_name: by which other programs load the base model.
        kept: one bit for each layer that is kept; None where nothing changes what layers see.
        encoder: the base is one.
    """
    # Where the base is a folder here, the hub would read its name as a repository's.
    on_hub = "" if Path(base_name).is_absolute() else f"base_model: {info.base}\n"
    rows = "\n".join(
        f"| {split} | {_percent(m['precision'])} | {_percent(m['recall'])} | {_percent(m['f1'])} "
        f"| {_percent(m['accuracy'])} | {m['gold']} |"
        for split, m in metrics.items()
    )
    kind = "tags" if info.labels.plain else "entities"
    call = "predict(['Ada Lovelace met Babbage.'])"
    if info.labels.plain:
        call = "predict_tags([['Ada', 'met', 'Babbage']])"
    writes = info.generation is not None
    how = "writing spans" if writes else f"unmasked {info.unmask}"
    if writes:
        by_hand = _by_hand_writing(info, base_name)
    else:
        by_hand = _by_hand(info, base_name, kept, encoder=encoder)
    return f"""---
{on_hub}library_name: lmsl
pipeline_tag: token-classification
---

# {Path(config.model).name}, {how}, on {data}

{_what(info)}
Labels: {", ".join(map(visible, info.labels.types))}.

| split | precision | recall | F1 | word accuracy | gold {kind} |
|---|---|---|---|---|---|
{rows}

Micro-averaged, strict IOB2, in percent; every gold entity of the files counts. Selected on dev
(`{config.select}`), seed {info.seed}, recipe `{config.recipe}`.

## Use

```python
import lmsl

labeler = lmsl.{"Generator" if writes else "Labeler"}.load("PATH OF THIS FOLDER")
labeler.{call}
```

{by_hand}

Repeat the run with `lmsl train --config config.yaml`.
"""


def _what(info: RunInfo) -> str:
    """What the run is, in words."""
    frozen = "NF4" if info.quantize == "nf4" else "unquantised"
    tuned = "all of its weights fine-tuned by lmsl; they are in this folder"
    if info.lora is not None:
        tuned = f"fine-tuned with LoRA (rank {info.lora.rank}) over {frozen} weights by lmsl"
    if info.generation is not None:
        return (
            f"A language model that answers a question with the spans of a sentence and their "
            f"types:\n`{info.base}`, {tuned}."
        )
    seeing = {
        "full": "all of whose layers see to the right",
        "causal": "none of whose layers sees to the right",
        "middle": "whose middle layers see to the right",
    }.get(
        info.unmask,
        f"whose layers see to the right where `{info.unmask}` says so\n(one bit a layer group, "
        "the leftmost nearest the input, 1 = bidirectional)",
    )
    return f"A sequence labeler: `{info.base}`, {seeing}, {tuned}."


def _by_hand_writing(info: RunInfo, base_name: str) -> str:
    """How other programs use a run that writes: PEFT for the adapter, and the prompt."""
    asked = info.generation
    assert asked is not None
    layers = f", num_hidden_layers={info.exit_layer}" if info.exit_layer else ""
    space = " " if asked.prompt == "default" else ""
    before = json.dumps(asked.opening + asked.before + space, ensure_ascii=False)
    after = json.dumps(asked.after + asked.closing, ensure_ascii=False)
    folder, source = _places(base_name)
    return f"""Without `lmsl.Generator` PEFT loads the adapter over `AutoModelForCausalLM`. The
base is not quantised here, so answers may differ.

```python
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

{folder}
model = AutoModelForCausalLM.from_pretrained({source}, dtype=torch.float32{layers})
model = PeftModel.from_pretrained(model, run).eval()
tokenizer = AutoTokenizer.from_pretrained(run)

prompt = {before} + "Ada Lovelace met Babbage ." + {after}
asked = tokenizer(prompt, return_tensors="pt", add_special_tokens={not asked.opening})
answer = model.generate(**asked, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(answer[0, asked.input_ids.shape[1] :]).splitlines()[0])
```"""


def _places(base_name: str) -> tuple[str, str]:
    """The line that names run and base, and what the base is loaded by."""
    place = Path(base_name)
    if place.suffix.lower() == ".gguf" or place.is_file():
        source = f"base, gguf_file={json.dumps(place.name)}"
        return f"run, base = {_HERE}, {json.dumps(str(place.parent))}", source
    return f"run, base = {_HERE}, {json.dumps(base_name)}", "base"


def _by_hand(info: RunInfo, base_name: str, kept: str | None, *, encoder: bool) -> str:
    """How other programs use the run: PEFT for the adapter, then the mask, then the head."""
    if info.repeat:
        return (
            f"The run reads the last of {info.repeat + 1} copies of a sentence, which other "
            "programs do not make; use lmsl."
        )
    read = {
        "first": "hidden[encoded.char_to_token(start)]",
        "last": "hidden[encoded.char_to_token(end - 1)]",
        "mean": (
            "hidden[encoded.char_to_token(start) : encoded.char_to_token(end - 1) + 1].mean(0)"
        ),
    }[info.label_at]
    imports, model = _model_by_hand(info, base_name, kept)
    logits = 'head["weight"] @ read + head["bias"]'
    if info.temperature != 1.0:
        logits = f"({logits}) / {info.temperature}  # the temperature"
    return f"""{_said_of_base(info, encoder=encoder)}

```python
import re

import lmsl
import torch
{imports}

{model}
head = load_file(run + "/head.safetensors")
labels = {json.dumps(info.labels.names, ensure_ascii=False)}

text = "Ada Lovelace met Babbage ."
encoded = AutoTokenizer.from_pretrained(run)(text, return_tensors="pt")
with torch.inference_mode():
    hidden = model(**encoded, use_cache=False).last_hidden_state[0]
for word in re.finditer(r"\\S+", text):
    start, end = word.span()
    read = {read}
    logits = {logits}
    print(word.group(), labels[int(logits.argmax())])
```"""


def _said_of_base(info: RunInfo, *, encoder: bool) -> str:
    if info.lora is None:
        return "Without `lmsl.Labeler` its layers see what they saw before it was fine-tuned."
    differ = "the base is not quantised here, so numbers differ a little."
    if encoder:
        return f"Without `lmsl.Labeler` PEFT loads the adapter over `AutoModel`; {differ}"
    return f"""Without `lmsl.Labeler` the adapter sits on a causal model until `lmsl.unmask` takes
the mask off. It loads over `AutoModel` and `AutoModelForCausalLM` alike;
{differ}"""


def _model_by_hand(info: RunInfo, base_name: str, kept: str | None) -> tuple[str, str]:
    """The lines that import what is needed, and those that make the model."""
    folder, source = _places(base_name)
    layers = f", num_hidden_layers={info.exit_layer}" if info.exit_layer else ""
    made = [folder, f"model = AutoModel.from_pretrained({source}, dtype=torch.float32{layers})"]
    made.append("model = PeftModel.from_pretrained(model, run).eval()")
    string = info.unmask if info.exit_layer is None else kept
    imports = ["from peft import PeftModel"]
    if info.lora is None:
        made = [f"run = {_HERE}", "model = AutoModel.from_pretrained(run).eval()"]
        imports, string = [], kept
    if kept is not None:
        made.append(f'lmsl.unmask(model, "{string}")')
    imports.append("from safetensors.torch import load_file")
    imports.append("from transformers import AutoModel, AutoTokenizer")
    return "\n".join(imports), "\n".join(made)


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f}"
