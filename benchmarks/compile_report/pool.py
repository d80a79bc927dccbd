"""Compiling many launches: worker processes, and a file of what is known already.

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
from typing import Any

from benchmarks.compile_report.cases import Case, Variant, launch_of
from benchmarks.compile_report.offline import Compiled, compile_launch, launch_digest
from benchmarks.shared.machine import REPOSITORY
from lmsl_kernels.flash.tuning import Tiles

CACHE = REPOSITORY / "build" / "compiled"
# After so many compilations a worker starts afresh: the compiler does not give all memory back.
WORKER_LIFE = 200


class Compiler:
    """Compiles with one version of Triton, several launches at a time."""

    def __init__(
        self,
        *,
        jobs: int = 1,
        python_path: str | None = None,
        remember: bool = True,
        folder: Path = CACHE,
    ) -> None:
        self.jobs = jobs
        self.compiled = 0
        self._environment = _worker_environment(python_path)
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._lock = Lock()
        first = _Worker(self._environment)
        self.version = first.version
        self._idle.put(first)
        self._path = folder / f"{self.version}.jsonl"
        self._known = dict(_read_known(self._path)) if remember else {}

    def compile(self, case: Case) -> Compiled:
        """What is known of a case, or else what a worker makes of it. For any thread."""
        digest = digest_of(case)
        with self._lock:
            known = self._known.get(digest)
        if known is not None:
            return known
        found = self._ask(case)
        with self._lock:
            self._known[digest] = found
            self.compiled += 1
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
            worker = _Worker(self._environment)
        answer = worker.ask(_to_line(case))
        if answer is None or worker.answered >= WORKER_LIFE:
            worker.close()
        else:
            self._idle.put(worker)
        if answer is None:
            error = "the compiler crashed"
            return Compiled(registers=0, spills=0, stack=0, shared=0, matrix="none", error=error)
        return Compiled(**json.loads(answer))


class _Worker:
    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.compile_report.pool"],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.answered = 0
        self.version = self._read()
        if not self.version:
            raise RuntimeError(f"no compile worker starts with {sys.executable}")

    def ask(self, line: str) -> str | None:
        """The answer, or ``None`` when the worker died of the question."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        self.answered += 1
        return self._read() or None

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def digest_of(case: Case) -> str:
    """Names all that the result of a case depends on, Triton's version apart."""
    return launch_digest(launch_of(case.entry, case.variant, case.group), case.architecture)


def _to_line(case: Case) -> str:
    return json.dumps(asdict(case))


def _from_line(line: str) -> Case:
    fields: dict[str, Any] = json.loads(line)
    entry, variant = Tiles(**fields.pop("entry")), Variant(**fields.pop("variant"))
    return Case(entry=entry, variant=variant, **fields)


def _worker_environment(python_path: str | None) -> dict[str, str]:
    """As ours, but with Triton's compiler instead of its interpreter, and this package found."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    folders = [python_path, str(REPOSITORY / "kernels"), environment.get("PYTHONPATH")]
    environment["PYTHONPATH"] = os.pathsep.join(folder for folder in folders if folder)
    return environment


def _read_known(path: Path) -> Iterator[tuple[str, Compiled]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = json.loads(line)
        yield fields.pop("digest"), Compiled(**fields)


def _work() -> None:
    import triton

    print(triton.__version__, flush=True)
    for line in sys.stdin:
        case = _from_line(line)
        launch = launch_of(case.entry, case.variant, case.group)
        found = compile_launch(launch, case.architecture)
        print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    _work()
