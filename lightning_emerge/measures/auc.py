"""AUC: how surely a score tells stimuli that have something from those that do not, and within what bounds."""

from __future__ import annotations

from statistics import NormalDist

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lightning_emerge.measures.linear import wide
from lightning_emerge.measures.ranks import mean_ranks

_HALVINGS = 60


def auc(
    scores: Float[Tensor, "stimulus column"], held: Bool[Tensor, "stimulus feature"]
) -> Float[Tensor, "column feature"]:
    """Computes the area under the ROC curve of each column of scores for each feature.

    It is the probability that a stimulus with the feature scores higher than one without it, half for a tie: Mann &
    Whitney's U (1947) over the number of such pairs.

    Args:
        scores: any number of scores of each stimulus.
        held: which stimuli have which feature.

    Returns:
        0 to 1, 0.5 by chance. NaN for a feature that all stimuli have, or none, and for a column with NaN.
    """
    inside = wide(held)
    ones, zeros = inside.sum(dim=0), wide(~held).sum(dim=0)
    above = mean_ranks(scores.T) @ inside - ones * (ones + 1) / 2
    found = above / (ones * zeros)
    return found.masked_fill(scores.isnan().any(dim=0)[:, None], torch.nan)


def auc_interval(
    areas: Float[Tensor, "*shape"],
    ones: Float[Tensor, "*shape"],
    zeros: Float[Tensor, "*shape"],
    confidence: float = 0.95,
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Bounds an AUC from the numbers of stimuli that it was found with.

    Newcombe (2006), *Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2*,
    Statistics in Medicine 25, method 5: all areas from which the one that was found is no further than so many standard
    errors, by Hanley & McNeil's (1982) standard error of that area and not of the one found. An AUC of 1 so has a
    lower bound below 1.

    Args:
        areas: that were found.
        ones: how many stimuli have the feature.
        zeros: how many do not.
        confidence: share of such intervals that hold the true area, between 0 and 1.

    Returns:
        Lower and upper ends, 0 to 1; NaN where the area is.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    areas, ones, zeros = wide(areas), wide(ones), wide(zeros)
    ends: list[Tensor] = []
    for outermost in (torch.zeros_like(areas), torch.ones_like(areas)):
        inner, outer = areas, outermost
        for _ in range(_HALVINGS):
            middle = (inner + outer) / 2
            within = (areas - middle).abs() <= z * _standard_error(middle, ones, zeros)
            inner, outer = torch.where(within, middle, inner), torch.where(within, outer, middle)
        ends.append((inner + outer) / 2)
    return ends[0], ends[1]


def _standard_error(area: Tensor, ones: Tensor, zeros: Tensor) -> Tensor:
    each = (ones + zeros) / 2 - 1
    twice = each * ((1 - area) / (2 - area) + area / (1 + area))
    return (area * (1 - area) * (1 + twice) / (ones * zeros)).sqrt()
