"""Ablation: which filters to silence, what is put in their place, and what it takes from each token."""

# torch.randperm has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_emerge.measures.auc import auc_interval
from lightning_emerge.measures.category import confidence_by_token
from lightning_emerge.measures.detectors import best_detectors, detector_count

_ERROR = 0.05


def find_detectors(
    areas: Float[Tensor, "filter feature"], held: Bool[Tensor, "stimulus feature"]
) -> list[Int[Tensor, " detector"] | None]:
    """Finds the filters that detect each feature best, as many as are silenced at once.

    Args:
        areas: AUC of each filter for each feature (see `lightning_emerge.measures.auc.auc`).
        held: which stimuli have which feature.

    Returns:
        Numbers of filters for each feature, the best first; None where fewer than that many detect it: where the lower
        end of an interval of the AUC, at 95% for all filters of the layer together, is 0.5 or below.
    """
    filters, count = len(areas), detector_count(len(areas))
    ones = held.sum(dim=0).to(areas).expand_as(areas)
    low, _ = auc_interval(areas, ones, len(held) - ones, 1 - _ERROR / filters)
    order = best_detectors(areas, count)
    enough = (low.gather(0, order) > 0.5).all(dim=0)
    return [order[:, feature] if bool(enough[feature]) else None for feature in range(held.shape[1])]


def deal_controls(scores: Float[Tensor, "stimulus filter"], most: int) -> list[Int[Tensor, " dealt"]]:
    """Deals filters to groups of as many as are silenced at once, in an order that is always the same.

    A filter whose scores do not vary has nothing to lose: its group is left out. The other groups stay what they are.

    Args:
        scores: each filter's largest output.
        most: how many groups; fewer if there are not so many whose filters all respond.
    """
    count = detector_count(scores.shape[1])
    alive = scores.amax(dim=0) > scores.amin(dim=0)
    dealt: Tensor = torch.randperm(scores.shape[1], generator=torch.Generator().manual_seed(0))
    groups = dealt.to(scores.device).split(count)
    return [group for group in groups if group.numel() == count and bool(alive[group].all())][:most]


def mean_output(activations: Float[Tensor, "stimulus filter ..."]) -> Float[Tensor, " filter"]:
    """Averages each filter's output over stimuli and places."""
    return activations.transpose(0, 1).flatten(1).mean(dim=1)


def silence(
    outputs: Float[Tensor, "stimulus filter ..."], filters: Int[Tensor, " silenced"], values: Float[Tensor, " filter"]
) -> Float[Tensor, "stimulus filter ..."]:
    """Gives a copy of a layer's output in which some filters say the same for all stimuli, everywhere.

    Args:
        outputs: of the layer.
        filters: numbers of those to silence.
        values: what each filter is to say.
    """
    changed = outputs.clone()
    changed[:, filters] = values[filters].to(outputs).view(-1, *[1] * (outputs.dim() - 2))
    return changed


def confidence_drop(
    intact: Float[Tensor, "stimulus token"],
    silenced: Float[Tensor, "stimulus token"],
    labels: Int[Tensor, " stimulus"],
) -> Float[Tensor, " token"]:
    """Computes how far the mean probability of the right token falls, by token; -1 to 1, below 0 if it rises."""
    return confidence_by_token(intact, labels) - confidence_by_token(silenced, labels)
