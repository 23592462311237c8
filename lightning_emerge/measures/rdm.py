"""Representational dissimilarity matrices (RDMs): how differently a layer responds to each pair of stimuli."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def correlation_rdm(features: Float[Tensor, "stimulus feature"]) -> Float[Tensor, "stimulus stimulus"]:
    """Computes one minus the Pearson correlation between the responses to each pair of stimuli.

    Kriegeskorte, Mur & Bandettini (2008), *Representational similarity analysis*, Frontiers in Systems
    Neuroscience 2:4.

    Args:
        features: responses of a layer's units to each stimulus, flattened.

    Returns:
        Symmetric matrix, 0 (same pattern) to 2 (opposite pattern), zero on its diagonal. NaN where a stimulus'
        responses are all equal, for which no correlation is defined.
    """
    low, high = features.aminmax(dim=1, keepdim=True)
    largest = torch.maximum(low.abs(), high.abs())
    # A constant pattern is one that varies by no more than its own rounding.
    defined = high - low > largest * (8 * torch.finfo(features.dtype).eps)
    patterns = (features - features.mean(dim=1, keepdim=True)).div_(torch.where(defined, high - low, torch.nan))
    products = patterns @ patterns.T
    lengths = products.diagonal().sqrt()
    correlation = products / lengths[:, None] / lengths[None, :]
    distance = (1 - (correlation + correlation.T) / 2).clamp(0, 2)
    return distance.masked_fill(torch.diag(defined[:, 0]), 0.0)


def token_distances(
    rdm: Float[Tensor, "stimulus stimulus"], labels: Int[Tensor, " stimulus"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Averages an RDM over pairs of different stimuli of the same token, and of different tokens.

    Args:
        rdm: distances between stimuli; NaN entries are left out.
        labels: token of each stimulus.

    Returns:
        Mean distance within tokens and mean distance between tokens, each NaN if there is no such pair.
    """
    same = labels[:, None] == labels[None, :]
    apart = ~torch.eye(len(labels), dtype=torch.bool, device=rdm.device)
    return rdm[same & apart].nanmean(), rdm[~same].nanmean()
