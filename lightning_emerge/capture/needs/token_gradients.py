"""Gradients of each token's loss."""

from __future__ import annotations

import torch

from lightning_emerge.capture.needs.bank_gradients import BankGradients
from lightning_emerge.capture.needs.base import Memory, Size
from lightning_emerge.capture.view import Chunk, View

_DIFFERENTIATING = 2.0  # measured: copies of the gradients of all tokens that are in memory at once


class TokenGradients(BankGradients):
    """Gradients of each token's mean cross-entropy, in evaluation mode, from the one pass back that each chunk makes.

    Finds `token_gradients`: layer -> tensor (token, out, in, ...); NaN for a token without stimuli.
    """

    def start(self, view: View, layer: str) -> torch.Tensor:
        like = view.tensors[layer].detach()
        total = torch.zeros(len(view.sizes), *like.shape).to(like)
        total[[number for number, size in enumerate(view.sizes) if not size]] = torch.nan
        return total

    def add(self, chunk: Chunk, layer: str, total: torch.Tensor) -> bool:
        gradient = chunk.gradients[layer]
        if gradient is None:
            return False
        total[chunk.token] += gradient / chunk.size
        return True

    def finish(self, view: View, layer: str, total: torch.Tensor) -> torch.Tensor:
        return view.weights[layer].by_filter(total, 1)

    def memory(self, size: Size) -> Memory:
        numbers = sum(map(size.weight, size.layers))
        return Memory("gradients by token", 4.0 * numbers * size.tokens * _DIFFERENTIATING)
