"""Layers that are a convolution, and what they make of what they get."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from lightning_emerge.capture.layers import OTHERS, device_of, dtype_of, find_layers
from lightning_emerge.capture.weights import own_weights, parts
from lightning_emerge.records import Convolution


def is_convolution(module: nn.Module, layer: str, *, grouped: bool) -> bool:
    """Whether what holds a layer's only weight is a convolution of images, with groups only if `grouped`."""
    holders = [part for part in parts(find_layers(module)[layer]) if own_weights(part)]
    leaf = holders[0] if len(holders) == 1 else None
    return isinstance(leaf, nn.Conv2d) and (grouped or leaf.groups == 1)


def find_convolution(module: nn.Module, layer: str) -> nn.Conv2d:
    """Finds the convolution of a layer that is a convolution, and then a batch norm and a ReLU if there are any.

    Raises:
        ValueError: if something else is in the layer or they are registered in another order, the convolution has
            groups or pads with other things than zeros, or the batch norm keeps no running statistics.
    """
    return convolution_of(layer, find_layers(module)[layer])


def convolution_of(layer: str, whole: nn.Module) -> nn.Conv2d:
    """What `find_convolution` finds, of a layer's module."""
    ends = [part for part in parts(whole) if is_parametrized(part) or not list(part.children())]
    leaves = [part for part in ends if isinstance(part, nn.Conv2d)]
    leaf = leaves[0] if len(leaves) == 1 else None
    active = [part for part in ends if not isinstance(part, nn.Dropout | nn.Dropout2d | nn.Identity)]
    if leaf and leaf.groups == 1 and leaf.padding_mode == "zeros" and _in_order(active):
        return leaf
    raise ValueError(
        "What a convolution gets is taken of layers that are a Conv2d without groups, padded with zeros, and then a "
        "BatchNorm2d with running statistics and a ReLU if there are any, in this order; "
        f"{layer!r} is {' and '.join(map(_describe_part, ends))}. {OTHERS}"
    )


_ORDER = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU)


def _in_order(ends: Sequence[nn.Module]) -> bool:
    """Whether parts are a convolution, a batch norm and a ReLU, each once at most, and what they do can be told."""
    places = [next((place for place, kind in enumerate(_ORDER) if isinstance(part, kind)), -1) for part in ends]
    told = all(part.running_mean is not None for part in ends if isinstance(part, nn.BatchNorm2d))
    return told and places[0] == 0 and all(a < b for a, b in pairwise(places))


def _describe_part(part: nn.Module) -> str:
    without = isinstance(part, nn.BatchNorm2d) and part.running_mean is None
    return f"{kind_of(part)}{' without running statistics' if without else ''}"


def describe_convolution(module: nn.Module, layer: str) -> Convolution:
    """Says what a layer makes of what it gets, apart from its weight, as it stands in evaluation mode.

    Raises:
        ValueError: as `find_convolution` does.
    """
    whole = find_layers(module)[layer]
    leaf, inside = convolution_of(layer, whole), parts(whole)
    scale = torch.ones(leaf.out_channels, dtype=dtype_of(module), device=device_of(module))
    shift = torch.zeros_like(scale) if leaf.bias is None else leaf.bias
    for norm in inside:
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            steep = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
            scale, shift = scale * steep, (shift - norm.running_mean) * steep
            shift = shift if norm.bias is None else shift + norm.bias
    (left, right, top, bottom), (stride, dilation) = padding_of(leaf), (leaf.stride, leaf.dilation)
    return Convolution(
        (stride[0], stride[1]),
        (dilation[0], dilation[1]),
        (left, right, top, bottom),
        scale.detach().float().clone(),
        shift.detach().float().clone(),
        any(isinstance(part, nn.ReLU) for part in inside),
    )


def padding_of(leaf: nn.Conv2d) -> list[int]:
    """What a convolution pads: before and after on the last axis, then on the one before it."""
    if not isinstance(leaf.padding, str):
        return [width for width in reversed(leaf.padding) for _ in range(2)]
    same = leaf.padding == "same"
    reach = [step * (size - 1) if same else 0 for step, size in zip(leaf.dilation, leaf.kernel_size, strict=True)]
    return [part for width in reversed(reach) for part in (width // 2, width - width // 2)]


def kind_of(part: nn.Module) -> str:
    """A module's class as it was before it was parametrised."""
    return (type(part).__mro__[1] if is_parametrized(part) else type(part)).__name__
