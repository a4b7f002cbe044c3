"""Object pool: one object for each thread that needs one at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Pool(Generic[Item]):
    """A pool of objects that only one thread may use at a time; grows when all are in use."""

    def __init__(self, make: Callable[[], Item]) -> None:
        self._make = make
        self._idle: deque[Item] = deque()  # append and pop are thread-safe

    @property
    def idle(self) -> tuple[Item, ...]:
        """Objects that are not in use."""
        return tuple(self._idle)

    @contextmanager
    def borrowed(self) -> Iterator[Item]:
        """Borrow an object for the block; after an error it is dropped, as it may be broken."""
        try:
            item = self._idle.pop()
        except IndexError:
            item = self._make()
        yield item
        self._idle.append(item)
