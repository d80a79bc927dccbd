"""Unsloth's side of the training benchmark: a program of its own that is told what to do.

    python -m benchmarks.train_step.unsloth_child FOLDER

Unsloth patches transformers when it is imported and needs other versions of it than lmsl, so it
runs in an environment of its own; this file therefore imports nothing of lmsl. FOLDER holds the
model, ``settings.json`` and ``work.pt`` (see ``benchmarks.train_step.unsloth_peer``). Orders come
as lines of JSON on standard input, ``{"do": NAME}``, and each is answered by one line on standard
output:

    gate     loss, gradient norm and tokens of the first batch, with given adapters, no dropout
    update   loss, gradient norm and tokens of the next batch, trained on
    peak     the most bytes of a GPU in use during an update
    trace    nothing; the profiler's trace of updates is at "path"

Used of Unsloth are ``FastLanguageModel.from_pretrained`` and ``get_peft_model``, without gradient
checkpointing; a linear head reads the hidden states of its decoder where words are labelled.
Batches are collated beforehand, padded on the right; in training its decoder masks nothing but the
future, for which padding on the right is enough.
"""

import importlib
import importlib.metadata
import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Answer = dict[str, Any]


class Trainer:
    """Unsloth's model with a head, its optimizer and its batches."""

    def __init__(self, folder: Path) -> None:
        # Unsloth asks to be the first; torch is imported late so that it is.
        unsloth = importlib.import_module("unsloth")
        self._torch = torch = importlib.import_module("torch")
        self._settings = settings = json.loads((folder / "settings.json").read_text("utf-8"))
        self._device = torch.device(settings["device"])
        self._dtype = getattr(torch, settings["dtype"])
        work = torch.load(folder / "work.pt", weights_only=True)
        self._batches: list[list[dict[str, Any]]] = work["batches"]
        self._adapters: dict[str, Any] = work["adapters"]
        self._next = 0
        model, _ = unsloth.FastLanguageModel.from_pretrained(
            model_name=settings["model"],
            max_seq_length=settings["max_length"],
            dtype=self._dtype,
            load_in_4bit=True,
            use_gradient_checkpointing=False,
            local_files_only=True,
        )
        self._model = unsloth.FastLanguageModel.get_peft_model(
            model,
            r=settings["rank"],
            target_modules=settings["targets"],
            lora_alpha=settings["alpha"],
            lora_dropout=settings["lora_dropout"],
            bias="none",
            use_gradient_checkpointing=False,
            random_state=settings["seed"],
        ).train()
        head = work["head"]
        self._head = torch.nn.Linear(head["weight"].shape[1], len(head["weight"]))
        self._head.load_state_dict(head)
        self._head.to(self._device)
        self._dropout = torch.nn.Dropout(settings["head_dropout"])
        named = dict(self._model.named_parameters())
        named |= {f"head.{name}": one for name, one in self._head.named_parameters()}
        self._trained = {name: one for name, one in named.items() if one.requires_grad}
        self._optimizer = self._adamw()

    def gate(self) -> Answer:
        """One batch with the adapters of the other side, without dropout, untrained."""
        torch = self._torch
        kept = {name: one.detach().clone() for name, one in self._trained.items()}
        decoder = self._decoder()
        with torch.no_grad():
            for name, (down, up) in self._adapters.items():
                layer = decoder.get_submodule(name)
                layer.lora_A["default"].weight.copy_(down)
                layer.lora_B["default"].weight.copy_(up)
        with self._no_dropout():
            answer = self._gradients(self._batches[0])
        with torch.no_grad():
            for name, one in self._trained.items():
                one.copy_(kept[name])
                one.grad = None
        return answer

    def update(self) -> Answer:
        """Train on the next batch."""
        answer = self._gradients(self._batches[self._next % len(self._batches)])
        if not math.isfinite(answer["loss"] + answer["grad_norm"]):
            raise RuntimeError(f"update {self._next + 1} is not finite: {answer}")
        self._next += 1
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

    def _gradients(self, update: list[dict[str, Any]]) -> Answer:
        words = [len(part["labels"]) for part in update]
        losses = [
            self._backward(part, own / sum(words)) for part, own in zip(update, words, strict=True)
        ]
        limit = self._settings["max_grad_norm"]
        norm = self._torch.nn.utils.clip_grad_norm_(list(self._trained.values()), limit)
        return {
            "loss": float(self._torch.stack(losses).sum()),
            "grad_norm": float(norm),
            "tokens": sum(int(part["tokens"]) for part in update),
        }

    def _backward(self, batch: dict[str, Any], share: float) -> Any:
        torch, kind = self._torch, self._device.type
        ids, places, labels = (
            batch[name].to(self._device, non_blocking=True) for name in ("ids", "places", "labels")
        )
        mixed = self._dtype != torch.float32
        with torch.autocast(kind, dtype=self._dtype if mixed else None, enabled=mixed):
            hidden = self._decoder()(input_ids=ids, use_cache=False).last_hidden_state
        words = hidden.flatten(0, 1).index_select(0, places).float()
        logits = self._head(self._dropout(words))
        loss = torch.nn.functional.cross_entropy(logits, labels) * share
        loss.backward()
        return loss.detach()

    def _decoder(self) -> Any:
        """Without the head that predicts words."""
        return self._model.get_base_model().model

    @contextmanager
    def _no_dropout(self) -> Iterator[None]:
        parts = [*self._model.modules(), self._dropout]
        layers = [one for one in parts if isinstance(one, self._torch.nn.Dropout)]
        shares = [layer.p for layer in layers]
        try:
            for layer in layers:
                layer.p = 0.0
            yield
        finally:
            for layer, share in zip(layers, shares, strict=True):
                layer.p = share

    def _adamw(self) -> Any:
        """As everybody's: fused, biases do not decay."""
        settings = self._settings
        biases = [one for name, one in self._trained.items() if name.endswith("bias")]
        others = [one for name, one in self._trained.items() if not name.endswith("bias")]
        groups = [
            {"params": others, "weight_decay": settings["weight_decay"]},
            {"params": biases, "weight_decay": 0.0},
        ]
        betas = (0.9, settings["beta2"])
        return self._torch.optim.AdamW(
            groups, lr=settings["lr"], betas=betas, eps=settings["epsilon"], fused=True
        )


def main() -> None:
    """Answer orders until there are no more."""
    # Whatever libraries print goes the way of errors: the answers have their line to themselves.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: Answer) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    trainer = Trainer(Path(sys.argv[1]))
    versions = {name: _version(name) for name in ("unsloth", "transformers", "torch")}
    say({"versions": versions})
    orders = {"gate": trainer.gate, "update": trainer.update, "peak": trainer.peak}
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "trace":
            say(trainer.trace(order["path"]))
        else:
            say(orders[order["do"]]())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
