"""Selectivity: how much more a filter responds to one token than to the others, beyond what chance gives."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_emerge.measures.geometry import deal_folds, token_weights
from lightning_emerge.measures.linear import wide

SELECTIVE = 0.5
"""From this index on a filter is called selective: it responds three times as much to its token as to the others."""

CHANCE = 0.02
"""Share of filters that do not know tokens which are called selective, at most."""

_FOLDS = 5
_ORDERS = 99  # 1 / CHANCE and some: one of them may reach the index
_TIE = 1e-5  # means and indices that differ by a smaller share are equal
_WIDTH = 64  # filters at a time: what they need stays in the processor's cache


def preferred_tokens(
    pooled: Float[Tensor, "stimulus filter"], labels: Int[Tensor, " stimulus"]
) -> Int[Tensor, " filter"]:
    """Finds the token that each filter's mean response is largest to.

    Args:
        pooled: each filter's response to each stimulus, its mean over places.
        labels: token of each stimulus.

    Returns:
        Labels; -1 for a filter that is silent, or whose mean response to a token is negative.
    """
    shown = labels.bincount().nonzero()[:, 0]
    means = token_weights(labels, int(labels.max()) + 1).to(pooled)[shown] @ pooled
    largest, preferred = means.max(dim=0)
    return torch.where((means.amin(dim=0) >= 0) & (largest > 0), shown[preferred], -1)


def class_selectivity(
    pooled: Float[Tensor, "stimulus filter"], labels: Int[Tensor, " stimulus"]
) -> tuple[Float[Tensor, " filter"], Float[Tensor, " filter"]]:
    """Computes the class-selectivity index of each filter, and whether it is selective.

    Morcos et al. (2018), *On the importance of single directions for generalization*, section 2.4: (m - o) / (m + o), m
    being the filter's largest mean response to a token and o its mean over the other tokens' means. The largest of some
    means is large by chance alone, and 1 for a filter that fires once. So the preferred token is found without a fifth
    of each token's stimuli, m and o in that fifth, and both are added up over five such. A ratio of noisy sums has a
    bias of its own: the index is (found - chance) / (1 - chance), with chance the mean over 99 orders of the labels,
    always the same ones, and the true order.

    Args:
        pooled: each filter's response to each stimulus, its mean over places, 0 or above as after a ReLU.
        labels: token of each stimulus.

    Returns:
        The index: 0 on average for a filter that responds to all tokens alike, and so also below it, to 1 for one that
        responds to one alone. It is drawn towards 0 where so few stimuli drive a filter that its token is not found.
        NaN for a filter that is silent, or whose mean response to a token is negative, for which the index is not
        defined, and for all if there are fewer than two tokens or a token has one stimulus.
        And 1 if the index is `SELECTIVE` or more and no more than `CHANCE` of all orders of the labels reach it, else
        0; NaN with the index, and for all if no filter that one token alone drives would be 1 by that rule, as with two
        stimuli of each of five tokens or three of each of three.
    """
    sizes = labels.bincount()
    shown = sizes.nonzero()[:, 0]
    folds = min(_FOLDS, int(sizes[shown].min()))
    if folds < 2 or len(shown) < 2:
        return torch.full_like(pooled[0], torch.nan), torch.full_like(pooled[0], torch.nan)
    ranks = torch.searchsorted(shown, labels)
    cells = _ordered_cells(ranks, folds).to(pooled)
    ideal = torch.nn.functional.one_hot(ranks).to(pooled)
    parts = [cells @ part for part in torch.split(torch.cat([pooled, ideal], dim=1), _WIDTH, dim=1)]
    found = torch.cat([_crossed_index(means) for means in parts], dim=1)
    own, chance = found[0], found.nanmean(dim=0)
    index = (own - chance) / (1 - chance)
    reached = (found >= own - _TIE).sum(dim=0)
    selective = (index >= SELECTIVE) & (reached <= CHANCE * found.isfinite().sum(dim=0))
    count = pooled.shape[1]
    known = index.isfinite() & selective[count:].any()
    return index[:count], torch.where(known, selective.to(index), torch.nan)[:count]


def selective_share(
    selective: Float[Tensor, " filter"], preferred: Int[Tensor, " filter"], tokens: int
) -> Float[Tensor, " token"]:
    """Computes, for each token, which share of all filters is selective and prefers it; 0 to 1.

    Args:
        selective: 1 or 0, NaN where it is not known (see `class_selectivity`).
        preferred: the token that each prefers, -1 for none.
        tokens: how many there are.

    Returns:
        Filters of which it is not known count as not selective; NaN if it is not known of any that prefers a token.
    """
    chosen = preferred[(selective == 1) & (preferred >= 0)]
    shares = wide(torch.bincount(chosen, minlength=tokens)) / len(selective)
    unknown = bool((preferred >= 0).any()) and bool(selective[preferred >= 0].isnan().all())
    return torch.full_like(shares, torch.nan) if unknown else shares


def _ordered_cells(labels: Tensor, folds: int) -> Tensor:
    """The weight (order, fold, token, stimulus) of each stimulus in the mean of a token and fold, true order first."""
    tokens = int(labels.max()) + 1
    cells, count = deal_folds(labels, folds) * tokens + labels, folds * tokens
    generator = torch.Generator().manual_seed(0)
    orders = torch.rand(_ORDERS, len(labels), generator=generator).argsort(dim=1).to(labels.device)
    ordered = torch.cat([cells[None], cells[orders]])
    member = ordered[:, None] == torch.arange(count, device=labels.device)[:, None]
    return (wide(member) / cells.bincount()[:, None]).view(-1, folds, tokens, len(labels))


def _crossed_index(means: Tensor) -> Tensor:
    """The index (order, filter) from mean responses (order, fold, token, filter), its token found in other folds."""
    others = means.sum(dim=1, keepdim=True) - means
    top = others.amax(dim=2, keepdim=True)
    best = (others >= top - _TIE * top.abs()).to(means)
    # Tokens that are equal elsewhere, such as those of a filter that fires once, are all preferred.
    largest = (means * best).sum(dim=2) / best.sum(dim=2)
    rest = (means.sum(dim=2) - largest) / (means.shape[2] - 1)
    whole = means.sum(dim=1)
    index = (largest - rest).sum(dim=1) / (largest + rest).sum(dim=1)
    return torch.where((whole.amin(dim=1) >= 0) & (whole.amax(dim=1) > 0), index, torch.nan)
