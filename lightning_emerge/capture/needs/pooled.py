"""The outputs of layers, averaged over places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from lightning_emerge.capture.needs.activations import Activations
from lightning_emerge.capture.needs.base import Need
from lightning_emerge.capture.needs.rows import Rows
from lightning_emerge.capture.view import Chunk, View
from lightning_emerge.records import pool


class Pooled(Rows):
    """Outputs of the probe's layers on the stimulus bank, averaged over all places: one number a channel.

    Finds `pooled`: layer -> float32 tensor (stimulus, channel).
    """

    sized: ClassVar[bool] = False

    def trials(self, needs: Sequence[Need], *, named: bool) -> dict[Need, bool]:
        return {Activations(): True}

    def hook(self, view: View, layer: str) -> None:
        view.output(layer)

    def rows(self, chunk: Chunk, layer: str) -> torch.Tensor:
        return pool(chunk.output(layer))
