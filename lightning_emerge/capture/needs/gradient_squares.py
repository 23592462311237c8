"""Mean squares of the gradients of single stimuli."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from lightning_emerge.capture.hooks import UNREACHED
from lightning_emerge.capture.layers import OTHERS
from lightning_emerge.capture.leaves import find_leaves, single_gradients
from lightning_emerge.capture.needs.base import Memory, Need, Size
from lightning_emerge.capture.needs.sums import Sums
from lightning_emerge.capture.view import Chunk, View
from lightning_emerge.records import widest


class GradientSquares(Sums):
    """The mean over stimuli of the square of each stimulus' own gradient.

    Finds `gradient_squares`: layer -> float64 tensor (out, in, ...) like its weight.
    """

    weighs: ClassVar[bool] = True
    differentiates: ClassVar[bool] = True

    def check(self, module: nn.Module, layers: Sequence[str], named: Sequence[str]) -> None:
        super().check(module, layers, named)
        for layer in named:
            find_leaves(module, layer)

    def together(self, needs: Sequence[Need]) -> bool:
        return True

    def hook(self, view: View, layer: str) -> None:
        view.differentiate(layer)
        view.calls(layer)

    def start(self, view: View, layer: str) -> torch.Tensor:
        like = view.tensors[layer].detach()
        return torch.zeros_like(like, dtype=widest(like))

    def add(self, chunk: Chunk, layer: str, total: torch.Tensor) -> bool:
        """Adds the squared gradients of single stimuli, each the sum over all calls that use the layer's weight.

        Raises:
            ValueError: if they are not those of single stimuli.
        """
        calls, whole = chunk.calls(layer), chunk.gradients[layer]
        if any(call.given is None or len(call.given) != chunk.count for call, _ in calls):
            raise ValueError(
                "Gradients of single stimuli are taken of layers that get a row for each stimulus; "
                f"{layer!r} gets others. {OTHERS}"
            )
        if not calls and whole is not None:
            raise ValueError(UNREACHED.format(layer))
        wide, sums = total.dtype, torch.zeros_like(total)
        added = [single_gradients(call, end).to(wide) for call, end in calls if end is not None]
        single = sum(added[1:], start=added[0]) if added else sums[None]
        lacking = (sums if whole is None else whole.to(wide)) - single.sum(dim=0)
        # What is no rounding: the weight is used beside the calls that were seen, transposed for one.
        if lacking.norm() > chunk.precision(layer) ** 0.5 * single.flatten(1).norm(dim=1).sum():
            raise ValueError(
                "Gradients of single stimuli add up to that of them all; those of "
                f"{layer!r} do not, as its weight is used elsewhere too. {OTHERS}"
            )
        total += single.square().sum(dim=0) / chunk.total
        return bool(added)

    def memory(self, size: Size) -> Memory:
        return Memory("gradients by token", 16.0 * sum(map(size.weight, size.layers)))
