"""Giving memory back to the operating system when there is too little of it."""

from __future__ import annotations

import ctypes
import gc
import sys

import pyarrow as pa


def give_back_memory() -> None:
    """Return what is free, and let Arrow allocate by the C library from now on.

    Arrow's own allocator keeps what it once had, up to the largest chunk that was tried.
    """
    gc.collect()
    pa.default_memory_pool().release_unused()
    pa.set_memory_pool(pa.system_memory_pool())
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # glibc only
        trim(0)
