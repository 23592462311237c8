"""How alike two RDMs are, and how sure that is.

Each comparison takes two stacks of RDMs over the same stimuli, (a, stimulus, stimulus) and (b, stimulus, stimulus),
such as of layers and of models, and gives (a, b), for each of a batch if there is one: 1 for RDMs that say
the same, about 0 for unrelated ones where the mean distance is taken out. The distance of a stimulus to itself never
counts. NaN distances are left out of both; NaN comes out where an RDM has no distances or all are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from statistics import NormalDist
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_emerge.measures.geometry import centred_gram
from lightning_emerge.measures.linear import eigenvectors, singular_values, wide
from lightning_emerge.measures.ranks import mean_ranks

Comparison: TypeAlias = Callable[[Tensor, Tensor], Tensor]

_ROOM = 2**22  # entries of the RDMs that a bootstrap samples at a time
_CONSTANT = 1e-12  # of its largest entry: a vector that varies by less is constant but for rounding


def pearson(
    first: Float[Tensor, "*batch a stimulus stimulus"], second: Float[Tensor, "*batch b stimulus stimulus"]
) -> Float[Tensor, "*batch a b"]:
    """Computes the Pearson correlation of distances over pairs of stimuli, -1 to 1."""
    return _correlation(*_paired(first, second))


def cosine(
    first: Float[Tensor, "*batch a stimulus stimulus"], second: Float[Tensor, "*batch b stimulus stimulus"]
) -> Float[Tensor, "*batch a b"]:
    """Computes the cosine of two RDMs' distances over pairs of stimuli, 0 to 1 for distances that are not negative."""
    return _cosine(*_paired(first, second))


def spearman(
    first: Float[Tensor, "*batch a stimulus stimulus"], second: Float[Tensor, "*batch b stimulus stimulus"]
) -> Float[Tensor, "*batch a b"]:
    """Computes Spearman's rank correlation over pairs of stimuli, -1 to 1; tied distances share their mean rank."""
    one, other = _paired(first, second)
    return _correlation(mean_ranks(one), mean_ranks(other))


def kendall_tau_a(
    first: Float[Tensor, "*batch a stimulus stimulus"], second: Float[Tensor, "*batch b stimulus stimulus"]
) -> Float[Tensor, "*batch a b"]:
    """Computes Kendall's tau-a over pairs of stimuli: the share of pairs of pairs in the same order less the rest.

    Nili et al. (2014), *A toolbox for representational similarity analysis*, PLOS Computational Biology 10(4), prefer
    it to correlations where a model predicts tied distances: ties count as neither, so predicting none is no gain.

    Returns:
        -1 to 1, and less than 1 for equal RDMs with ties.
    """
    one, other = _paired(first, second)
    one, other = one + 0 * other, other + 0 * one
    known, x, y = ~one.isnan(), mean_ranks(one), mean_ranks(other)
    count = known.sum(dim=-1)
    order = y.nan_to_num(torch.inf).argsort(dim=-1, stable=True)
    order = order.gather(-1, x.gather(-1, order).nan_to_num(torch.inf).argsort(dim=-1, stable=True))
    discordant = _inversions(y.gather(-1, order).nan_to_num(torch.inf))
    both = x.nan_to_num() * (2 * x.shape[-1] + 1) + y.nan_to_num()
    both = torch.where(known, both, torch.nan)
    total = wide(count * (count - 1)) / 2
    return (total - _ties(x) - _ties(y) + _ties(both) - 2 * discordant) / torch.where(total > 0, total, torch.nan)


def whitened_cosine(
    first: Float[Tensor, "*batch a stimulus stimulus"], second: Float[Tensor, "*batch b stimulus stimulus"]
) -> Float[Tensor, "*batch a b"]:
    """Computes the cosine of two RDMs after whitening, which gives each independent piece of evidence equal weight.

    Diedrichsen et al. (2021), *Comparing representational geometries using whitened unbiased-distance-matrix
    similarity*, Neurons, Behavior, Data Analysis and Theory 5(3): the linear CKA, as they show, of the inner products
    that squared distances stand for. A stimulus without distances is left out. Noise in distances that are not
    cross-validated counts as likeness: layers of noise alone are the more alike the more features they have.

    Returns:
        0 to 1 for squared Euclidean distances.
    """
    return _over_grams(first, second, _alignment)


def bures(
    first: Float[Tensor, "*batch a stimulus stimulus"], second: Float[Tensor, "*batch b stimulus stimulus"]
) -> Float[Tensor, "*batch a b"]:
    """Computes the Bures similarity (normalised fidelity) of the inner products that two RDMs stand for.

    Harvey et al. (2024), *Duality of Bures and shape distances with implications for comparing neural
    representations*: the cosine of the angle between two layers when one is turned to fit the other best. A stimulus
    without distances is left out; negative eigenvalues, which only distances that are not Euclidean give, count as 0.

    Returns:
        0 to 1.
    """
    return _over_grams(first, second, _fidelity)


COMPARISONS: dict[str, Comparison] = {
    "pearson": pearson,
    "cosine": cosine,
    "spearman": spearman,
    "kendall_tau_a": kendall_tau_a,
    "whitened_cosine": whitened_cosine,
    "bures": bures,
}


def bootstrap_interval(
    first: Float[Tensor, "a stimulus stimulus"],
    second: Float[Tensor, "b stimulus stimulus"],
    comparison: Comparison,
    *,
    samples: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Float[Tensor, "a b"], Float[Tensor, "a b"]]:
    """Bounds a comparison as it would be with other stimuli of the same kind, by a bootstrap over stimuli.

    Stimuli are sampled anew with replacement; the distance of a stimulus to its own copy is left out. What is peculiar
    to a pair of stimuli such samples count three times (a pair comes w_i w_j times, and E[(w_i w_j)^2] - 1 is 3), so
    that intervals of unrelated RDMs would be far too wide. Half-samples of pairs, whose scatter about the whole is that
    part's variance once, take two of the three away (as Schütt et al. 2023, *Statistical inference on representational
    geometries*, eLife 12, correct for factors that are counted twice). The interval is normal about the estimate.
    `whitened_cosine` and `bures`, which need the distances of all pairs, keep the copies and are not corrected: their
    intervals are too wide rather than too narrow.

    Args:
        first: RDMs of some layers.
        second: RDMs of others, or of models.
        comparison: one of this module's, or a function like them.
        samples: of either kind, 2 or more.
        level: share of intervals that are to hold the true value, 0 to 1.
        seed: of the samples.

    Returns:
        The lower and the upper bound.
    """
    generator = torch.Generator().manual_seed(seed)
    count, whole = first.shape[-1], comparison not in (whitened_cosine, bures)
    each = max(1, _ROOM // (count**2 * max(len(first), len(second))))
    stimuli, pairs = list[Tensor](), list[Tensor]()
    for start in range(0, samples, each):
        size = min(each, samples - start)
        chosen = torch.randint(count, (size, count), generator=generator).to(first.device)
        copies = chosen[:, :, None] == chosen[:, None, :]
        rows, columns = chosen[:, None, :, None], chosen[:, None, None, :]
        sampled = [rdm[torch.arange(len(rdm))[:, None, None], rows, columns] for rdm in (first, second)]
        sampled = [rdm.masked_fill(copies[:, None], torch.nan) for rdm in sampled] if whole else sampled
        stimuli.append(comparison(*sampled))
        if whole:
            left_out = torch.rand(size, count, count, generator=generator).triu(1).to(first.device) > 0.5
            left_out = left_out | ~torch.ones_like(left_out).triu(1)
            pairs.append(comparison(*(rdm.masked_fill(left_out[:, None], torch.nan) for rdm in (first, second))))
    estimate = comparison(first, second)
    variance = _scatter(stimuli, torch.cat(stimuli).nanmean(dim=0))
    if whole:
        own = _scatter(pairs, estimate)
        variance = torch.maximum(variance - 2 * own, own)
    reach = NormalDist().inv_cdf((1 + level) / 2) * variance.sqrt()
    return estimate - reach, estimate + reach


def _scatter(found: list[Tensor], about: Tensor) -> Tensor:
    return (torch.cat(found) - about).square().nanmean(dim=0)


def _paired(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The distances of all pairs, (*batch, a, 1, pair) and (*batch, 1, b, pair), NaN in the same places.

    Where they are not so from the start, each is given once for every RDM that it is compared with.
    """
    one, other = _upper(first).unsqueeze(-2), _upper(second).unsqueeze(-3)
    missing = one.isnan() | other.isnan()
    if bool((missing == one.isnan()).all() & (missing == other.isnan()).all()):
        return one, other
    return torch.where(missing, torch.nan, one), torch.where(missing, torch.nan, other)


def _upper(rdm: Tensor) -> Tensor:
    rows, columns = torch.triu_indices(rdm.shape[-1], rdm.shape[-1], 1, device=rdm.device)
    return wide(rdm[..., rows, columns])


def _correlation(one: Tensor, other: Tensor) -> Tensor:
    return _cosine(one - one.nanmean(dim=-1, keepdim=True), other - other.nanmean(dim=-1, keepdim=True), one, other)


def _cosine(one: Tensor, other: Tensor, *whole: Tensor) -> Tensor:
    """The cosine of vectors, NaN entries left out; NaN if one is short next to the whole that it is a part of."""
    left, right = (_unit(part, of) for part, of in zip((one, other), whole or (one, other), strict=True))
    if left.shape[-2] == 1 and right.shape[-3] == 1:
        return (left.squeeze(-2) @ right.squeeze(-3).transpose(-1, -2)).clamp(-1, 1)
    return (left * right).sum(dim=-1).clamp(-1, 1)


def _unit(values: Tensor, whole: Tensor) -> Tensor:
    values = values.nan_to_num()
    length = values.square().sum(dim=-1, keepdim=True).sqrt()
    least = whole.nan_to_num().abs().amax(dim=-1, keepdim=True) * _CONSTANT
    return values / torch.where(length > least, length, torch.nan)


def _ties(values: Tensor) -> Tensor:
    """The number of pairs of equal values along the last axis; NaN equals nothing."""
    filled = values.nan_to_num(torch.inf).contiguous()
    ordered = filled.sort(dim=-1).values
    alike = torch.searchsorted(ordered, filled, right=True) - torch.searchsorted(ordered, filled) - 1
    return wide(alike.masked_fill(values.isnan(), 0).sum(dim=-1)) / 2


def _inversions(values: Tensor) -> Tensor:
    """The number of pairs along the last axis of which the earlier is the larger, counted while merging."""
    size = 1 << max(values.shape[-1] - 1, 0).bit_length()
    padded = values.new_full((*values.shape[:-1], size), torch.inf)
    padded[..., : values.shape[-1]] = values
    count, width = torch.zeros(values.shape[:-1], device=values.device, dtype=torch.int64), 1
    while width < size:
        halves = padded.reshape(*values.shape[:-1], -1, 2, width)
        left, right = halves[..., 0, :].contiguous(), halves[..., 1, :].contiguous()
        count += (width - torch.searchsorted(left, right, right=True)).sum(dim=(-1, -2))
        width *= 2
        padded = padded.reshape(*values.shape[:-1], -1, width).sort(dim=-1).values.reshape(padded.shape)
    return count


def _over_grams(first: Tensor, second: Tensor, similarity: Comparison) -> Tensor:
    """Compares the inner products of each RDM of the first stack with those of each of the second."""
    first, second = wide(first), wide(second)
    results = first.new_empty(*first.shape[:-2], second.shape[-3])
    for at in product(*map(range, results.shape)):
        one, other = first[at[:-1]], second[(*at[:-2], at[-1])]
        apart = ~torch.eye(len(one), dtype=torch.bool, device=one.device)
        known = ((one + other).isfinite() & apart).any(dim=0)
        if known.count_nonzero() < 2:
            results[at] = torch.nan
            continue
        grams = (centred_gram(rdm[known][:, known].clone().fill_diagonal_(0)) for rdm in (one, other))
        results[at] = similarity(*grams)
    return results


def _alignment(one: Tensor, other: Tensor) -> Tensor:
    return (_unit(one.flatten(), one.flatten()) * _unit(other.flatten(), other.flatten())).sum().clamp(-1, 1)


def _fidelity(one: Tensor, other: Tensor) -> Tensor:
    roots = [vectors * values.clamp(min=0).sqrt() for values, vectors in map(eigenvectors, (one, other))]
    size = (one.trace() * other.trace()).sqrt()
    return singular_values(roots[0].T @ roots[1]).sum() / torch.where(size > 0, size, torch.nan)
