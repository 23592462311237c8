"""What was made last, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Generic, TypeVar

_Value = TypeVar("_Value")


class Cache(Generic[_Value]):
    """Keeps what was used last.

    Args:
        limit: bytes to keep; what is larger alone is not kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._size, self._lock = limit, 0, Lock()
        self._kept: OrderedDict[Hashable, tuple[_Value, int]] = OrderedDict()

    def get(self, key: Hashable) -> _Value | None:
        """Finds what is kept under a key."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: Hashable, value: _Value, size: int) -> None:
        """Keeps a value of a size in bytes, and lets go of those that were used longest ago."""
        with self._lock:
            if size > self._limit or key in self._kept:
                return
            self._kept[key] = (value, size)
            self._size += size
            while self._size > self._limit:
                self._size -= self._kept.popitem(last=False)[1][1]


_made: Cache[Any] = Cache(16 << 20)
"""Ranges, series and planes that were made, by what they were made of."""


def keep(key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    """What is kept under a key, which says all that it is made of; it is made now if it is not."""
    found = _made.get(key)
    if found is None:
        found = make()
        _made.put(key, found, getattr(found, "nbytes", 64) + 512)
    return found
