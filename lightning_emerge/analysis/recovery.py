"""Whether the couplings of a run are those of its grammar: detectors of parts that feed detectors of wholes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import factorial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from lightning_emerge.measures.auc import auc
from lightning_emerge.sinks.arrays import open_run

_SHARE = 0.05
_MOST = 5040


@dataclass(frozen=True)
class Recovery:
    """How well couplings tell which parts make up which wholes, at one look.

    Attributes:
        step: of the look.
        auc: how surely a part and a whole that has it are coupled more strongly than a part and a whole that lacks it,
            0.5 by chance; NaN if nothing is coupled.
        low: lower end of what 95% of shuffled grammars have.
        high: upper end.
        p_value: share of shuffled grammars, this one included, that are recovered as well or better.
        parts: names of the parts.
        wholes: names of the pairs and larger conjunctions.
        strengths: (part, whole) how strongly they are coupled, in standard deviations over all cells.
        belongs: bool (part, whole), whether the part stands in the whole.
    """

    step: int
    auc: float
    low: float
    high: float
    p_value: float
    parts: tuple[str, ...]
    wholes: tuple[str, ...]
    strengths: npt.NDArray[np.floating]
    belongs: npt.NDArray[np.bool_]


def grammar_recovery(folder: str | Path, kind: str = "effective") -> list[Recovery]:
    """Scores the couplings of a run against the grammar of its tokens, look by look.

    The detectors of a feature are the twentieth of a layer's filters, at least one, with the largest AUC for it. A part
    is coupled to a whole, a pair or larger conjunction, as strongly as its detectors in each layer are, on average, to
    those of the whole in the next, which is brought to mean 0 and standard deviation 1 over all parts and wholes of
    each pair of layers and averaged over these. A part belongs to a whole if all tokens that have the whole have it.
    Chance is what it is with the parts changed about, each with all its wholes: all ways if they are no more than
    5,040, or so many that are drawn with a fixed seed.

    Args:
        folder: of a run in which a `CouplingProbe` and a `PartProbe` looked, at the same steps.
        kind: of the couplings, "weight", "activation" or "effective".

    Returns:
        One for each step at which both looked.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: if one of the two did not look, or they never looked at the same step.
    """
    records = open_run(folder)
    name = f"coupling_{kind}"
    for measure, probe in ((name, "CouplingProbe"), ("filter_part_auc", "PartProbe")):
        if measure not in records:
            raise ValueError(
                f"A grammar is recovered from couplings and parts; no {probe} has recorded {measure!r} in {folder}. "
                "Put configs/probes/coupling.yaml and configs/probes/parts.yaml on top of the configuration."
            )
    looked = [set(records[one].dropna("step", how="all").step.values.tolist()) for one in (name, "filter_part_auc")]
    steps = sorted(looked[0] & looked[1])
    if not steps:
        raise ValueError("A grammar is recovered at steps at which both probes looked; they have none in common.")
    return [
        _recover(records[name].sel(step=step).load(), records.filter_part_auc.sel(step=step).load()) for step in steps
    ]


def _recover(couplings: xr.DataArray, areas: xr.DataArray) -> Recovery:
    feature = str(areas.dims[-1])
    kinds = np.array([str(kind) for kind in areas[f"{feature}_kind"].values])
    names = [str(name) for name in areas[feature].values]
    tokens = [frozenset(str(own).split("/")) for own in areas[f"{feature}_tokens"].values]
    parts, wholes = np.flatnonzero(kinds == "part"), np.flatnonzero(kinds != "part")
    belongs = np.array([[tokens[whole] < tokens[part] for whole in wholes] for part in parts])
    strengths = _couple(couplings, areas)[np.ix_(parts, wholes)]
    found, low, high, p_value = _score(strengths, belongs)
    labels = tuple(names[part] for part in parts), tuple(names[whole] for whole in wholes)
    return Recovery(int(couplings.step), found, low, high, p_value, *labels, strengths, belongs)


def _couple(couplings: xr.DataArray, areas: xr.DataArray) -> npt.NDArray[np.floating]:
    """How strongly features of layers are coupled to features of the next, (feature, feature)."""
    layers = [str(layer) for layer in areas[str(areas.dims[0])].values]
    found: list[npt.NDArray[np.floating]] = []
    for pair, values in zip(couplings[str(couplings.dims[0])].values, couplings.values, strict=True):
        ends = str(pair).split(" > ")
        if not set(ends) <= set(layers):
            continue
        fro, to = (_detectors(areas.values[layers.index(end)]) for end in ends)
        strengths = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
        means = np.array([[strengths[np.ix_(whole, part)].mean() for whole in to] for part in fro])
        if means.std() > 0:
            found.append((means - means.mean()) / means.std())
    return np.mean(found, axis=0) if found else np.full((areas.shape[-1],) * 2, np.nan)


def _detectors(areas: npt.NDArray[np.floating]) -> list[npt.NDArray[np.integer]]:
    """The filters that tell each feature best, of areas (filter, feature)."""
    filters = np.isfinite(areas).any(axis=1).sum()
    count = max(1, round(_SHARE * filters))
    order = np.argsort(-np.nan_to_num(areas, nan=-1.0), axis=0, kind="stable")[:count]
    return list(order.T)


def _score(strengths: npt.NDArray[np.floating], belongs: npt.NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """AUC, where 95% of shuffled grammars have theirs, and how many of them have as large a one."""
    if not np.isfinite(strengths).all() or belongs.all() or not belongs.any():
        return np.nan, np.nan, np.nan, np.nan
    ways = np.stack([belongs[list(order)].ravel() for order in _orders(len(belongs))], axis=1)
    areas = auc(torch.from_numpy(strengths.reshape(-1, 1).copy()), torch.from_numpy(ways))[0].numpy()
    low, high = np.quantile(areas, [0.025, 0.975])
    return float(areas[0]), float(low), float(high), float((areas >= areas[0] - 1e-12).mean())


def _orders(count: int) -> list[tuple[int, ...]]:
    """Orders of parts, the one that is theirs first."""
    if factorial(min(count, 20)) <= _MOST:
        return list(permutations(range(count)))
    random = np.random.default_rng(0)
    return [tuple(range(count)), *(tuple(random.permutation(count).tolist()) for _ in range(_MOST - 1))]
