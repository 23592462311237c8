"""The gradients of single tokens: how hard each pulls at a layer, and which pull against each other."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_emerge.measures.linear import wide


def token_norms(gradients: Float[Tensor, "token ..."]) -> Float[Tensor, " token"]:
    """Computes the Euclidean norm of each token's gradient, in float64 where the device has it.

    Returns:
        Zero or above, in units of loss over weight; NaN for a token without stimuli.
    """
    return _rows(gradients).square().sum(dim=1).sqrt()


def token_cosines(gradients: Float[Tensor, "token ..."]) -> Float[Tensor, "token token"]:
    """Computes the cosine of the angle between the gradients of each two tokens.

    Returns:
        -1 (what helps one hurts the other as much as it can) to 1 (they pull the same way), symmetric, 1 on the
        diagonal; NaN for a token whose gradient is zero or NaN.
    """
    rows = _rows(gradients)
    norms = token_norms(gradients)[:, None]
    directions = torch.where((norms > 0) & norms.isfinite(), rows / norms, torch.nan)
    cosines = (directions @ directions.T).clamp(-1, 1)
    cosines = (cosines + cosines.T) / 2
    return torch.where(torch.eye(len(rows), dtype=torch.bool, device=rows.device) & ~cosines.isnan(), 1.0, cosines)


def conflict_share(cosines: Float[Tensor, "token token"]) -> Float[Tensor, ""]:
    """Computes the share of pairs of different tokens whose gradients conflict: whose cosine is below zero.

    Source: Yu et al., Gradient Surgery for Multi-Task Learning, NeurIPS 2020, definition 1.

    Returns:
        0 to 1; NaN if no pair has a cosine.
    """
    size = len(cosines)
    pairs = cosines[torch.ones(size, size, dtype=torch.bool, device=cosines.device).triu(1)]
    known = pairs[~pairs.isnan()]
    return (known < 0).to(cosines.dtype).mean()


def _rows(gradients: Tensor) -> Tensor:
    return wide(gradients.flatten(1))
