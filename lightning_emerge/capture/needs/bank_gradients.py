"""Gradients of the bank's loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from lightning_emerge.capture.needs.base import Need
from lightning_emerge.capture.needs.sums import Sums
from lightning_emerge.capture.view import Chunk, View


class BankGradients(Sums):
    """Gradients of the bank's mean cross-entropy, in evaluation mode, by the weights of the probe's layers.

    Finds `bank_gradients`: layer -> tensor (out, in, ...) like its weight.
    """

    weighs: ClassVar[bool] = True
    differentiates: ClassVar[bool] = True

    def trials(self, needs: Sequence[Need], *, named: bool) -> dict[Need, bool]:
        return {} if named else {BankGradients(): True}

    def hook(self, view: View, layer: str) -> None:
        view.differentiate(layer)

    def start(self, view: View, layer: str) -> torch.Tensor:
        return torch.zeros_like(view.tensors[layer].detach())

    def add(self, chunk: Chunk, layer: str, total: torch.Tensor) -> bool:
        gradient = chunk.gradients[layer]
        if gradient is None:
            return False
        total += gradient / chunk.total
        return True

    def finish(self, view: View, layer: str, total: torch.Tensor) -> torch.Tensor:
        return view.weights[layer].by_filter(total)
