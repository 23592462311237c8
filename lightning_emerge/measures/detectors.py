"""Detectors: the filters of a layer that tell a feature best."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

SHARE = 0.05
"""Share of a layer's filters that count as detectors of a feature; one filter at least."""


def detector_count(filters: int) -> int:
    """How many of a layer's filters count as detectors of a feature."""
    return max(1, round(SHARE * filters))


def best_detectors(areas: Float[Tensor, "filter feature"], count: int) -> Int[Tensor, "detector feature"]:
    """Finds the filters with the largest AUC for each feature.

    Args:
        areas: AUC of each filter for each feature, 0 to 1 (see `lightning_emerge.measures.auc.auc`); NaN comes last.
        count: how many filters.

    Returns:
        Numbers of filters, the best first, and the lower number on a tie.
    """
    return areas.nan_to_num(-1).sort(dim=0, descending=True, stable=True).indices[:count]
