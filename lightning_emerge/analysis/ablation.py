"""Whether silencing a part's detectors hurts the tokens that have the part, from a run's records."""

from __future__ import annotations

from itertools import combinations, islice, permutations
from math import comb, factorial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from lightning_emerge.sinks.arrays import open_run

ALL = "all parts"
"""Name of the rows that are of all parts of a layer together."""

_MOST = 5000


def ablation_table(run: str | Path, step: int | None = None) -> pd.DataFrame:
    """Compares what tokens with a part lose without its detectors with what tokens without the part lose.

    Chance is what the difference is if other tokens have the part: for one part, any as many tokens; for all parts of a
    layer together, tokens changed about, each with all its parts: all ways if they are no more than 5,000, or that many
    that are drawn with a fixed seed. Few tokens leave few ways: with five, no single part can reach a p below
    0.1, but all parts together can.

    Args:
        run: the run's folder, in which an `AblationProbe` looked.
        step: of the look; the last one if none is given.

    Returns:
        A row for each layer and part, and for each layer one of all its parts (`ALL`): `layer`, `part`; `drop_with` and
        `drop_without`, the mean fall of the right token's probability in tokens that have the part and in those that
        lack it; `difference` of the two, `low` and `high`, between which 95% of it lie by chance; `p`, the share of
        chance that is as large or larger; and `control`, what `drop_with` is if as many filters drawn by lot are
        silenced, in the mean over draws. NaN for a part without detectors.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: if no `AblationProbe` has looked, or not at that step.
    """
    records = open_run(run)
    if "ablation_drop" not in records:
        raise ValueError(f"Drops are what an AblationProbe records; none has looked in {run}. Replay it.")
    looked = _look(records[["ablation_drop", "ablation_control"]], step)
    drops, controls = looked.ablation_drop, looked.ablation_control.mean(dim="draw", skipna=True).values
    layer, part, token = (str(dimension) for dimension in drops.dims)
    tokens = [str(one) for one in drops[token].values]
    owners = [str(one).split("/") for one in drops[f"{part}_tokens"].values]
    has = np.array([[one in own for one in tokens] for own in owners])
    names = [str(one) for one in drops[part].values]
    rows: list[dict[str, object]] = []
    for at, label in enumerate(drops[layer].values):
        values = drops.values[at].astype(np.float64)
        for number, name in enumerate(names):
            of = slice(number, number + 1)
            ways = _ways_of_one(has[number])
            rows.append({"layer": str(label), "part": name, **_row(values[of], has[of], ways[:, None], controls[at])})
        known = np.isfinite(values).all(axis=1)
        if known.any():
            ways = _ways_of_all(has[known])
            rows.append({"layer": str(label), "part": ALL, **_row(values[known], has[known], ways, controls[at])})
    return pd.DataFrame(rows)


def _look(records: xr.Dataset, step: int | None) -> xr.Dataset:
    # A layer without detectors has NaN for drops, and was looked at all the same.
    looked = records.dropna("step", how="all")
    steps = [int(one) for one in looked.step.values]
    if not steps or (step is not None and step not in steps):
        raise ValueError(f"A step is one at which an AblationProbe looked: {', '.join(map(str, steps))}; got {step}.")
    return looked.sel(step=steps[-1] if step is None else step).load()


def _row(
    drops: npt.NDArray[np.float64],
    has: npt.NDArray[np.bool_],
    ways: npt.NDArray[np.bool_],
    control: npt.NDArray[np.float64],
) -> dict[str, float]:
    """What is found of some parts (part, token), given other tokens that might have them (way, part, token)."""
    within, without = _means(drops, has)
    chance = np.subtract(*_means(drops, ways))
    difference = within - without
    low, high = np.quantile(chance, [0.025, 0.975]) if np.isfinite(difference) else (np.nan, np.nan)
    p = (chance >= difference - 1e-12).mean() if np.isfinite(difference) else np.nan
    of_control, _ = _means(np.broadcast_to(control, drops.shape), has)
    found = (within, without, difference, low, high, p, of_control)
    names = ("drop_with", "drop_without", "difference", "low", "high", "p", "control")
    return {name: float(value) for name, value in zip(names, found, strict=True)}


def _means(
    drops: npt.NDArray[np.float64], has: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean over parts of the mean drop in tokens that have each, and in those that lack it."""
    inside = has.astype(np.float64)
    with np.errstate(invalid="ignore"):  # a part that all tokens of a bank have, or none: there is nothing to compare
        within = (drops * inside).sum(axis=-1) / inside.sum(axis=-1)
        without = (drops * (1 - inside)).sum(axis=-1) / (1 - inside).sum(axis=-1)
    return within.mean(axis=-1), without.mean(axis=-1)


def _ways_of_one(has: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """All sets (way, token) of as many tokens, or so many drawn ones."""
    count, size = len(has), int(has.sum())
    if comb(count, size) <= _MOST:
        chosen = list(combinations(range(count), size))
        return np.array([np.isin(np.arange(count), one) for one in chosen])
    random = np.random.default_rng(0)
    return np.array([random.permutation(has) for _ in range(_MOST)])


def _ways_of_all(has: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Tokens changed about, with all their parts (way, part, token)."""
    count = has.shape[1]
    if factorial(min(count, 20)) <= _MOST:
        orders = [list(order) for order in islice(permutations(range(count)), _MOST)]
    else:
        random = np.random.default_rng(0)
        orders = [random.permutation(count).tolist() for _ in range(_MOST)]
    return np.stack([has[:, order] for order in orders])
