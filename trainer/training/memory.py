"""Heap of the C library: large blocks are kept out, and free memory is returned to the system."""

from __future__ import annotations

import ctypes
import sys

STEPS_BETWEEN = 25
"""Steps between two calls of `give_back_memory`: a call takes a tenth of the time of a step."""

MMAP_THRESHOLD = 4 * 2**20
"""Bytes from which an allocation gets its own mapping, which is returned when it is freed. glibc
begins with 128 KB and raises that up to 32 MB as blocks are freed, so that the largest activations
end up in its heap, where small blocks around them prevent their return: 600 MB in 60 steps."""
TRIM_THRESHOLD = 128 * 2**20
"""Free bytes at the end of the heap from which it is trimmed. A fixed value, because glibc does not
adjust it any more once `MMAP_THRESHOLD` is set."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def bound_heap() -> None:
    """Keep large blocks out of the heap of the C library; has no effect without glibc."""
    mallopt = _c_function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD)


def give_back_memory() -> None:
    """Make the C library return free memory; has no effect without glibc."""
    trim = _c_function("malloc_trim")
    if trim is not None:
        trim(0)


def _c_function(name: str) -> ctypes._NamedFuncPointer | None:
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), name, None)  # musl has neither
