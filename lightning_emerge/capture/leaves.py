"""What computes with a layer's weight, and the gradients of single stimuli by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import torch
from torch import nn
from torch.nn.functional import pad, unfold

from lightning_emerge.capture.convolutions import kind_of, padding_of
from lightning_emerge.capture.hooks import Call
from lightning_emerge.capture.layers import OTHERS, find_layers
from lightning_emerge.capture.weights import all_weights, own_weights, parts

Leaf = nn.Conv2d | nn.Linear


def find_leaves(module: nn.Module, layer: str) -> list[Leaf]:
    """Finds the convolutions and linear maps that compute with a layer's weight: more than one if it is shared.

    Raises:
        ValueError: if something else computes with it, or a convolution has groups or pads with other things than
            zeros.
    """
    return leaves_of(layer, find_layers(module)[layer], users_of(module))


def leaves_of(layer: str, part: nn.Module, users: Sequence[tuple[nn.Module, set[nn.Parameter]]]) -> list[Leaf]:
    """What `find_leaves` finds, of a layer's module."""
    holders = [own for own in parts(part) if own_weights(own)]
    sources = set(all_weights(holders[0])[0].sources) if len(holders) == 1 else set[nn.Parameter]()
    holders += [user for user, used in users if user not in holders and sources & used]
    leaves = [part for part in holders if is_leaf(part)]
    if sources and len(leaves) == len(holders):
        return leaves
    what = " and ".join(kind_of(part) for part in holders) or "nothing"
    raise ValueError(
        "Gradients of single stimuli are taken of Linear, and of Conv2d without groups and padded with zeros; "
        f"{layer!r} is {what}. {OTHERS}"
    )


def users_of(module: nn.Module) -> list[tuple[nn.Module, set[nn.Parameter]]]:
    """A network's modules, each with the parameters that it computes with."""
    return [
        (part, {*part.parameters(recurse=False), *(one for weight in own_weights(part) for one in weight.sources)})
        for part in parts(module)
    ]


def is_leaf(part: nn.Module) -> TypeGuard[Leaf]:
    """Whether gradients of single stimuli can be had of a module."""
    plain = isinstance(part, nn.Conv2d) and part.groups == 1 and part.padding_mode == "zeros"
    return isinstance(part, nn.Linear) or plain


def single_gradients(call: Call, gradient: torch.Tensor) -> torch.Tensor:
    """The gradient (stimulus, *weight) of each stimulus, from what a leaf got and the gradient of what it gave."""
    leaf, inputs = call.leaf, call.given.detach()
    if isinstance(leaf, nn.Conv2d):
        padded = pad(inputs, padding_of(leaf))
        patches = unfold(padded, leaf.kernel_size, leaf.dilation, 0, leaf.stride)
        shape = (len(inputs), leaf.out_channels, leaf.in_channels, *leaf.kernel_size)
        return (gradient.flatten(2) @ patches.transpose(1, 2)).view(shape)
    rows, ends = (
        inputs.reshape(len(inputs), -1, inputs.shape[-1]),
        gradient.reshape(len(inputs), -1, gradient.shape[-1]),
    )
    return ends.transpose(1, 2) @ rows
