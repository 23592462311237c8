"""Selectivity: how much more a filter responds to one token than to the others."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_emerge.measures.geometry import token_weights

SELECTIVE = 0.5
"""From this index on a filter is called selective: it responds three times as much to its token as to the others."""


def class_selectivity(
    pooled: Float[Tensor, "stimulus filter"], labels: Int[Tensor, " stimulus"]
) -> tuple[Float[Tensor, " filter"], Int[Tensor, " filter"]]:
    """Computes the class-selectivity index of each filter, and the token that it prefers.

    Morcos et al. (2018), *On the importance of single directions for generalization*, section 2.4: (m - o) / (m + o), m
    being the filter's largest mean response to a token and o its mean over the other tokens' means.

    Args:
        pooled: each filter's response to each stimulus, its mean over places, 0 or above as after a ReLU.
        labels: token of each stimulus.

    Returns:
        The index, 0 (responds to all tokens alike) to 1 (to one alone); NaN for a filter that is silent, or whose mean
        response to a token is negative, for which the index is not defined. And the preferred token's label.
    """
    tokens = int(labels.max()) + 1
    shown = labels.bincount().nonzero()[:, 0]
    means = token_weights(labels, tokens).to(pooled)[shown] @ pooled
    largest, preferred = means.max(dim=0)
    others = (means.sum(dim=0) - largest) / (len(shown) - 1)
    index = (largest - others) / (largest + others)
    return torch.where((means.amin(dim=0) >= 0) & (largest > 0), index, torch.nan), shown[preferred]


def selective_share(
    index: Float[Tensor, " filter"], preferred: Int[Tensor, " filter"], tokens: int
) -> Float[Tensor, " token"]:
    """Computes, for each token, which share of all filters is selective (`SELECTIVE`) and prefers it; 0 to 1."""
    chosen = preferred[index >= SELECTIVE]
    return torch.bincount(chosen, minlength=tokens).to(index) / len(index)
