"""Filters: the rows of a layer's weight, and what makes them respond."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate, pad


def filter_norms(weight: Float[Tensor, "filter ..."]) -> Float[Tensor, " filter"]:
    """Computes the Euclidean norm of each filter's weights (its bias apart), or of their gradient."""
    return weight.flatten(1).square().sum(dim=1).sqrt()


def filter_cosines(a: Float[Tensor, "filter ..."], b: Float[Tensor, "filter ..."]) -> Float[Tensor, " filter"]:
    """Computes, for each filter, the cosine of the angle between its weights at two steps.

    Returns:
        -1 (opposite) to 1 (same direction); NaN for a filter whose weights are zero at one of the steps.
    """
    sizes = filter_norms(a) * filter_norms(b)
    return torch.where(sizes > 0, ((a * b).flatten(1).sum(dim=1) / sizes).clamp(-1, 1), torch.nan)


def stack_layers(rows: Iterable[Float[Tensor, ...]]) -> Float[Tensor, "layer filter ..."]:
    """Puts what was measured of each layer's filters (filter, ...) together, with NaN beyond a layer's last filter."""
    rows = list(rows)
    widest = max(len(row) for row in rows)
    return torch.stack([pad(row, (*(0, 0) * (row.dim() - 1), 0, widest - len(row)), value=torch.nan) for row in rows])


def mean_responses(
    activations: Float[Tensor, "stimulus filter ..."], labels: Int[Tensor, " stimulus"], tokens: int
) -> Float[Tensor, "filter token"]:
    """Averages each filter's activation over all places and over each token's stimuli.

    Returns:
        In units of activation; NaN for a token without stimuli.
    """
    means = activations.flatten(2).mean(dim=2) if activations.dim() > 2 else activations
    sums = means.new_zeros(tokens, means.shape[1]).index_add_(0, labels, means)
    return (sums / torch.bincount(labels, minlength=tokens)[:, None]).T


def top_stimuli(
    activations: Float[Tensor, "stimulus filter ..."], count: int
) -> tuple[Float[Tensor, "filter rank"], Int[Tensor, "filter rank"], Int[Tensor, "filter rank 2"]]:
    """Finds the stimuli that activate each filter most, each by its largest activation over places.

    Args:
        activations: output of a layer, (stimulus, filter) or (stimulus, filter, y, x).
        count: how many stimuli of each filter, at most those that there are.

    Returns:
        Activations, largest first; positions of the stimuli, the lower one first on a tie; and the place (y, x) of each
        maximum in the layer's output, zero in a layer without places.
    """
    rows = activations.flatten(2) if activations.dim() > 2 else activations[:, :, None]
    largest, place = rows.max(dim=2)
    order = largest.sort(dim=0, descending=True, stable=True).indices[:count]
    width = activations.shape[-1] if activations.dim() > 3 else 1
    at = place.gather(0, order).T
    return largest.gather(0, order).T, order.T, torch.stack([at // width, at % width], dim=2)


def pixel_range(
    images: Float[Tensor, "stimulus channel y x"],
) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
    """Finds the smallest value of each channel, and its largest less its smallest; 1 where a channel is constant."""
    low, high = images.transpose(0, 1).flatten(1).aminmax(dim=1)
    return low, torch.where(high > low, high - low, 1)


def crop(
    image: Float[Tensor, "channel y x"], span: tuple[int, int, int, int], side: int
) -> Float[Tensor, "channel s s"]:
    """Cuts a square out of an image, and scales it to a fixed size, whole pixels where it grows.

    Args:
        image: to cut from.
        span: first row and the one after the last, first column and the one after the last; may lie outside the image.
        side: of the result.

    Returns:
        The square; NaN outside the image.
    """
    top, bottom, left, right = span
    height, width = image.shape[1:]
    inner = image[:, max(top, 0) : bottom, max(left, 0) : right]
    edges = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    square = pad(inner, edges, value=torch.nan)
    return interpolate(square[None], (side, side), mode="nearest-exact")[0]
