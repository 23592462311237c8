"""The gradient of a layer's weight, and the update that it led to."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_emerge.measures.linear import wide

BIN_EDGES = tuple(round(-10 + 0.25 * k, 2) for k in range(45))
"""Edges of `magnitude_histogram`'s bins, in log10 of the gradient's magnitude: -10 to 1 in steps of a quarter."""


def norm(tensor: Float[Tensor, ...]) -> Float[Tensor, ""]:
    """Computes the Euclidean (L2, for a matrix Frobenius) norm over all entries, in float64 where the device has it."""
    return wide(tensor).square().sum().sqrt()


def update_ratio(update: Float[Tensor, "*shape"], weight: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Computes the norm of an optimizer's update over the norm of the weight that it was added to.

    Returns:
        A pure number, about 0.001 in healthy training; NaN if the weight is zero.
    """
    size = norm(weight)
    return torch.where(size > 0, norm(update) / size, torch.nan)


def distance(a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Computes the Euclidean distance between two weights of a layer."""
    return (wide(a) - wide(b)).square().sum().sqrt()


def cosine(a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Computes the cosine of the angle between two tensors, taken as vectors.

    Returns:
        -1 (opposite) to 1 (same direction); NaN if one of them is zero.
    """
    sizes = norm(a) * norm(b)
    return torch.where(sizes > 0, ((wide(a) * wide(b)).sum() / sizes).clamp(-1, 1), torch.nan)


def magnitude_histogram(gradient: Float[Tensor, ...]) -> Float[Tensor, " bin"]:
    """Counts a gradient's entries by order of magnitude, in bins that are the same for all layers and steps.

    Returns:
        Number of entries in each bin between `BIN_EDGES`. The first bin also holds everything smaller, zeros included,
        the last everything larger; NaN entries are not counted. All NaN if there are no others.
    """
    low, high = BIN_EDGES[0], BIN_EDGES[-1]
    entries = gradient.flatten()
    exponent = entries.abs().log10().clamp(low, high)  # in float32: an entry at an edge may be counted beyond it
    exponent = exponent[~exponent.isnan()]
    bins = len(BIN_EDGES) - 1
    if len(entries) and not len(exponent):
        return torch.full((bins,), torch.nan, device=gradient.device)
    position = ((exponent - low) * (bins / (high - low))).long().clamp(max=bins - 1)
    return torch.bincount(position, minlength=bins).float()
