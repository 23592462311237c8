"""Neural collapse: how near the state is in which each token is one point, and the points lie as far apart as can be.

Papyan, Han & Donoho (2020), *Prevalence of neural collapse during the terminal phase of deep learning training*, PNAS
117(40). All is worked out in stimulus x stimulus from a layer's `Geometry`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_emerge.measures.geometry import Geometry, token_weights
from lightning_emerge.measures.readout import nearest_mean


def variability_ratio(geometry: Geometry, labels: Int[Tensor, " stimulus"]) -> Float[Tensor, ""]:
    """Computes NC1 without its pseudo-inverse: trace(within) / trace(between).

    Tirer & Bruna (2022), *Extended unconstrained features model for exploring deep neural collapse*, ICML. It says the
    same of a layer that collapses, and is not ruled by the direction in which tokens differ least, where rounding alone
    moves the original by parts in 10,000.

    Returns:
        0 (collapsed) and above; NaN if the tokens' means are all alike.
    """
    between = _inner(geometry, labels)
    # Squares about a mean are half the mean of squared distances to each other.
    weights = token_weights(labels, int(labels.max()) + 1).to(geometry.patterns)
    within = (geometry.squared * weights[labels]).sum() / (2 * len(geometry))
    spread = between.trace() / len(between)
    return within / torch.where(spread > 0, spread, torch.nan)


def equinorm(geometry: Geometry, labels: Int[Tensor, " stimulus"]) -> Float[Tensor, ""]:
    """Computes the first half of NC2: the coefficient of variation of the lengths of the tokens' centred means.

    Returns:
        0 (equally long) and above; NaN if the means are all alike.
    """
    lengths = _inner(geometry, labels).diagonal().clamp(min=0).sqrt()
    middle = lengths.mean()
    return lengths.std(correction=0) / torch.where(middle > 0, middle, torch.nan)


def equiangularity(geometry: Geometry, labels: Int[Tensor, " stimulus"]) -> Float[Tensor, ""]:
    """Computes the second half of NC2: how far the angles of the tokens' centred means are from the widest possible.

    Returns:
        Mean over pairs of tokens of abs(cosine + 1 / (tokens - 1)): 0 (a simplex) and above. NaN if a mean is at their
        centre.
    """
    inner = _inner(geometry, labels)
    lengths = inner.diagonal().clamp(min=0).sqrt()
    cosines = inner / torch.where(lengths > 0, lengths, torch.nan)[:, None] / lengths[None, :]
    rows, columns = torch.triu_indices(len(inner), len(inner), 1, device=inner.device)
    return (cosines[rows, columns] + 1 / (len(inner) - 1)).abs().mean()


def self_duality(
    features: Float[Tensor, "stimulus feature"],
    weight: Float[Tensor, "token feature"],
    labels: Int[Tensor, " stimulus"],
) -> Float[Tensor, ""]:
    """Computes NC3: the squared distance of the last layer's weight and the tokens' centred means, both at length 1.

    Args:
        features: responses of the layer below, which the weight reads.
        weight: of the last layer.
        labels: token of each stimulus.

    Returns:
        0 (the weight is the means) to 4, 2 if they are unrelated; NaN if the means are all alike.
    """
    means = token_weights(labels, len(weight)).to(features) @ features
    means = means - means.nanmean(dim=0)
    size = means.square().sum().sqrt()
    return (weight / weight.square().sum().sqrt() - means / torch.where(size > 0, size, torch.nan)).square().sum()


def disagreement(
    geometry: Geometry, labels: Int[Tensor, " stimulus"], logits: Float[Tensor, "stimulus token"]
) -> Float[Tensor, ""]:
    """Computes NC4: the share of stimuli at which the network decides otherwise than the nearest mean in a layer would.

    Returns:
        0 to 1.
    """
    return (nearest_mean(geometry, labels) != logits.argmax(dim=1)).to(logits.dtype).mean()


def _means(labels: Tensor, geometry: Geometry) -> Tensor:
    """Each token's mean less the mean over tokens, as weights of the stimuli; of tokens that have stimuli."""
    weights = token_weights(labels, int(labels.max()) + 1).to(geometry.patterns)
    weights = weights[~weights.isnan().any(dim=1)]
    return weights - weights.mean(dim=0)


def _inner(geometry: Geometry, labels: Tensor) -> Tensor:
    means = _means(labels, geometry)
    return means @ geometry.gram @ means.T
