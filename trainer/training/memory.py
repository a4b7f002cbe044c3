"""Memory that the C library keeps: less of it, and given back to the operating system."""

from __future__ import annotations

import ctypes
import sys

STEPS_BETWEEN = 25
"""Steps from one call of `give_back_memory` to the next: a call takes as long as a tenth of one."""

MMAP_THRESHOLD = 4 * 2**20
"""Bytes from which an allocation is mapped by itself, and returned when it is freed. glibc begins
with 128 KB and raises that up to 32 MB as blocks are freed, so that the largest activations end up
in its heap, between small blocks that keep them from being returned: 600 MB in 60 steps."""
TRIM_THRESHOLD = 128 * 2**20
"""Free bytes at the end of the heap from which it is shortened; a fixed value, because setting the
one above ends that glibc adjusts this one."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def bound_heap() -> None:
    """Keep large blocks out of the heap of the C library; does nothing where that is not glibc."""
    mallopt = _c_function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD)


def give_back_memory() -> None:
    """Ask the C library to return what was freed; does nothing where that is not glibc."""
    trim = _c_function("malloc_trim")
    if trim is not None:
        trim(0)


def _c_function(name: str) -> ctypes._NamedFuncPointer | None:
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), name, None)  # musl has neither
