"""On which axis of a layer's output its filters are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.pooling import (
    _AdaptiveAvgPoolNd,  # pyright: ignore[reportPrivateUsage]
    _AdaptiveMaxPoolNd,  # pyright: ignore[reportPrivateUsage]
    _AvgPoolNd,  # pyright: ignore[reportPrivateUsage]
    _MaxPoolNd,  # pyright: ignore[reportPrivateUsage]
)

from lightning_emerge.capture.hooks import hooked
from lightning_emerge.capture.layers import find_layers
from lightning_emerge.capture.weights import parts


@contextmanager
def refuse_filters(module: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, str]]:
    """Finds layers whose outputs do not have their filters on the second axis, or do not say on which, each with why.

    It watches what passes the network meanwhile, and goes by what modules are: filters are second in what convolutions,
    their norms and pools give, and last in what linear maps and layer norms give. What works place by place has them
    where what came before has them.
    """
    refused = dict[str, str]()
    places: list[tuple[torch.Size, bool]] = []  # of all calls so far: what they gave, and whether filters are second

    def follow(name: str, part: nn.Module, _given: Any, output: Any) -> None:
        if not isinstance(output, torch.Tensor):
            return
        second = _filters_second(part, output)
        if second is None and all(isinstance(end, _PLACEWISE) for end in parts(part) if not list(end.children())):
            second = next((known for shape, known in reversed(places) if shape == output.shape), None)
        if second is not None:
            places.append((output.shape, second))
        if name in layers and not second:
            lies = "has them elsewhere" if second is False else "is of a kind that does not say where"
            refused[name] = (
                f"Filters are looked at where they are the second axis of a layer's output; {name!r} {lies}: it gives "
                f"{('stimulus', *output.shape[1:])}."
            )

    with hooked(find_layers(module) if layers else {}, follow):
        yield refused


def _filters_second(layer: nn.Module, output: torch.Tensor) -> bool | None:
    """Whether filters are the second axis of a layer's output; None if its modules do not say."""
    if output.dim() <= 2:
        return True
    ends, channels = parts(layer), output.shape[1]
    last = any(isinstance(end, _FILTERS_LAST) for end in ends)
    convolutions = [end for end in ends if isinstance(end, _ConvNd)]
    if convolutions:
        filters = [end.out_channels for end in convolutions]
        places = len(convolutions[-1].kernel_size)
        clear = output.shape[-1] not in filters or (output.dim() == places + 2 and not last)
        return channels in filters and clear
    if last:
        return False
    return True if any(isinstance(end, _FILTERS_SECOND) for end in ends) else None


_FILTERS_LAST = (nn.Linear, nn.Bilinear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.MultiheadAttention, nn.RNNBase)


_FILTERS_SECOND = (_NormBase, nn.GroupNorm, _MaxPoolNd, _AvgPoolNd, _AdaptiveMaxPoolNd, _AdaptiveAvgPoolNd)


_PLACEWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
    *(nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, _DropoutNd, nn.Identity),
)
