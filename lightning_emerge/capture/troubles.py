"""What could not be had, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Key = tuple[Any, str]
"""A need and a layer. The layer is "" of what is the whole network's, or all layers'; no need is the pass itself."""


class Troubles(dict[Key, Exception]):
    """The first error of each thing that was asked for."""

    @contextmanager
    def of(self, key: Key) -> Iterator[None]:
        """Keeps what the block raises."""
        try:
            yield
        except Exception as error:
            self.setdefault(key, error)
