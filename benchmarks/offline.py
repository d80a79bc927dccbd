"""Compiling a kernel launch for a GPU that is not there, and reading what came out.

Triton brings its own assembler and disassembler, so registers, spills, stack and shared memory of
every table entry are known without a GPU and without a CUDA toolkit.
"""

import re
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lmsl_kernels.launch import Launch

# Bytes of shared memory that one program may have (CUDA programming guide, compute capabilities).
SHARED_LIMIT = {
    "sm_80": 163 * 1024,
    "sm_86": 99 * 1024,
    "sm_89": 99 * 1024,
    "sm_90": 227 * 1024,
    "sm_100": 227 * 1024,
    "sm_120": 99 * 1024,
}
TYPES = {
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float32: "fp32",
    torch.int32: "i32",
    torch.uint8: "u8",
}
MATRIX_INSTRUCTIONS = ("wgmma.mma_async", "tcgen05.mma", "mma.sync")


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """What one launch compiles to."""

    registers: int
    """Of one thread; the hardware has 255."""
    spills: int
    """Instructions that store registers to local memory."""
    stack: int
    """Bytes of one thread."""
    shared: int
    """Bytes of one program."""
    matrix: str
    """The matrix instruction it uses, or "none"."""

    def fault(self, architecture: str) -> str | None:
        """Why it must not ship, or ``None``."""
        if self.spills or self.stack:
            return f"spills ({self.spills} stores, {self.stack} bytes of stack)"
        if self.shared > SHARED_LIMIT[architecture]:
            return f"{self.shared} bytes of shared memory, {SHARED_LIMIT[architecture]} at most"
        return "no matrix instruction" if self.matrix == "none" else None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compile_launch(launch: Launch, architecture: str) -> Compiled:
    """Compile what ``launch`` would run; its tensors may be on the ``meta`` device."""
    signature, constants, attributes = _specialise(launch)
    source = ASTSource(launch.kernel, signature, constants, attributes)
    capability = int(architecture.removeprefix("sm_"))
    compiled = triton.compile(
        source,
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": launch.tiles.warps, "num_stages": launch.tiles.stages},
    )
    usage, spills = _disassemble(compiled.asm["cubin"])
    ptx = compiled.asm["ptx"]
    return Compiled(
        registers=usage["REG"],
        spills=spills,
        stack=usage["STACK"],
        shared=compiled.metadata.shared,
        matrix=next((name for name in MATRIX_INSTRUCTIONS if name in ptx), "none"),
    )


def _specialise(launch: Launch) -> tuple[dict[str, str], dict[Any, Any], dict[Any, Any]]:
    """Types, constants and alignments as Triton would see them at a real launch."""
    varying = {p.name for p in launch.kernel.params if p.do_not_specialize}
    signature: dict[str, str] = {}
    constants: dict[Any, Any] = {}
    attributes: dict[Any, Any] = {}
    for place, name in enumerate(launch.kernel.arg_names):
        if name in launch.constants:
            signature[name], constants[(place,)] = "constexpr", launch.constants[name]
            continue
        value = launch.arguments[name]
        if value is None:
            signature[name], constants[(place,)] = "constexpr", None
        elif isinstance(value, torch.Tensor):
            signature[name] = f"*{TYPES[value.dtype]}"
            attributes[(place,)] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[name] = "fp32"
        elif value == 1 and name not in varying:
            signature[name], constants[(place,)] = "constexpr", 1
        else:
            signature[name] = "i32" if value < 2**31 else "i64"
            if value % 16 == 0 and name not in varying:
                attributes[(place,)] = [["tt.divisibility", 16]]
    return signature, constants, attributes


def _disassemble(cubin: bytes) -> tuple[dict[str, int], int]:
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        report = _run(tools / "cuobjdump", "-res-usage", file.name)
        assembly = _run(tools / "nvdisasm", file.name)
    usage = {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", report)}
    return usage, len(re.findall(r"\bSTL\b", assembly))


def _run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
