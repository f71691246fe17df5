"""Memory that is freed and allocated again in every step."""

from __future__ import annotations

import ctypes

# Parameters of glibc's `mallopt` (man 3 mallopt).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_IN_HEAP = 32 * 2**20  # bytes; glibc accepts no larger threshold
_NEVER_TRIM = 2**31 - 1


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
