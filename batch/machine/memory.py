"""Out-of-memory errors, and the return of free memory to the operating system."""

from __future__ import annotations

import ctypes
import errno
import gc
import re
import sys

import pyarrow as pa

_ENGINE_MEMORY = re.compile(
    r"bad[_ ]alloc|alloc_failed|out of memory|(failed to|unable to|cannot) allocate"
    r"|available memory of \d+ is smaller than requested"
    r"|can't start new thread",
    re.IGNORECASE,
)
"""Out-of-memory messages of onnxruntime, its CUDA libraries, OpenVINO and Python's threads, which
have no error class for it."""


def give_back_memory() -> None:
    """Return free memory, and make Arrow allocate with the C library from now on.

    Arrow's own allocator never returns memory, up to the size of the largest chunk that was tried.
    """
    gc.collect()
    pa.default_memory_pool().release_unused()
    pa.set_memory_pool(pa.system_memory_pool())
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # glibc only
        trim(0)


def is_out_of_memory(error: BaseException | None) -> bool:
    """True if an error, or one of its causes, reports that memory ran out."""
    if error is None:
        return False
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (_is_of_engine(error) and _ENGINE_MEMORY.search(str(error)) is not None)
        or is_out_of_memory(error.__cause__)
    )


def _is_of_engine(error: BaseException) -> bool:
    """True for errors of engines and threads.

    OpenVINO and threads raise RuntimeError; onnxruntime has its own classes.
    """
    return isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime.")
