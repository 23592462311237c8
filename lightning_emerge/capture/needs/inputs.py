"""What convolutions get, and what layers make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from lightning_emerge.capture.convolutions import convolution_of, describe_convolution, find_convolution
from lightning_emerge.capture.needs.rows import Rows
from lightning_emerge.capture.view import Chunk, View
from lightning_emerge.records import Convolution


class _Fed(NamedTuple):
    rows: torch.Tensor
    convolution: Convolution


class Inputs(Rows):
    """What the convolution of each of the probe's layers gets on the stimulus bank, and what is made of it there.

    Finds `inputs`: layer -> float32 tensor (stimulus, in, y, x), and `convolutions`: layer -> what the layer makes of
    its input besides its weight.
    """

    finds: ClassVar[tuple[str, ...]] = ("inputs", "convolutions")

    def check(self, module: nn.Module, layers: Sequence[str], named: Sequence[str]) -> None:
        for layer in named:
            find_convolution(module, layer)

    def hook(self, view: View, layer: str) -> None:
        view.input(layer, convolution_of(layer, view.modules[layer]))

    def rows(self, chunk: Chunk, layer: str) -> torch.Tensor:
        return chunk.given(layer)

    def whose(self, layer: str) -> str:
        return f"what comes before {layer!r}"

    def finish(self, view: View, layer: str, rows: torch.Tensor) -> _Fed:
        return _Fed(rows, describe_convolution(view.module, layer))

    def rows_of(self, found: _Fed) -> torch.Tensor:
        return found.rows

    def join(self, found: Mapping[str, _Fed], total: int, device: torch.device) -> dict[str, Any]:
        return super().join(found, total, device) | {
            "convolutions": {layer: own.convolution for layer, own in found.items()}
        }
