"""The weights of layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch

from lightning_emerge.capture.needs.base import Look, Need


class Weights(Need):
    """The weights of the probe's layers.

    Finds `weights`: layer -> tensor (out, in, ...), what the layer computes with, also where that is made of other
    parameters by a normalisation or a pruning; at a training batch, before its update.
    """

    weighs: ClassVar[bool] = True

    def look(self, look: Look, layers: Sequence[str]) -> dict[str, Any]:
        return {self.name: {layer: look.read(layer) for layer in layers}}

    def finite(self, found: Mapping[str, Any]) -> Iterable[torch.Tensor]:
        return found[self.name].values()
