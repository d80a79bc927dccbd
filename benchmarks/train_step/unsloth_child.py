"""Unsloth's side of the training benchmark: a program of its own that is told what to do.

    python -m benchmarks.train_step.unsloth_child FOLDER

Unsloth patches transformers when it is imported and needs other versions of it than lmsl, so it
runs in an environment of its own; this file therefore imports nothing of lmsl. FOLDER holds
``work.pt``, see ``unsloth_peer``. What it says is lines of JSON on standard output: first its
versions and, for the gate, loss, gradient norm and tokens of the first batch with given adapters
and without dropout; then an answer to each line of standard input:

    update        loss, gradient norm and tokens of the next batch, trained on
    peak          the most bytes of a GPU in use during an update
    trace PATH    nothing; the profiler's trace of updates is there

Used of Unsloth are ``FastLanguageModel.from_pretrained`` and ``get_peft_model``, without gradient
checkpointing; a linear head reads the hidden states of its decoder where words are labelled.
Batches are padded on the right; in training its decoder masks nothing but the future, for which
padding on the right is enough.
"""

import importlib
import importlib.metadata
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

Answer = dict[str, Any]


class Trainer:
    """Unsloth's model with a head, its optimizer and its batches."""

    def __init__(self, folder: Path) -> None:
        # Unsloth asks to be the first; torch is imported late so that it is.
        unsloth = importlib.import_module("unsloth").FastLanguageModel
        self._torch = torch = importlib.import_module("torch")
        self._work = work = torch.load(folder / "work.pt", weights_only=True)
        self._device, self._dtype = torch.device(work["device"]), getattr(torch, work["dtype"])
        self._made = 0
        model, _ = unsloth.from_pretrained(
            dtype=self._dtype,
            load_in_4bit=True,
            use_gradient_checkpointing=False,
            local_files_only=True,
            **work["model"],
        )
        self._model = unsloth.get_peft_model(
            model, bias="none", use_gradient_checkpointing=False, **work["lora"]
        ).train()
        self._head = torch.nn.Linear(work["head"]["weight"].shape[1], len(work["head"]["weight"]))
        self._head.load_state_dict(work["head"])
        self._head.to(self._device)
        self._dropout = torch.nn.Dropout(work["head_dropout"])
        named = [*self._model.named_parameters(), *self._head.named_parameters()]
        trained = [(name, one) for name, one in named if one.requires_grad]
        self._trained = [one for _, one in trained]
        # As everybody's: fused, biases do not decay.
        biases = {"params": [one for name, one in trained if name.endswith("bias")]}
        others = {"params": [one for name, one in trained if not name.endswith("bias")]}
        self._optimizer = torch.optim.AdamW(
            [others, biases | {"weight_decay": 0.0}], fused=True, **work["adamw"]
        )

    def gate(self) -> Answer:
        """The first batch with the adapters of the other side, without dropout, untrained."""
        with self._torch.no_grad():
            for name, (down, up) in self._work["adapters"].items():
                layer = self._decoder().get_submodule(name)
                layer.lora_A["default"].weight.copy_(down)
                layer.lora_B["default"].weight.copy_(up)
        parts = [*self._model.modules(), self._dropout]
        layers = [one for one in parts if isinstance(one, self._torch.nn.Dropout)]
        shares = [layer.p for layer in layers]
        for layer in layers:
            layer.p = 0.0
        answer = self._gradients(self._work["batches"][0])
        for layer, share in zip(layers, shares, strict=True):
            layer.p = share
        self._optimizer.zero_grad(set_to_none=True)
        return answer

    def update(self) -> Answer:
        """Train on the next batch."""
        batches = self._work["batches"]
        answer = self._gradients(batches[self._made % len(batches)])
        self._made += 1
        if not math.isfinite(answer["loss"] + answer["grad_norm"]):
            raise RuntimeError(f"update {self._made} is not finite: {answer}")
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._device.type == "cuda":
            self._torch.cuda.synchronize(self._device)
        return answer

    def peak(self) -> Answer:
        if self._device.type != "cuda":
            return {"bytes": None}
        self.update()
        self._torch.cuda.reset_peak_memory_stats(self._device)
        self.update()
        return {"bytes": self._torch.cuda.max_memory_allocated(self._device)}

    def trace(self, path: str) -> Answer:
        from benchmarks.shared.step_cost import trace

        trace(self.update, self._device, Path(path))
        return {}

    def _gradients(self, update: list[Answer]) -> Answer:
        words = sum(len(part["labels"]) for part in update)
        losses = [self._backward(part, words) for part in update]
        limit = self._work["max_grad_norm"]
        norm = self._torch.nn.utils.clip_grad_norm_(self._trained, limit)
        loss, tokens = float(sum(losses)), sum(part["tokens"] for part in update)
        return {"loss": loss, "grad_norm": float(norm), "tokens": tokens}

    def _backward(self, batch: Answer, words: int) -> Any:
        torch, mixed = self._torch, self._dtype != self._torch.float32
        ids, places, labels = (
            batch[name].to(self._device, non_blocking=True) for name in ("ids", "places", "labels")
        )
        dtype = self._dtype if mixed else None
        with torch.autocast(self._device.type, dtype=dtype, enabled=mixed):
            hidden = self._decoder()(input_ids=ids, use_cache=False).last_hidden_state
        states = hidden.flatten(0, 1).index_select(0, places).float()
        logits = self._head(self._dropout(states))
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum") / words
        loss.backward()
        return loss.detach()

    def _decoder(self) -> Any:
        """Without the head that predicts words."""
        return self._model.get_base_model().model


def main() -> None:
    """Answer orders until there are no more."""
    # Whatever libraries print goes the way of errors: the answers have their line to themselves.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    trainer = Trainer(Path(sys.argv[1]))
    found = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    versions = {name: found.get(name) for name in ("unsloth", "transformers", "torch")}
    print(json.dumps({"versions": versions} | trainer.gate()), file=answers, flush=True)
    for line in sys.stdin:
        order, *arguments = line.rstrip("\n").split(" ", 1)
        print(json.dumps(getattr(trainer, order)(*arguments)), file=answers, flush=True)


if __name__ == "__main__":
    main()
