"""Needs that add up over stimuli: a sum for each layer, to which each process adds its share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from lightning_emerge.capture.needs.base import Collector, Need
from lightning_emerge.capture.processes import add_up
from lightning_emerge.capture.troubles import Troubles
from lightning_emerge.capture.view import Chunk, View

_UNMOVED = (
    "A probe takes gradients of weights through which the images pass to the loss; those of {!r} are not among them. "
    "Name other layers."
)


class Sums(Need):
    """A sum over the bank's stimuli for each layer. Subclasses write `hook`, `start` and `add`."""

    bank: ClassVar[bool] = True
    passes: ClassVar[bool] = True
    finds: ClassVar[tuple[str, ...]] = ()

    def hook(self, view: View, layer: str) -> None:
        """Asks a pass to keep what is needed of a layer.

        Raises:
            ValueError: if the layer cannot give it.
        """

    def start(self, view: View, layer: str) -> torch.Tensor:
        """The sum over no stimuli."""
        raise NotImplementedError

    def add(self, chunk: Chunk, layer: str, total: torch.Tensor) -> bool:
        """Adds the share of some stimuli to a sum, in place; there is one of them at least.

        Returns:
            Whether they had a part in it.

        Raises:
            ValueError: if it cannot be told.
        """
        raise NotImplementedError

    def finish(self, view: View, layer: str, total: torch.Tensor) -> torch.Tensor:
        """What is made of a sum: by default nothing else. Processes add these up."""
        return total

    def collect(self, view: View, layers: Sequence[str], troubles: Troubles) -> Collector:
        return _Sums(self, view, layers, troubles)

    def join(self, found: Mapping[str, Any], total: int, device: torch.device) -> dict[str, Any]:
        return {self.name: {layer: add_up(share) for layer, share in found.items()}}


class _Sums(Collector):
    def __init__(self, need: Sums, view: View, layers: Sequence[str], troubles: Troubles) -> None:
        super().__init__(need, view, layers, troubles)
        self._sums, self._totals = need, dict[str, torch.Tensor]()
        self._moved, self._passed = set[str](), False
        for layer in self.layers:
            with troubles.of(self.key(layer)):
                need.hook(view, layer)

    def begin(self) -> None:
        for layer in [layer for layer in self.layers if self.key(layer) not in self.troubles]:
            with self.troubles.of(self.key(layer)):
                self._totals[layer] = self._sums.start(self.view, layer)

    def add(self, chunk: Chunk) -> None:
        if not chunk.count or (self.need.differentiates and not chunk.differentiated):
            return
        self._passed = True
        for layer, total in self._totals.items():
            with self.troubles.of(self.key(layer)):
                if self._sums.add(chunk, layer, total):
                    self._moved.add(layer)

    def finish(self, rows: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        if self.need.differentiates and self.view.unlearnable is not None and self._totals:
            self.troubles[self.key("")] = self.view.unlearnable
            return {}
        sound = {layer: total for layer, total in self._totals.items() if self.key(layer) not in self.troubles}
        found = dict[str, torch.Tensor]()
        for layer, total in sound.items():
            with self.troubles.of(self.key(layer)):
                found[layer] = self._sums.finish(self.view, layer, total)
        self.unmoved = {layer: zeros for layer, zeros in found.items() if layer not in self._moved}
        if self._passed:
            for layer in self.unmoved:
                self.troubles[self.key(layer)] = ValueError(_UNMOVED.format(layer))
        return {layer: total for layer, total in found.items() if self.key(layer) not in self.troubles}
