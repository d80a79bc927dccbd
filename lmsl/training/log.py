"""``log.jsonl``: the course of a training, by which it can be drawn and gone on with."""

import json
from pathlib import Path
from typing import Any

from lmsl.data.documents import parse_json
from lmsl.run_directory.files import write_text
from lmsl.training.loop import Update


class Log:
    """``log.jsonl``: a line for every update and one for every dev evaluation."""

    def __init__(self, path: Path, done: int) -> None:
        """Keep what an interrupted run logged up to its checkpoint, nothing after it."""
        self._path = path
        self.damaged = 0
        """Lines of an earlier process that could not be read and are dropped."""
        old = path.read_bytes().splitlines() if done and path.exists() else []
        self._lines = list[str]()
        for line in old:
            try:
                text = line.decode()
                if parse_json(text, str(path))["step"] <= done:
                    self._lines.append(text)
            except (ValueError, LookupError, TypeError):
                self.damaged += 1

    def update(self, update: Update) -> None:
        told = {key: value for key, value in vars(update).items() if key != "tokens_of"}
        self._lines.append(json.dumps(told))

    def dev(self, update: Update, metrics: dict[str, Any]) -> None:
        kept = {key: value for key, value in metrics.items() if key != "per_type"}
        self._lines.append(json.dumps({"step": update.step, "epoch": update.epoch, "dev": kept}))

    def flush(self) -> None:
        write_text(self._path, "".join(f"{line}\n" for line in self._lines))
