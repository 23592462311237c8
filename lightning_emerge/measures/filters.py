"""Filters: the rows of a layer's weight, and what is measured of each."""

from __future__ import annotations

from collections.abc import Iterable
from math import cos, radians

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad


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


def turned_share(cosines: Float[Tensor, " filter"], degrees: float) -> Float[Tensor, ""]:
    """Computes the share of filters that have turned by more than an angle.

    Args:
        cosines: of each filter's weights at two steps; those without a direction are left out.
        degrees: of the angle, 0 to 180.

    Returns:
        0 to 1; NaN if no filter has a direction.
    """
    known = cosines[~cosines.isnan()]
    return (known < cos(radians(degrees))).to(cosines.dtype).mean()  # of none it is NaN


def stack_layers(rows: Iterable[Float[Tensor, ...]]) -> Float[Tensor, "layer filter ..."]:
    """Puts what was measured of each layer's filters (filter, ...) together, with NaN beyond a layer's last filter."""
    rows = list(rows)
    widest = max(len(row) for row in rows)
    return torch.stack([pad(row, (*(0, 0) * (row.dim() - 1), 0, widest - len(row)), value=torch.nan) for row in rows])
