"""The memory of this process: what it frees and allocates again in every step, and its peak."""

from __future__ import annotations

import ctypes
import platform
import re
import resource
from contextlib import suppress
from pathlib import Path

# Parameters of glibc's `mallopt` (man 3 mallopt).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_IN_HEAP = 32 * 2**20  # bytes; glibc accepts no larger threshold
_NEVER_TRIM = 2**31 - 1

_STATUS = Path("/proc/self/status")  # on Linux
_PEAK = Path("/proc/self/clear_refs")  # on Linux; man 5 proc_pid_clear_refs
_RESET_PEAK = "5"


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for its next allocations.

    By default, glibc returns the activations of every step to the system, which then clears the same pages again for the next
    step. This takes up to half of the CPU time of small models. The peak of the memory stays the same.

    Returns:
        Whether the C library has these settings; others than glibc are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_IN_HEAP) and mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM))


def begin_peak() -> None:
    """Give the memory that has been freed back to the system, and let `peak_memory_bytes` count from now on. Only on Linux."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # of glibc
        trim(0)
    with suppress(OSError):
        _PEAK.write_text(_RESET_PEAK)


def peak_memory_bytes() -> int:
    """Return the peak of the memory of this process since its start, or since `begin_peak`."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE) if _STATUS.is_file() else None
    if found is not None:
        return int(found[1]) * 2**10
    # Not on Linux, where it would begin with the memory of the process that started this one.
    unit = 1 if platform.system() == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
