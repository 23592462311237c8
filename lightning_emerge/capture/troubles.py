"""What could not be had, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

_Found = TypeVar("_Found")


class Troubles(dict[tuple[str, str], Exception]):
    """The first error of each thing that was asked for."""

    @contextmanager
    def of(self, kind: str, layer: str) -> Iterator[None]:
        """Keeps what the block raises."""
        try:
            yield
        except Exception as error:
            self.setdefault((kind, layer), error)

    def each(self, kind: str, layers: Sequence[str], find: Callable[[str], _Found]) -> dict[str, _Found]:
        """Finds something of each layer that has it."""
        found = dict[str, _Found]()
        for layer in layers:
            with self.of(kind, layer):
                found[layer] = find(layer)
        return found
