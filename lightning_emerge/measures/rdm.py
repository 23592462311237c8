"""Representational dissimilarity matrices (RDMs): how differently a layer responds to each pair of stimuli.

All come from a layer's `Geometry`, and so from one matrix product. Those between tokens come from the geometry of the
tokens' means, `geometry.average(token_weights(labels, tokens))`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d

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
    equation 5. The noise is how exemplars vary about their token's mean. Its covariance is shrunk towards the same
    variance in all features, by the share that Ledoit & Wolf (2004), *A well-conditioned estimator for
    large-dimensional covariance matrices*, Journal of Multivariate Analysis 88, derive. Layers have up to 65,536
    features, so neither it nor its inverse is ever made.

    Between two stimuli it is the noise of all others: their own residuals would make it look large along the difference
    of two of one token, which is made of them, and less so along that of two of different tokens, so that pure noise
    would look clustered by token. How far the covariance is shrunk, one number, is found from all.

    Args:
        geometry: of the stimuli.
        labels: token of each stimulus.
        by_token: whether to compare tokens rather than stimuli.

    Returns:
        Symmetric matrix, 0 and above, a pure number per feature. NaN if there is no noise to measure by, and between
        stimuli for those of a token that has fewer than three.
    """
    if not by_token:
        return _between_stimuli(geometry, labels) / geometry.features
    means = token_weights(labels, int(labels.max()) + 1).to(geometry.gram)
    gram = _crossed(geometry, labels, torch.ones_like(labels, dtype=torch.bool), means, means)
    own = gram.diagonal()
    return (own[:, None] + own[None, :] - gram - gram.T).clamp(min=0) / geometry.features


def crossnobis_rdm(
    geometry: Geometry, labels: Int[Tensor, " stimulus"], folds: Int[Tensor, " stimulus"]
) -> Float[Tensor, "token token"]:
    """Computes the cross-validated squared Mahalanobis distance (crossnobis) between tokens, per feature.

    Walther et al. (2016), equation 11: the difference of two tokens in one fold times their difference in all others,
    averaged over folds. Noise adds nothing to it on average, so it is zero where two tokens are not told apart, and
    may fall below. Between single stimuli there is none, as each is seen once.

    The noise by which a fold is measured is that of all others, and so independent of the differences in the fold,
    whatever its distribution. Residuals about tokens' means over all folds hold the differences between folds: along
    these the noise looks large, so that whitening takes more from where folds disagree than from where they agree, and
    leaves a distance above zero where there is none.

    Args:
        geometry: of the stimuli.
        labels: token of each stimulus.
        folds: fold of each stimulus, from 0, two or more (see `deal_folds`).

    Returns:
        Symmetric matrix, a pure number per feature: on average the squared distance of the true means, measured by the
        shrunk noise. NaN for a token that lacks in a fold, and if a fold leaves no noise to measure by, as with one
        exemplar of each token in two folds.
    """
    tokens, count = int(labels.max()) + 1, int(folds.max()) + 1
    inside = folds == torch.arange(count, device=folds.device)[:, None]
    means = _means_of(labels, tokens, torch.cat([inside, ~inside])).to(geometry.gram)
    inner = torch.stack([_crossed(geometry, labels, ~inside[k], means[k], means[count + k]) for k in range(count)])
    inner = inner.sum(dim=0)
    own = inner.diagonal()
    return (own[:, None] + own[None, :] - inner - inner.T) / (count * geometry.features)


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


def in_order(
    rdms: Float[Tensor, "layer stimulus stimulus"], order: Int[Tensor, " stimulus"], most: int
) -> Float[Tensor, "layer cell cell"]:
    """Puts the stimuli of RDMs in an order, and averages neighbours until there are no more than so many cells a side.

    Args:
        rdms: one a layer.
        order: the stimulus that comes first, the one that comes next, and so on.
        most: cells a side at most.

    Returns:
        Means of the dissimilarities that are known; NaN where none is.
    """
    side = -(-len(order) // most)
    # One layer after the other: a bank of 500 in 16 layers would take 400 MB at once.
    return torch.stack([_pool(rdm[order][:, order], side) for rdm in rdms])


def mean_distances(rdms: Float[Tensor, "layer stimulus stimulus"]) -> Float[Tensor, " layer"]:
    """Averages each layer's dissimilarities over all pairs of which it is known.

    Returns:
        NaN where none is known, or all are zero.
    """
    same = torch.eye(rdms.shape[-1], dtype=torch.bool, device=rdms.device)
    means = rdms.masked_fill(same, torch.nan).flatten(1).nanmean(dim=1)
    return torch.where(means > 0, means, torch.nan)


def _pool(rdm: Tensor, side: int) -> Tensor:
    if side == 1:
        return rdm
    known = rdm.isfinite()
    sums, counts = (
        avg_pool2d(values[None], side, ceil_mode=True, divisor_override=1)[0]
        for values in (torch.where(known, rdm, 0), known.to(rdm))
    )
    return torch.where(counts > 0, sums / counts, torch.nan)


def _crossed(geometry: Geometry, labels: Tensor, chosen: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Inner products of sums of responses by the inverse of the shrunk noise of the chosen stimuli.

    The inverse is applied by Woodbury's identity, which solves stimulus x stimulus.

    Args:
        geometry: of the stimuli.
        labels: token of each stimulus.
        chosen: the stimuli whose residuals about their tokens' means are the noise.
        left: weights (row, stimulus) of the stimuli in what is compared; each row adds up to 1.
        right: the same of what it is compared with.

    Returns:
        Matrix (row of the left, row of the right); NaN if there is no noise.
    """
    gram, own = geometry.gram, labels[chosen]
    nothing, freedom = torch.full_like(left @ right.T, torch.nan), _freedom(own)
    if not freedom:
        return nothing
    half, noise = _residuals(gram, own, chosen)
    common, rest = _shrinkage(noise, geometry.features, freedom)
    if not bool(common > 0):
        return nothing
    solved = solve(_inner(noise, rest / common), half @ right.T)
    return (left @ gram @ right.T - (rest / common) * left @ half.T @ solved) / common


def _between_stimuli(geometry: Geometry, labels: Tensor) -> Tensor:
    """Squared Mahalanobis distances, each by the noise of all stimuli but the two.

    Without stimuli i and j the sum over residuals r r' is less by (r_i r_j) K (r_i r_j)'. On the diagonal K^-1 is
    1 - 1/n, with n exemplars of the stimulus' token, and beside it -1/n if i and j are of one token, else 0. Woodbury's
    identity of rank 2 takes that from the inverse. NaN for tokens of fewer than three exemplars: without both, one or
    no degree of freedom is lost, so that distances within and between tokens would have noise of different sizes.
    """
    gram, freedom = geometry.gram, _freedom(labels)
    nothing = torch.full_like(gram, torch.nan)
    if freedom <= 2:
        return nothing
    half, noise = _residuals(gram, labels, torch.ones_like(labels, dtype=torch.bool))
    common, rest = _shrinkage(noise, geometry.features, freedom)
    if not bool(common > 0):
        return nothing
    rest = rest * freedom / (freedom - 2)
    found = solve(_inner(noise, rest / common), torch.cat([half, noise], dim=1)) / common
    crossed, own = found[:, : len(gram)], found[:, len(gram) :]
    whole = gram / common - rest * half.T @ crossed / common
    apart = crossed.diagonal()[:, None] - crossed
    sizes = labels.bincount()[labels].to(gram)[:, None]
    sizes = torch.where(sizes > 2, sizes, torch.nan)
    first = 1 - 1 / sizes - rest * own.diagonal()[:, None]
    both = torch.where(labels[:, None] == labels, -1 / sizes, 0) - rest * (own + own.T) / 2
    more = first.T * apart.square() + both * apart * apart.T
    spread = whole.diagonal()[:, None] - whole
    lengths = spread + rest * more / (first * first.T - both.square())
    return (lengths + lengths.T).fill_diagonal_(0).clamp(min=0)


def _residuals(gram: Tensor, labels: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Inner products of residuals of the chosen about their tokens' means with responses, and with each other."""
    weights = token_weights(labels, int(labels.max()) + 1).to(gram)
    half = gram[chosen] - (weights @ gram[chosen])[labels]
    noise = half[:, chosen]
    return half, noise - (noise @ weights.T)[:, labels]


def _freedom(labels: Tensor) -> int:
    return len(labels) - int(labels.bincount().count_nonzero())


def _inner(noise: Tensor, ratio: Tensor) -> Tensor:
    return torch.eye(len(noise), dtype=noise.dtype, device=noise.device) + ratio * noise


def _shrinkage(noise: Tensor, features: int, freedom: int) -> tuple[Tensor, Tensor]:
    """The covariance is common * identity + rest * residuals' @ residuals; `noise` is residuals @ residuals'."""
    count = len(noise)
    variance = noise.trace() / (count * features)
    size = noise.square().sum() / count**2
    distance = size - features * variance**2
    wobble = ((noise.diagonal() ** 2).sum() / count - size) / count
    # One feature alone, or as much noise in all: the covariance is a multiple of the identity as it is.
    share = torch.where(distance > 1e-12 * size, (wobble / distance).clamp(0, 1), 1)
    scale = count / freedom
    # A share of rounding alone is none.
    share = torch.where(share > 1e-12, share, 0)
    return share * variance * scale, (1 - share) / count * scale


def _means_of(labels: Tensor, tokens: int, chosen: Tensor) -> Tensor:
    """The weight (set, token, stimulus) of each stimulus in the mean of those of its token in a set (set, stimulus)."""
    member = (labels == torch.arange(tokens, device=labels.device)[:, None]) & chosen[:, None]
    return wide(member) / member.sum(dim=2, keepdim=True)
