"""What can be read out of a layer: tokens from its responses, by the nearest mean and by ridge regression."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_emerge.measures.cka import debiased_hsic
from lightning_emerge.measures.geometry import Geometry, centred_gram
from lightning_emerge.measures.linear import positive_inverse, solve, wide

RIDGE = 1e-2
"""Ridge penalty as a share of the layer's variance: of the mean squared length of its centred responses."""

_NOTHING = 1e-12  # what is left of products that cancel but for rounding


def nearest_mean_accuracy(
    geometry: Geometry, labels: Int[Tensor, " stimulus"], folds: Int[Tensor, " stimulus"]
) -> Float[Tensor, ""]:
    """Computes the share of stimuli that lie nearest to their own token's mean, taken over the other folds alone.

    It is the mean over tokens of each token's share. Where tokens have different numbers of stimuli the means of those
    that have more lie nearer to everything, and the share of all stimuli would be above chance for noise.

    Args:
        geometry: of the layer.
        labels: token of each stimulus.
        folds: fold of each stimulus, two or more (see `deal_folds`).

    Returns:
        0 to 1, 1 / tokens by chance. On a tie the token with the lowest label wins. NaN if the layer answers all
        stimuli alike.
    """
    squared = geometry.squared
    others = folds != torch.arange(int(folds.max()) + 1, device=folds.device)[:, None]
    found = _to_means(squared, labels, others).argmin(dim=2)
    return _or_nan(_mean_over_tokens(found.gather(0, folds[None])[0] == labels, labels), squared)


def ridge_accuracy(
    geometry: Geometry, labels: Int[Tensor, " stimulus"], folds: Int[Tensor, " stimulus"]
) -> Float[Tensor, ""]:
    """Computes the share of stimuli whose token a linear read-out, fitted to the other folds alone, gives.

    Ridge regression with an intercept on one value a token, 1 for its own and 0 for others; the largest wins. It is
    solved in stimulus x stimulus, so that the number of features does not matter. The share is the mean over tokens of
    each token's: of all stimuli, to name the token with most stimuli every time would be above chance.

    Args:
        geometry: of the layer.
        labels: token of each stimulus.
        folds: fold of each stimulus, two or more.

    Returns:
        0 to 1, 1 / tokens by chance. On a tie the token with the lowest label wins. NaN if the layer answers all
        stimuli alike.
    """
    scores = held_out_scores(geometry.gram, wide(torch.nn.functional.one_hot(labels)), folds)
    return _or_nan(_mean_over_tokens(scores.argmax(dim=1) == labels, labels), geometry.squared)


def held_out_scores(
    gram: Float[Tensor, "stimulus stimulus"],
    wanted: Float[Tensor, "stimulus column"],
    folds: Int[Tensor, " stimulus"],
) -> Float[Tensor, "stimulus column"]:
    """Gives what `ridge_scores`, fitted to the other folds alone, says of each stimulus.

    All folds come from one inverse: with P that of the penalised products, made to leave out an intercept, the
    residuals of a fold that is left out are P[fold, fold]^-1 (P y)[fold]. It is the leave-one-out formula of Cawley
    (2006), *Leave-one-out cross-validation based model selection criteria for weighted LS-SVMs*, IJCNN, for blocks.

    Args:
        gram: inner products of a layer's responses (see `Geometry.gram`).
        wanted: the values; columns are fitted apart.
        folds: fold of each stimulus, two or more.

    Returns:
        Fitted values; NaN if the layer answers all stimuli alike.
    """
    inverse = positive_inverse(_penalised(gram, gram))
    rows = inverse.sum(dim=1, keepdim=True)
    inverse = inverse - rows @ rows.T / rows.sum()
    weights, scores = inverse @ wanted, wanted.clone()
    for fold in range(int(folds.max()) + 1):
        inside = (folds == fold).nonzero()[:, 0]
        scores[inside] -= solve(inverse[inside][:, inside], weights[inside])
    return scores


def ridge_scores(
    gram: Float[Tensor, "stimulus stimulus"],
    wanted: Float[Tensor, "stimulus column"],
    chosen: Bool[Tensor, " stimulus"],
) -> Float[Tensor, "stimulus column"]:
    """Fits values by ridge regression with an intercept to some stimuli, and gives what it says of all.

    Args:
        gram: inner products of a layer's responses (see `Geometry.gram`).
        wanted: the values; columns are fitted apart, by one solution.
        chosen: the stimuli to fit it to, two or more.

    Returns:
        Fitted values; NaN if the layer answers all stimuli alike.
    """
    train, across = gram[chosen][:, chosen], gram[:, chosen]
    mean = train.mean(dim=0)
    inner = train - mean - mean[:, None] + mean.mean()
    target = wanted[chosen]
    weights = solve(_penalised(inner, gram), target - target.mean(dim=0))
    about = across - across.mean(dim=1, keepdim=True) - mean + mean.mean()
    return about @ weights + target.mean(dim=0)


def nearest_mean(geometry: Geometry, labels: Int[Tensor, " stimulus"]) -> Int[Tensor, " stimulus"]:
    """Gives the token whose mean response, over all stimuli, lies nearest to each stimulus'; the lowest on a tie."""
    return _to_means(geometry.squared, labels, torch.ones_like(labels, dtype=torch.bool)[None])[0].argmin(dim=1)


def silhouette(rdm: Float[Tensor, "stimulus stimulus"], labels: Int[Tensor, " stimulus"]) -> Float[Tensor, ""]:
    """Computes the mean silhouette of the stimuli as clusters of tokens.

    Rousseeuw (1987), *Silhouettes*, Journal of Computational and Applied Mathematics 20: (b - a) / max(a, b), a being a
    stimulus' mean distance to others of its token, b that to the stimuli of the nearest other token; 0 for a token of
    one stimulus. As b is the least of several means, it is a little below 0 for noise.

    Args:
        rdm: distances between stimuli. A stimulus all of whose distances are NaN is left out.
        labels: token of each stimulus.

    Returns:
        -1 to 1; NaN with fewer than two tokens.
    """
    apart = ~torch.eye(len(rdm), dtype=torch.bool, device=rdm.device)
    known = (rdm.isfinite() & apart).any(dim=1)
    if not bool(known.all()):
        rdm, labels = rdm[known][:, known], labels[known]
    rdm = torch.where(torch.eye(len(rdm), dtype=torch.bool, device=rdm.device), 0, wide(rdm))
    if int(labels.bincount().count_nonzero()) < 2:
        return rdm.new_tensor(torch.nan)
    member = wide(torch.nn.functional.one_hot(labels))
    member = member[:, member.any(dim=0)]
    counts, own = member.sum(dim=0), member.bool()
    sums = rdm @ member
    inside = sums[own] / (counts[member.argmax(dim=1)] - 1).clamp(min=1)
    outside = (sums / counts).masked_fill(own, torch.inf).amin(dim=1)
    largest = torch.maximum(inside, outside)
    scores = torch.where(largest > 0, (outside - inside) / largest, 0)
    return torch.where(counts[member.argmax(dim=1)] > 1, scores, 0).mean()


def participation_ratio(geometry: Geometry) -> Float[Tensor, ""]:
    """Estimates in how many dimensions a layer's responses vary: (sum of variances)^2 / sum of squared variances.

    Gao et al. (2017), *A theory of multineuronal dimensionality, dynamics and measurement*, over principal components:
    t^2 / h with t the trace of the responses' covariance and h that of its square. Taken from n stimuli's own
    covariance it cannot exceed n - 1, as that overestimates h by about t^2 / n. Here both are estimated without bias,
    whatever the distribution, by means over all sets of four different stimuli: h of ((x_i - x_j).(x_k - x_l))^2 / 4
    (Song et al. 2012, see `debiased_hsic`) and t^2 of |x_i - x_j|^2 |x_k - x_l|^2 / 4. A correction for
    normal responses would find too few dimensions where some stimuli drive a layer harder than others.

    Returns:
        1 (exactly, for responses along one line) and above; it has no upper bound, and chance can lift it above the
        number of features. NaN if the layer answers all stimuli alike, with fewer than 4 stimuli, and where h is not
        above zero: there are more dimensions than the stimuli can tell.
    """
    squared, count = geometry.squared, len(geometry)
    if count < 4:
        return squared.new_tensor(torch.nan)
    scaled = squared / squared.mean()
    # All products of two distances, less those that share a stimulus or both.
    products = scaled.sum().square() - 4 * scaled.sum(dim=1).square().sum() + 2 * scaled.square().sum()
    trace = products / (4 * count * (count - 1) * (count - 2) * (count - 3))
    square = debiased_hsic(centred_gram(scaled)[None])[0, 0]
    return torch.where(square > _NOTHING * trace, trace / square, torch.nan)


def _to_means(
    squared: Float[Tensor, "stimulus stimulus"], labels: Int[Tensor, " stimulus"], chosen: Bool[Tensor, "set stimulus"]
) -> Float[Tensor, "set stimulus token"]:
    """Squared distance of each stimulus to each token's mean over some of the stimuli; inf if there is none."""
    member = wide(torch.nn.functional.one_hot(labels)) * chosen[:, :, None]
    means = member / member.sum(dim=1, keepdim=True)
    # One product for all sets, as squared distances would be copied for each.
    columns = squared @ means.movedim(0, 1).flatten(1)
    reach = columns.view(len(squared), len(chosen), -1).movedim(1, 0)
    far = reach - (means * reach).sum(dim=1, keepdim=True) / 2
    return far.nan_to_num(torch.inf)


def _penalised(products: Tensor, gram: Tensor) -> Tensor:
    """Products of some of a layer's stimuli, with its ridge penalty on their diagonal."""
    penalty = RIDGE * gram.diagonal().mean()
    return products + penalty * torch.eye(len(products), dtype=gram.dtype, device=gram.device)


def _mean_over_tokens(right: Tensor, labels: Tensor) -> Tensor:
    counts = labels.bincount()
    return (wide(labels[right].bincount(minlength=len(counts))) / counts).nanmean()


def _or_nan(value: Tensor, squared: Tensor) -> Tensor:
    return torch.where(squared.max() > 0, value, torch.nan)
