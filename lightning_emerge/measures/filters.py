"""Filters: the rows of a layer's weight."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def filter_norms(weight: Float[Tensor, "filter ..."]) -> Float[Tensor, " filter"]:
    """Computes the Euclidean norm of each filter's weights (its bias apart)."""
    return weight.flatten(1).square().sum(dim=1).sqrt()
