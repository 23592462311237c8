"""Names for filters: the part, pair or conjunction that each one detects, from a run's records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import xarray as xr

from lightning_emerge.measures.auc import auc_interval
from lightning_emerge.store.read import Run

_ERROR = 0.05


def name_filters(run: str | Path | Run, step: int | None = None, at_least: float = 0.75) -> pd.DataFrame:
    """Names the filters that deserve it after what they detect: "ring", "disk above bar".

    A filter has the name of the feature for which its AUC is largest, the smaller conjunction on a tie, if the lower
    end of the AUC's interval is no less than `at_least`, at 95% for all filters and features together (Bonferroni), and
    if that end at 95% for this filter alone is above its AUC for every other feature, save those whose tokens include
    the tokens that have this one, or are among them.

    Args:
        run: the run in which a `PartProbe` looked, or its folder.
        step: of the look; the last one if none is given.
        at_least: AUC that a detector has to be surely above, 0.5 to 1.

    Returns:
        A row for each filter: `layer`, `filter`, `name` and `kind` (missing if it has no name), and `auc`, `low` and
        `high`, the area for its best feature and the ends of the interval for this filter alone.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: if no `PartProbe` has looked, or not at that step, or `at_least` is out of its range.
    """
    if not 0.5 <= at_least <= 1:
        raise ValueError(f"name_filters: at_least is 0.5 to 1; got {at_least}.")
    areas = _areas(run, step)
    layer, number, feature = (str(dimension) for dimension in areas.dims)
    labels, kinds = ([str(one) for one in areas[name].values] for name in (feature, f"{feature}_kind"))
    tokens = [frozenset(str(one).split("/")) for one in areas[f"{feature}_tokens"].values]
    nested = np.array([[a <= b or b <= a for b in tokens] for a in tokens])
    looked = np.isfinite(areas.values).any(axis=2)
    values = areas.values[looked].astype(np.float64)
    # Rounding is no difference: of two areas that are equal, the first, which is the smaller conjunction.
    best = np.nan_to_num(values.round(6), nan=-1).argmax(axis=1)
    rows = np.arange(len(values))
    own = values[rows, best]
    counts = [areas[f"{feature}_{name}"].values.astype(np.float64)[best] for name in ("stimuli", "others")]
    low, high = _interval(own, counts, 1 - _ERROR)
    surely, _ = _interval(own, counts, 1 - _ERROR / max(1, values.size))
    rivals = np.where(nested[best], -np.inf, np.nan_to_num(values, nan=-np.inf)).max(axis=1, initial=-np.inf)
    named = (surely >= at_least) & (low > rivals)
    at_layer, at_filter = np.nonzero(looked)
    return pd.DataFrame(
        {
            "layer": [str(areas[layer].values[k]) for k in at_layer],
            "filter": areas[number].values[at_filter],
            "name": pd.array([labels[k] if ok else None for k, ok in zip(best, named, strict=True)], dtype="string"),
            "kind": pd.array([kinds[k] if ok else None for k, ok in zip(best, named, strict=True)], dtype="string"),
            "auc": own,
            "low": low,
            "high": high,
        }
    )


def _areas(run: str | Path | Run, step: int | None) -> xr.DataArray:
    run = Run.of(run)
    if "filter_part_auc" not in run.records:
        raise ValueError(f"Filters are named after what a PartProbe records; none has looked in {run}. Replay it.")
    areas = run.read("filter_part_auc")
    steps = [] if areas is None else [int(one) for one in areas.step.values]
    if areas is None or (step is not None and step not in steps):
        raise ValueError(f"A step is one at which a PartProbe looked: {', '.join(map(str, steps))}; got {step}.")
    return areas.sel(step=steps[-1] if step is None else step)


def _interval(
    areas: npt.NDArray[np.float64], counts: list[npt.NDArray[np.float64]], confidence: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    ones, zeros = map(torch.from_numpy, counts)
    low, high = auc_interval(torch.from_numpy(areas), ones, zeros, confidence)
    return low.numpy(), high.numpy()
