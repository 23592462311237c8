"""What drives filters: mean responses, and the stimuli and the places in them to which each responds most."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_emerge.records import pool


def mean_responses(
    activations: Float[Tensor, "stimulus filter ..."], labels: Int[Tensor, " stimulus"], tokens: int
) -> Float[Tensor, "filter token"]:
    """Averages each filter's activation over all places and over each token's stimuli.

    Returns:
        In units of activation; NaN for a token without stimuli.
    """
    means = pool(activations)
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
    largest = rows.amax(dim=2)
    order = largest.sort(dim=0, descending=True, stable=True).indices[:count]
    width = activations.shape[-1] if activations.dim() > 3 else 1
    at = rows[order, torch.arange(rows.shape[1], device=rows.device)].argmax(dim=2).T
    return largest.gather(0, order).T, order.T, torch.stack([at // width, at % width], dim=2)


def pixel_range(
    images: Float[Tensor, "stimulus channel y x"],
) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
    """Finds the smallest value of each channel, and its largest less its smallest; 1 where a channel is constant."""
    low, high = images.transpose(0, 1).flatten(1).aminmax(dim=1)
    return low, torch.where(high > low, high - low, 1)


def crop(
    images: Float[Tensor, "stimulus channel y x"],
    chosen: Int[Tensor, " crop"],
    spans: Int[Tensor, "crop 4"],
    side: int,
) -> Float[Tensor, "crop channel s s"]:
    """Cuts squares out of images, and scales them to a fixed size, whole pixels where they grow.

    Args:
        images: to cut from.
        chosen: which image each square is of.
        spans: its first row and the one after the last, first column and the one after the last; may lie outside the
            image.
        side: of the results.

    Returns:
        The squares; NaN outside the image.
    """
    rows, in_rows = _sample(spans[:, 0], spans[:, 1], side, images.shape[2])
    columns, in_columns = _sample(spans[:, 2], spans[:, 3], side, images.shape[3])
    squares = images.movedim(1, -1)[chosen[:, None, None], rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
    inside = in_rows[:, :, None] & in_columns[:, None, :]
    return squares.masked_fill(~inside[:, None], torch.nan)


def _sample(first: Tensor, end: Tensor, side: int, size: int) -> tuple[Tensor, Tensor]:
    """The pixels nearest to the middles of `side` steps from first to end, and which of them there are."""
    middles = (torch.arange(side, device=first.device) + 0.5) / side
    places = (first[:, None] + (end - first)[:, None] * middles).floor().long()
    return places.clamp(0, size - 1), (places >= 0) & (places < size)
