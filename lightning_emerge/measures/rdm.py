"""Representational dissimilarity matrices (RDMs): how differently a layer responds to each pair of stimuli.

All come from a layer's `Geometry`, and so from one matrix product. Those between tokens come from the geometry of the
tokens' means, `geometry.average(token_weights(labels, tokens))`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_emerge.measures.geometry import Geometry, layer_geometry, token_weights
from lightning_emerge.measures.linear import solve, wide


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
    return layer_geometry(features).correlation.to(features.dtype)


def cosine_rdm(geometry: Geometry) -> Float[Tensor, "stimulus stimulus"]:
    """Computes one minus the cosine of the angle between the responses to each pair of stimuli.

    Returns:
        Symmetric matrix, 0 (same direction) to 2 (opposite), zero on its diagonal; NaN where a stimulus' responses are
        all zero.
    """
    squares = geometry.lengths.square() + geometry.features * geometry.means.square()
    sizes = torch.where(squares > 0, squares.sqrt(), torch.nan)
    scaled = (geometry.squared - (sizes[:, None] - sizes[None, :]).square()) / (2 * sizes[:, None] * sizes[None, :])
    return scaled.clamp(0, 2)


def euclidean_rdm(geometry: Geometry) -> Float[Tensor, "stimulus stimulus"]:
    """Computes the squared Euclidean distance between the responses to each pair of stimuli, per feature.

    Returns:
        Symmetric matrix, 0 and above, in the responses' unit squared; NaN where responses are not finite.
    """
    return geometry.squared / geometry.features


def mahalanobis_rdm(
    geometry: Geometry, labels: Int[Tensor, " stimulus"], *, by_token: bool = False
) -> Float[Tensor, "row row"]:
    """Computes the squared Mahalanobis distance between stimuli, or between tokens' means, per feature.

    Walther et al. (2016), *Reliability of dissimilarity measures for multi-voxel pattern analysis*, NeuroImage 137,
    equation 5. The noise is how exemplars vary about their token's mean, its covariance shrunk as in `whitened_gram`.

    Args:
        geometry: of the stimuli.
        labels: token of each stimulus.
        by_token: whether to compare tokens rather than stimuli.

    Returns:
        Symmetric matrix, 0 and above, a pure number per feature. NaN if there is no noise to measure by.
    """
    gram = whitened_gram(geometry, labels, token_weights(labels, int(labels.max()) + 1) if by_token else None)
    own = gram.diagonal()
    return (own[:, None] + own[None, :] - 2 * gram).clamp(min=0) / geometry.features


def crossnobis_rdm(
    geometry: Geometry, labels: Int[Tensor, " stimulus"], folds: Int[Tensor, " stimulus"]
) -> Float[Tensor, "token token"]:
    """Computes the cross-validated squared Mahalanobis distance (crossnobis) between tokens, per feature.

    Walther et al. (2016), equation 11: the difference of two tokens in one fold times their difference in all others,
    averaged over folds. Noise adds nothing to it on average, so it is zero where two tokens are not told apart, and
    may fall below. Between single stimuli there is none, as each is seen once.

    Args:
        geometry: of the stimuli.
        labels: token of each stimulus.
        folds: fold of each stimulus, from 0, two or more (see `deal_folds`).

    Returns:
        Symmetric matrix, a pure number per feature. NaN for a token that lacks in a fold, and if there is no noise to
        measure by.
    """
    tokens, count = int(labels.max()) + 1, int(folds.max()) + 1
    inside = folds == torch.arange(count, device=folds.device)[:, None]
    means = _means_of(labels, tokens, torch.cat([inside, ~inside])).flatten(0, 1)
    gram = whitened_gram(geometry, labels, means).view(2, count, tokens, 2, count, tokens)
    inner = torch.stack([gram[0, fold, :, 1, fold] for fold in range(count)]).sum(dim=0)
    own = inner.diagonal()
    return (own[:, None] + own[None, :] - inner - inner.T) / (count * geometry.features)


def whitened_gram(
    geometry: Geometry, labels: Int[Tensor, " stimulus"], sums: Float[Tensor, "row stimulus"] | None = None
) -> Float[Tensor, "row row"]:
    """Computes the inner products of centred responses, measured by the inverse of their shrunk noise covariance.

    The covariance of exemplars about their token's mean is shrunk towards the same variance in all features, by the
    share that Ledoit & Wolf (2004), *A well-conditioned estimator for large-dimensional covariance matrices*, Journal
    of Multivariate Analysis 88, derive. Layers have up to 65,536 features, so neither it nor its inverse is ever made:
    the inverse is applied by Woodbury's identity, which solves stimulus x stimulus.

    Args:
        geometry: of the stimuli.
        labels: token of each stimulus.
        sums: weights of the stimuli in sums to compare in place of single stimuli, such as means; each row adds up to
            the same.

    Returns:
        Symmetric matrix, a pure number. NaN if exemplars do not vary about their token's mean, or if they vary in one
        direction alone, as two of one token do, and in others not at all.
    """
    gram, count = geometry.gram, len(geometry)
    weights = token_weights(labels, int(labels.max()) + 1).to(gram)
    half = gram - (weights @ gram)[labels]
    noise = half - (half @ weights.T)[:, labels]
    common, rest = _shrinkage(noise, geometry.features, count - int(labels.bincount().count_nonzero()))
    inner = torch.eye(count, dtype=gram.dtype, device=gram.device) + (rest / common) * noise
    if sums is not None:
        sums = sums.to(gram)
        gram, half = sums @ gram @ sums.T, half @ sums.T
    if not bool(common > 0):
        return torch.full_like(gram, torch.nan)
    found = (gram - (rest / common) * half.T @ solve(inner, half)) / common
    return (found + found.T) / 2


def token_distances(
    rdm: Float[Tensor, "*layer stimulus stimulus"], labels: Int[Tensor, " stimulus"]
) -> tuple[Float[Tensor, "*layer"], Float[Tensor, "*layer"]]:
    """Averages an RDM over pairs of different stimuli of the same token, and of different tokens.

    Args:
        rdm: distances between stimuli; NaN entries are left out.
        labels: token of each stimulus.

    Returns:
        Mean distance within tokens and mean distance between tokens, each NaN if there is no such pair.
    """
    same = labels[:, None] == labels[None, :]
    apart = ~torch.eye(len(labels), dtype=torch.bool, device=rdm.device)
    pairs = rdm.flatten(-2)
    return pairs[..., (same & apart).flatten()].nanmean(dim=-1), pairs[..., ~same.flatten()].nanmean(dim=-1)


def _shrinkage(noise: Tensor, features: int, freedom: int) -> tuple[Tensor, Tensor]:
    """The covariance is common * identity + rest * residuals' @ residuals; `noise` is residuals @ residuals'."""
    count = len(noise)
    variance = noise.trace() / (count * features)
    size = noise.square().sum() / count**2
    distance = size - features * variance**2
    wobble = ((noise.diagonal() ** 2).sum() / count - size) / count
    # One feature alone, or as much noise in all: the covariance is a multiple of the identity as it is.
    share = torch.where(distance > 1e-12 * size, (wobble / distance).clamp(0, 1), 1)
    scale = count / freedom if freedom else torch.nan
    # A share of rounding alone is none.
    share = torch.where(share > 1e-12, share, 0)
    return share * variance * scale, (1 - share) / count * scale


def _means_of(labels: Tensor, tokens: int, chosen: Tensor) -> Tensor:
    """The weight (set, token, stimulus) of each stimulus in the mean of those of its token in a set (set, stimulus)."""
    member = (labels == torch.arange(tokens, device=labels.device)[:, None]) & chosen[:, None]
    return wide(member) / member.sum(dim=2, keepdim=True)
