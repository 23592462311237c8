"""Needs that have a row for each stimulus: they share one piece of memory, and are put together by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from lightning_emerge.capture.needs.base import Collector, Memory, Need, Size
from lightning_emerge.capture.processes import gather
from lightning_emerge.capture.troubles import Troubles
from lightning_emerge.capture.view import Chunk, View


class Rows(Need):
    """A row for each stimulus, of each layer or of the network. Subclasses write `hook` and `rows`."""

    bank: ClassVar[bool] = True
    passes: ClassVar[bool] = True
    sized: ClassVar[bool] = True
    finds: ClassVar[tuple[str, ...]] = ()

    def hook(self, view: View, layer: str) -> None:
        """Asks a pass to keep what is needed of a layer; "" is the network.

        Raises:
            ValueError: if the layer cannot give it.
        """

    def rows(self, chunk: Chunk, layer: str) -> torch.Tensor | None:
        """What some stimuli give, as float32 (stimulus, ...); None if there is no such thing in this network.

        Raises:
            ValueError: if the layer does not give it.
        """
        raise NotImplementedError

    def finish(self, view: View, layer: str, rows: torch.Tensor) -> Any:
        """What is made of the rows of all stimuli of a process: by default nothing else."""
        return rows

    def rows_of(self, found: Any) -> torch.Tensor:
        """The rows in what `finish` gave."""
        return found

    def collect(self, view: View, layers: Sequence[str], troubles: Troubles) -> Collector:
        return RowsCollector(self, view, layers, troubles)

    def join(self, found: Mapping[str, Any], total: int, device: torch.device) -> dict[str, Any]:
        joined = {layer: gather(self.rows_of(own), total) for layer, own in found.items()}
        return {self.name: joined.get("") if self.whole else joined}

    def memory(self, size: Size) -> Memory | None:
        if not self.sized:
            return None
        floats = [self.rows_of(found)[0:1].shape[1:].numel() for found in size.found.values()]
        shared = 1 + 1 / size.processes if size.processes > 1 else 1
        passing = max(floats, default=0) if size.processes > 1 else 0
        return Memory("activations", 4.0 * size.stimuli * shared * sum(floats), 4.0 * size.stimuli * passing)


class RowsCollector(Collector):
    """Collects what a need has of each stimulus."""

    def __init__(self, need: Rows, view: View, layers: Sequence[str], troubles: Troubles) -> None:
        super().__init__(need, view, layers, troubles)
        self._rows = need
        for layer in self.layers:
            with troubles.of(self.key(layer)):
                need.hook(view, layer)
        self.layers = tuple(layer for layer in self.layers if self.key(layer) not in troubles)

    def rows(self, chunk: Chunk) -> dict[str, torch.Tensor]:
        found = dict[str, torch.Tensor]()
        for layer in self.layers:
            with self.troubles.of(self.key(layer)):
                rows = self._rows.rows(chunk, layer)
                if rows is not None:
                    found[layer] = rows
        return found

    def finish(self, rows: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        found = dict[str, Any]()
        for layer, own in rows.items():
            with self.troubles.of(self.key(layer)):
                found[layer] = self._rows.finish(self.view, layer, own)
        return found
