"""Compiling a kernel launch for a GPU that is not there, and reading what came out.

Triton brings its own assembler and disassembler, so registers, spills, stack, shared and tensor
memory of every table entry are known without a GPU and without a CUDA toolkit. A launch comes from
``lmsl_kernels.flash.launch`` with tensors on the ``meta`` device: what is compiled is what is
launched.

Every result goes by a digest of all that it depends on: the source of the kernel and of the
functions it calls (comments and docstrings apart), types and constants, warps and stages, the
architecture. A kernel that did not change does not have to be compiled again.
"""

import ast
import hashlib
import inspect
import json
import re
import subprocess
import tempfile
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from lmsl_kernels.flash.launch import Launch

# Bytes of shared memory that one program may have (CUDA programming guide, compute capabilities).
SHARED_LIMIT = {
    "sm_80": 163 * 1024,
    "sm_86": 99 * 1024,
    "sm_89": 99 * 1024,
    "sm_90": 227 * 1024,
    "sm_100": 227 * 1024,
    "sm_120": 99 * 1024,
}
# Columns of Blackwell's tensor memory; Triton refuses more only at the launch.
TENSOR_COLUMNS = 512
MATRIX_INSTRUCTIONS = {"wgmma.mma_async": "wgmma", "tcgen05.mma": "tcgen05", "mma.sync": "mma"}
_LITERALS = (int, float, str, triton.language.constexpr)


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """What one launch compiles to."""

    registers: int = 0
    """Of one thread; the hardware has 255."""
    spills: int = 0
    """Instructions that store registers to local memory."""
    stack: int = 0
    """Bytes of one thread."""
    shared: int = 0
    """Bytes of one program."""
    matrix: str = "none"
    """The matrix instruction it uses, or "none"."""
    tensor: int = 0
    """Columns of tensor memory."""
    error: str = ""
    """Why it does not compile at all; then the rest is 0."""

    def fault(
        self, architecture: str, *, may_spill: bool = False, matrix: bool = True
    ) -> str | None:
        """Why it must not ship, or ``None``; ``matrix``: it has to use matrix instructions."""
        if self.error:
            return self.error
        if (self.spills or self.stack) and not may_spill:
            return f"spills ({self.spills} stores, {self.stack} bytes of stack)"
        if self.shared > SHARED_LIMIT[architecture]:
            return f"{self.shared} bytes of shared memory, {SHARED_LIMIT[architecture]} at most"
        if self.tensor > TENSOR_COLUMNS:
            return f"{self.tensor} columns of tensor memory, {TENSOR_COLUMNS} at most"
        return "no matrix instruction" if matrix and self.matrix == "none" else None


def compile_launch(launch: Launch, architecture: str) -> Compiled:
    """Compile what ``launch`` would run; its tensors may be on the ``meta`` device.

    Triton's own cache is left out: it would keep a megabyte of files for every launch.
    """
    target = _target(architecture)
    source = ASTSource(launch.kernel, *_specialise(launch, architecture))
    options = {"num_warps": launch.tiles.warps, "num_stages": launch.tiles.stages}
    with tempfile.TemporaryDirectory(prefix="lmsl_compile_") as folder, triton.knobs.cache.scope():
        triton.knobs.cache.dir = folder
        try:
            compiled = triton.compile(source, target=target, options=options)
        except Exception as error:
            # Whatever the compiler stumbles over is a finding about the candidate, not about us.
            return _failed(error)
    usage, spills = _disassemble(compiled.asm["cubin"])
    ptx = compiled.asm["ptx"]
    found = [short for name, short in MATRIX_INSTRUCTIONS.items() if name in ptx]
    return Compiled(
        registers=usage["REG"],
        spills=spills,
        stack=usage["STACK"],
        shared=compiled.metadata.shared,
        matrix=found[0] if found else "none",
        tensor=getattr(compiled.metadata, "tmem_size", None) or 0,
    )


def launch_digest(launch: Launch, architecture: str) -> str:
    """Names all that the result of ``compile_launch`` depends on, Triton's version apart."""
    signature, constants, attributes = _specialise(launch, architecture)
    parts = [
        source_hash(launch.kernel),
        architecture,
        signature,
        sorted((place, repr(value)) for place, value in constants.items()),
        sorted(place for place, attribute in attributes.items() if attribute),
        launch.tiles.warps,
        launch.tiles.stages,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


@cache
def source_hash(kernel: Any) -> str:
    """A hash of the code of a kernel and of all that it calls; comments do not count."""
    texts: dict[str, str] = {}
    _gather_source(kernel, texts)
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:16]


def _gather_source(kernel: Any, texts: dict[str, str]) -> None:
    function = kernel.fn
    name = f"{function.__module__}.{function.__qualname__}"
    if name in texts:
        return
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    if ast.get_docstring(tree) is not None:
        del tree.body[0]
    tree.decorator_list = []
    texts[name] = ast.unparse(tree)
    for node in ast.walk(tree):
        used = function.__globals__.get(node.id) if isinstance(node, ast.Name) else None
        if inspect.isfunction(getattr(used, "fn", None)):
            _gather_source(used, texts)
        elif isinstance(used, _LITERALS):
            assert isinstance(node, ast.Name)
            texts[f"{name}:{node.id}"] = repr(getattr(used, "value", used))


def _target(architecture: str) -> GPUTarget:
    return GPUTarget("cuda", int(architecture.removeprefix("sm_")), 32)


def _specialise(launch: Launch, architecture: str) -> tuple[Any, Any, Any]:
    """Types, constants and alignments: what Triton itself makes of the arguments of a launch."""
    backend, bind = _binder(launch.kernel, architecture)
    bound, specialisation, _ = bind(**launch.arguments, **launch.constants)
    _, *found = launch.kernel._pack_args(backend, {}, bound, specialisation, None)
    return tuple(found)


@cache
def _binder(kernel: Any, architecture: str) -> tuple[Any, Any]:
    backend = make_backend(_target(architecture))
    return backend, create_function_from_signature(kernel.signature, kernel.params, backend)


def _failed(error: Exception) -> Compiled:
    # Errors in functions that a kernel calls are wrapped in pictures of the code around them.
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" ^")] or [""]
    text = f"{type(error).__name__}: {lines[-1]}"[:200]
    return Compiled(error=text)


def _disassemble(cubin: bytes) -> tuple[dict[str, int], int]:
    """Registers and stack, and the instructions that spill: without a stack there are none."""
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        report = _run(tools / "cuobjdump", "-res-usage", file.name)
        usage = {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", report)}
        assembly = _run(tools / "nvdisasm", file.name) if usage["STACK"] else ""
    return usage, len(re.findall(r"\bSTL\b", assembly))


def _run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
