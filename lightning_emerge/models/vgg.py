"""VGG: stacks of 3 x 3 convolutions with max pooling between them, then linear layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import inf
from typing import Literal

import torch
from torch import nn

PLANS: dict[str, tuple[int, ...]] = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
"""Convolutions in each stage. Stage k has `width * min(2**k, 8)` filters and ends in a 2 x 2 max pool."""


class VGG(nn.Module):
    """A VGG whose layers have readable names: `conv3_2` is the second convolution of the third stage.

    A layer is a block of its weights, its batch norm if there is one, and its ReLU (never in place, so that a hook sees
    what the layer gave). The output of `conv3_2` is therefore what the next layer gets; `conv3_2.conv` is the
    convolution alone. The default has VGG-16's 13 convolutions and 3 linear layers at 1,242,845 weights.

    After Simonyan & Zisserman (2015), *Very deep convolutional networks for large-scale image recognition*,
    configurations A, B, D and E; global average pooling before the linear layers as in Lin et al. (2014).

    Args:
        tokens: number of classes, at least 2.
        plan: "vgg11", "vgg13", "vgg16", "vgg19", or the number of convolutions in each stage, such as [1, 1, 2].
        width: filters of the first stage, at least 1; each later stage has twice as many, up to 8 times.
        head: widths of the hidden linear layers; an empty list leaves one linear layer.
        batch_norm: whether a batch norm follows each convolution.
        dropout: share of hidden linear units silenced in training, 0 to below 1.
        image_size: side of the images in pixels; at least 2 to the power of the number of stages.
        channels: channels of the images.
        norm_momentum: how far batch norm's running statistics follow those of each batch, above 0 to 1. Probes see what
            these make of the network, and they lag behind weights that change quickly.
        initial: factor of the convolutions' initial weights, above 0. With batch norm it changes no response; but small
            weights turn further in an update, by about the learning rate over the square of their norm. Without batch
            norm responses shrink by it in each layer.
        channels_last: whether images pass with their channels side by side in memory, which convolutions on a CPU and
            on tensor cores are faster with. Shapes and weights are the same; outputs differ by rounding.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        tokens: int = 5,
        plan: Literal["vgg11", "vgg13", "vgg16", "vgg19"] | list[int] = "vgg16",
        width: int = 16,
        head: Sequence[int] = (504, 504),
        batch_norm: bool = False,
        dropout: float = 0.0,
        image_size: int = 48,
        channels: int = 3,
        norm_momentum: float = 0.1,
        initial: float = 1.0,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        stages = _stages(plan)
        _check(tokens, stages, width, head, dropout, image_size, channels)
        if not 0 < initial < inf:
            raise ValueError(f"VGG: initial is a number above 0; got {initial}.")
        if not 0 < norm_momentum <= 1:
            raise ValueError(f"VGG: norm_momentum is above 0 and at most 1; got {norm_momentum}.")
        self.tokens, self.image_size, self.channels = tokens, image_size, channels
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.layers: list[str] = []
        before = channels
        for stage, convolutions in enumerate(stages, start=1):
            filters = width * min(2 ** (stage - 1), 8)
            for number in range(1, convolutions + 1):
                self._append(f"conv{stage}_{number}", _conv_block(before, filters, batch_norm))
                before = filters
            self._append(f"pool{stage}", nn.MaxPool2d(2))
        self._append("average", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        for number, units in enumerate(head, start=1):
            self._append(f"fc{number}", _linear_block(before, units, dropout))
            before = units
        self._append(f"fc{len(head) + 1}", nn.Sequential(OrderedDict(linear=nn.Linear(before, tokens))))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = norm_momentum
        self._initialise(initial)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images (exemplar, channel, y, x) to logits (exemplar, token)."""
        images = images.contiguous(memory_format=self.memory_format)
        for name in self.layers:
            images = self.get_submodule(name)(images)
        return images

    def _append(self, name: str, layer: nn.Module) -> None:
        self.add_module(name, layer)
        self.layers.append(name)

    def _initialise(self, initial: float) -> None:
        # He et al. (2015), equation 10: keeps the scale of activations through 13 rectified layers without batch norm.
        weighted = [module for module in self.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        for module in weighted:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.Conv2d):
                module.weight.data.mul_(initial)
        # As Simonyan & Zisserman, so that an untrained network is sure of no token.
        nn.init.normal_(weighted[-1].weight, std=0.01)


def _stages(plan: str | Sequence[int]) -> tuple[int, ...]:
    if not isinstance(plan, str):
        return tuple(plan)
    if plan not in PLANS:
        raise ValueError(f"VGG: plan is {', '.join(PLANS)} or a list of convolutions in each stage; got {plan!r}.")
    return PLANS[plan]


def _conv_block(before: int, filters: int, batch_norm: bool) -> nn.Sequential:
    block = OrderedDict[str, nn.Module](conv=nn.Conv2d(before, filters, 3, padding=1))
    if batch_norm:
        block["norm"] = nn.BatchNorm2d(filters)
    block["relu"] = nn.ReLU()
    return nn.Sequential(block)


def _linear_block(before: int, units: int, dropout: float) -> nn.Sequential:
    block = OrderedDict[str, nn.Module](linear=nn.Linear(before, units), relu=nn.ReLU())
    if dropout:
        block["dropout"] = nn.Dropout(dropout)
    return nn.Sequential(block)


def _check(
    tokens: int,
    stages: Sequence[int],
    width: int,
    head: Sequence[int],
    dropout: float,
    image_size: int,
    channels: int,
) -> None:
    rules = [
        (tokens >= 2, "tokens is at least 2", tokens),
        (bool(stages) and min(stages) >= 1, "plan has at least one convolution in each stage", list(stages)),
        (width >= 1, "width is at least 1", width),
        (all(units >= 1 for units in head), "head has at least 1 unit in each layer", list(head)),
        (0 <= dropout < 1, "dropout is at least 0 and below 1", dropout),
        (
            image_size >= 2 ** len(stages),
            f"image_size is at least {2 ** len(stages)} for {len(stages)} poolings",
            image_size,
        ),
        (channels >= 1, "channels is at least 1", channels),
    ]
    for holds, rule, value in rules:
        if not holds:
            raise ValueError(f"VGG: {rule}; got {value}.")
