"""Ranks of values, with ties."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_emerge.measures.linear import wide


def mean_ranks(values: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """Ranks values along the last axis.

    Args:
        values: on any device, where they stay.

    Returns:
        Ranks from 1 for the smallest; values that are equal share the mean of their ranks. NaN where the value is, and
        ranks of the others as if it were not there.
    """
    filled = values.nan_to_num(torch.inf).contiguous()
    ordered = filled.sort(dim=-1).values
    ends = torch.searchsorted(ordered, filled) + torch.searchsorted(ordered, filled, right=True)
    return torch.where(values.isnan(), torch.nan, wide(ends + 1) / 2)
