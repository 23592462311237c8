"""The outputs of layers."""

from __future__ import annotations

import torch

from lightning_emerge.capture.needs.rows import Rows
from lightning_emerge.capture.view import Chunk, View


class Activations(Rows):
    """Whole outputs of the probe's layers on the stimulus bank.

    Finds `activations`: layer -> float32 tensor (stimulus, ...).
    """

    def hook(self, view: View, layer: str) -> None:
        view.output(layer)

    def rows(self, chunk: Chunk, layer: str) -> torch.Tensor:
        return chunk.output(layer)
