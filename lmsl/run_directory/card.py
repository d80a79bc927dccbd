"""The model card that every run directory carries, in plain Markdown."""

from pathlib import Path
from typing import Any

from lmsl.config.config import Config
from lmsl.run_directory.info import RunInfo


def model_card(info: RunInfo, config: Config, metrics: dict[str, Any], data: str) -> str:
    """README.md of a run: what it is, what it scored, how to use and how to repeat it."""
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
base_model: {info.base}
library_name: lmsl
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

Loaded without lmsl (`PeftModel.from_pretrained`), the adapter sits on a causal model: call
`lmsl.unmask(model, "{info.unmask}")` first. Repeat the run with
`lmsl train --config config.yaml`.
"""


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f}"
