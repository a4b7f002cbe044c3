"""Things that only one thread may use at a time, as many as there are threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Spares(Generic[Thing]):
    """Lends things out, and makes one where all are lent."""

    def __init__(self, make: Callable[[], Thing]) -> None:
        self._make = make
        self._free: deque[Thing] = deque()  # its ends may be used by several threads

    @property
    def free(self) -> tuple[Thing, ...]:
        """Those that nobody uses now."""
        return tuple(self._free)

    @contextmanager
    def borrowed(self) -> Iterator[Thing]:
        """One for the length of the block; given up where that fails, for it may be broken."""
        try:
            thing = self._free.pop()
        except IndexError:
            thing = self._make()
        yield thing
        self._free.append(thing)
