"""Hardware, software versions and settings of torch on which results may depend."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dmlbench import __version__
from dmlbench.config.schema import Scalar
from dmlbench.system.garbage import search_as_usual
from dmlbench.system.memory import begin_peak, keep_freed_memory, peak_memory_bytes


def device_name(device: str) -> str:
    """Return the name of a device, such as `NVIDIA H200` or `cpu (x86_64)`.

    Args:
        device: `cpu` or `cuda`.
    """
    return torch.cuda.get_device_name() if device == "cuda" else f"cpu ({platform.machine()})"


@cache
def cpu_columns() -> dict[str, Scalar]:
    """Return what decides rounding on the CPU besides the number of threads, which the protocol fixes.

    Returns:
        `cpu_capability`: the instruction set that torch uses; `cpu_libraries`: versions of BLAS and oneDNN, which choose
        their own kernels; `cpu_model`: name of the CPU, None if it is not known.
    """
    build = torch.__config__.show()
    mkl = re.search(r"Math Kernel Library Version (\S+?)(?:-Product)? ", build)
    blas = re.search(r"BLAS_INFO=(\w+)", build)
    onednn = re.search(r"MKL-DNN v(\S+)", build)
    found = [f"MKL {mkl[1]}" if mkl else blas and blas[1], onednn and f"oneDNN {onednn[1]}"]
    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_libraries": ", ".join(one for one in found if one) or None,
        "cpu_model": _cpu_model(),
    }


def _cpu_model() -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return platform.processor() or None
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return name[1] if name else platform.processor() or None


def memory_gib(device: str) -> float:
    """Return the peak memory so far, in GiB: of the device on CUDA, of the process on the CPU.

    Args:
        device: `cpu` or `cuda`.
    """
    if device == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**30, 3)
    return round(peak_memory_bytes() / 2**30, 3)


def begin_memory_peak(device: str) -> None:
    """Let `memory_gib` count from now on.

    Args:
        device: `cpu` or `cuda`.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        begin_peak()


def make_deterministic(threads: int) -> None:
    """Fix the settings of torch that would otherwise depend on the machine: CPU threads, algorithms and TF32.

    The process also keeps the memory that it frees, and searches for unreachable objects as usual from now on. Neither affects
    results.

    Args:
        threads: Number of CPU threads.
    """
    keep_freed_memory()
    search_as_usual()
    torch.set_num_threads(threads)
    # cuBLAS reads it when CUDA is first used. Without it, matrix products may differ between two runs.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # The deterministic mode would also fill every new tensor with NaN, which takes time and does not affect results.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("highest")
    libraries: list[Any] = [torch.backends.cudnn, torch.backends.mkldnn]
    operations = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]  # type: ignore[attr-defined]
    for one in [*operations, *(part for library in libraries for part in (library.conv, library.rnn))]:
        one.fp32_precision = "ieee"


@cache
def versions() -> dict[str, Scalar]:
    """Return the versions on which results may depend, and the git revision if the code runs from a checkout."""
    names = ("torch", "torchvision", "pytorch-metric-learning", "numpy")
    found: dict[str, Scalar] = {f"{name.replace('-', '_')}_version": version(name) for name in names}
    return {
        "dmlbench_version": __version__,
        "code_revision": _revision(),
        "python_version": platform.python_version(),
        **found,
    }


@cache
def source_digest() -> str:
    """Return a digest of the source files of this package."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _revision() -> str | None:
    package = Path(__file__).resolve().parents[1]
    if not (package.parent / ".git").exists():
        return None
    command = ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
