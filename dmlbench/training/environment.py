"""The machine and the versions that a number may depend on."""

from __future__ import annotations

import platform
import resource
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from dmlbench import __version__
from dmlbench.config.schema import Scalar


def device_name(device: str) -> str:
    """The kind of device, as its maker calls it."""
    return torch.cuda.get_device_name() if device == "cuda" else f"cpu ({platform.machine()})"


def memory_gib(device: str) -> float:
    """The greatest memory in use so far: the device's on CUDA, the process's elsewhere."""
    if device == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**30, 3)
    unit = 1 if platform.system() == "Darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 3)


def make_deterministic(threads: int) -> None:
    """Fix what torch would otherwise choose by the machine: number of CPU threads, algorithms, TF32."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # The mode above would also fill every new tensor with NaN, which changes no result and costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


@cache
def versions() -> dict[str, Scalar]:
    """The versions that a number may depend on, and the code's revision where it runs from a checkout."""
    names = ("torch", "torchvision", "pytorch-metric-learning", "numpy")
    found: dict[str, Scalar] = {f"{name.replace('-', '_')}_version": version(name) for name in names}
    return {
        "dmlbench_version": __version__,
        "code_revision": _revision(),
        "python_version": platform.python_version(),
        **found,
    }


def _revision() -> str | None:
    here = Path(__file__).resolve().parents[1]
    if not (here.parent / ".git").exists():
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
