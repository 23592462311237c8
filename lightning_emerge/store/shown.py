"""How a record is shown, as its store says it: its range, its scale, and whether it is of distances.

No torch and no Zarr: the board reads it too. Probes declare it, and the store has it in attributes. Stores of earlier
versions do not; of what probes recorded then it is in a table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

Ends = tuple[float | None, float | None]
_SCALES, _DISTANCES = ("linear", "log", "diverging"), ("", "length", "square")


@dataclass(frozen=True)
class Shown:
    """How a record is shown.

    Attributes:
        range: (low, high) that no value leaves; None for an open end.
        scale: "linear", "log" or "diverging".
        distance: whether it says how far apart things lie, as a "length" or as the "square" of one, or neither: "".
    """

    range: Ends = (None, None)
    scale: str = "linear"
    distance: str = ""

    @property
    def closed(self) -> tuple[float, float] | None:
        """The range if neither end is open: what axes and colours have in every run."""
        low, high = self.range
        return None if low is None or high is None else (low, high)


_EARLIER: Mapping[Shown, str] = {
    Shown((0, 1)): "bank_accuracy bank_accuracy_mean bank_confidence nearest_mean_accuracy ridge_accuracy "
    "collapse_disagreement filter_selective selective_share coupling_edges variance_share top_crop dead_share "
    "maximising_image begun_as_exemplar part_auc part_filter_auc part_transfer filter_part_auc filter_rival_auc "
    "gradient_conflict",
    Shown((-1, 1), "diverging"): "ablation_drop ablation_rival ablation_control silhouette coupling_activation "
    "filter_cosine_start filter_cosine_before gradient_cosine model_fit cka token_gradient_cosine",
    Shown((0, None)): "ablation_filter collapse_norms collapse_angles coupling_threshold hessian_eigenvalue_error "
    "hessian_trace_error hessian_layer_trace_error top_stimulus top_token filter_norm start_distance "
    "gradient_magnitude gradient_variance noise_scale noise_scale_total part_best_filter part_attribution "
    "distance_within distance_between distance_ratio",
    Shown((0, None), "log"): "collapse_variability gradient_norm update_ratio filter_gradient_norm token_gradient_norm",
    Shown((None, None), "diverging"): "coupling_weight coupling_effective hessian_eigenvalue hessian_trace "
    "hessian_layer_trace kernels",
    Shown((1, None)): "participation_ratio",
    Shown((None, 1)): "class_selectivity",
    Shown((0, 4)): "collapse_duality",
    Shown((0, None), distance="length"): "distances",
    Shown((0, None), distance="square"): "rdm token_rdm",
    Shown(distance="square"): "token_crossnobis",
}
"""Names of records, by how they are shown."""
_BY_NAME = {name: shown for shown, names in _EARLIER.items() for name in names.split()}
_BY_METRIC, _BOUNDED = ("rdm", "token_rdm", "distance_within", "distance_between"), ("1 - Pearson r", "1 - cosine")


def shown_of(name: str, attributes: Mapping[str, Any]) -> Shown:
    """Says how a record is shown.

    Args:
        name: of the record.
        attributes: of its array in the store, which may be a stranger's: what makes no sense there is left out.
    """
    if "scale" not in attributes:
        return _shown_earlier(name, str(attributes.get("units", "")))
    low, high = (_number(attributes.get(key)) for key in ("valid_min", "valid_max"))
    if low is not None and high is not None and low >= high:
        low = high = None
    scale, distance = attributes["scale"], attributes.get("distance", "")
    return Shown((low, high), scale if scale in _SCALES else "linear", distance if distance in _DISTANCES else "")


def _shown_earlier(name: str, unit: str) -> Shown:
    name = name if name in _BY_NAME else re.sub(r"_\d+$", "", name)  # a second probe of the same class
    found = _BY_NAME.get(name, Shown())
    return Shown((0, 2), distance=found.distance) if name in _BY_METRIC and unit in _BOUNDED else found


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) and isfinite(value) else None
    except OverflowError:
        return None
