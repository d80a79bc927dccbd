"""Compiling many cases: worker processes, and a file of what is known already.

Every compilation runs in a worker, so that a compiler that crashes costs one result, its memory is
given back, and another version of Triton than the caller's (``PYTHONPATH`` of the worker) can be
asked as well. Results are appended to ``<folder>/<triton version>.jsonl`` under their digest.

``python -m benchmarks.compile_report.pool`` is the worker: a case a line in, a result a line out.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock

from benchmarks.compile_report.cases import Case, Variant
from benchmarks.compile_report.offline import Compiled, compile_launch
from benchmarks.shared.machine import REPOSITORY
from lmsl_kernels.flash.tuning import Tiles

CACHE = REPOSITORY / "build" / "compiled"
# After so many compilations a worker starts afresh: the compiler does not give all memory back.
WORKER_LIFE = 200


class Compiler:
    """Compiles with one version of Triton, several launches at a time.

    Args:
        python_path: folder with another Triton than the installed one.
        remember: whether to look at what was found before.
    """

    def __init__(
        self,
        *,
        jobs: int = 1,
        python_path: str | None = None,
        remember: bool = True,
        folder: Path = CACHE,
    ) -> None:
        self.jobs = jobs
        self._python_path = python_path
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._lock = Lock()
        first = _Worker(python_path)
        self.version = first.version
        self._idle.put(first)
        self._path = folder / f"{self.version}.jsonl"
        self._known: dict[str, Compiled] = {}
        if remember and self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                fields = json.loads(line)
                digest = fields.pop("digest")
                self._known[digest] = Compiled(**fields)

    def compile(self, case: Case) -> Compiled:
        """What is known of a case, or else what a worker makes of it. For any thread."""
        digest = case.digest
        with self._lock:
            known = self._known.get(digest)
        if known is not None:
            return known
        found = self._ask(case)
        with self._lock:
            self._known[digest] = found
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"digest": digest, **asdict(found)}) + "\n")
        return found

    def compile_all(self, cases: Iterable[Case]) -> Iterator[Compiled]:
        """The results in the order of the cases."""
        with ThreadPoolExecutor(self.jobs) as threads:
            yield from threads.map(self.compile, cases)

    def close(self) -> None:
        """End all workers."""
        while not self._idle.empty():
            self._idle.get().close()

    def _ask(self, case: Case) -> Compiled:
        try:
            worker = self._idle.get_nowait()
        except Empty:
            worker = _Worker(self._python_path)
        answer = worker.ask(json.dumps(asdict(case)))
        if answer is None or worker.answered >= WORKER_LIFE:
            worker.close()
        else:
            self._idle.put(worker)
        return Compiled(**json.loads(answer or '{"error": "the compiler crashed"}'))


class _Worker:
    def __init__(self, python_path: str | None) -> None:
        # Triton's compiler instead of its interpreter, and this repository's package found.
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        folders = (python_path, str(REPOSITORY / "kernels"), environment.get("PYTHONPATH"))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.compile_report.pool"],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._questions, self._answers = self._process.stdin, self._process.stdout
        self.answered = 0
        self.version = self._answers.readline().strip()
        if not self.version:
            raise RuntimeError(f"no compile worker starts with {sys.executable}")

    def ask(self, line: str) -> str | None:
        """The answer, or ``None`` when the worker died of the question."""
        self._questions.write(line + "\n")
        self._questions.flush()
        self.answered += 1
        return self._answers.readline() or None

    def close(self) -> None:
        self._process.communicate()


def _work() -> None:
    import triton

    print(triton.__version__, flush=True)
    for line in sys.stdin:
        fields = json.loads(line)
        entry, variant = Tiles(**fields.pop("entry")), Variant(**fields.pop("variant"))
        case = Case(entry=entry, variant=variant, **fields)
        found = compile_launch(case.launch(), case.architecture)
        print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    _work()
