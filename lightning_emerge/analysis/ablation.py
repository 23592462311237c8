"""Whether silencing a part's detectors hurts the tokens that have the part, from a run's records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import xarray as xr

from lightning_emerge.measures.chance import middle_range, p_value
from lightning_emerge.measures.rivals import relabel_sets
from lightning_emerge.store.read import Run

ALL = "all parts"
"""Name of the rows that are of all parts of a layer together."""

_RECORDS = ("ablation_drop", "ablation_control", "ablation_rival")
_OF_DROPS = ("drop_with", "drop_without", "difference", "control")
_COLUMNS = ("drop_with", "drop_without", "difference", "low", "high", "p", "control")
_SAMPLES = 5000


def ablation_table(run: str | Path | Run, step: int | None = None) -> pd.DataFrame:
    """Compares what tokens with a part lose without its detectors with what tokens without the part lose.

    A filter that is tuned to tokens, in whatever way, is needed by those for which it fires. Detectors are chosen for
    firing in the tokens that have the part, so it is to be expected that these lose more; it says nothing about parts.
    Whether parts are special is said by rivals: other sets of as many tokens, for which detectors were chosen by the
    same rule. Where a part or a rival has no detectors, none are silenced, and its difference counts as 0.

    One part stands among all sets of its size that were looked at, rivals and parts: with ten of them, its p cannot be
    below 0.1. All parts of a layer together stand among samples of as many such sets, of the same sizes and each with
    its complement if parts are (see `relabel_sets`): 5,000, with a fixed seed, and the parts themselves. With the six
    parts of the default tokens, three dichotomies of ten, p cannot be below 1/120. Layers are tested each for itself.

    Args:
        run: the run in which an `AblationProbe` looked, or its folder.
        step: of the look; the last one if none is given.

    Returns:
        A row for each layer and part, and for each layer one of all its parts (`ALL`): `layer`, `part`; `drop_with` and
        `drop_without`, the mean fall of the right token's probability in tokens that have the part and in those that
        lack it, of all parts in the mean over those with detectors; `difference` of the two, above 0 for tuned filters
        of any kind; `low` and `high`, between which 95% of the differences of rivals and parts lie; `p`, the share of
        them that is as large as that of the part, or larger: small only if parts are special; and `control`, what
        `drop_with` is if as many filters sampled at random are silenced, in the mean over samples. NaN for a part
        without detectors. `low`, `high` and `p` are NaN if no rival is as large as the part, and in older records,
        which have no `ablation_rival`.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: if no `AblationProbe` has looked, or not at that step.
    """
    run = Run.of(run)
    if "ablation_drop" not in run.records:
        raise ValueError(f"Drops are what an AblationProbe records; none has looked in {run}. Replay it.")
    looked = _look(run, step)
    drops, controls = looked.ablation_drop, looked.ablation_control.mean(dim="draw", skipna=True).values
    layer, part, token = (str(dimension) for dimension in drops.dims)
    tokens = [str(one) for one in drops[token].values]
    has = _owners(drops[f"{part}_tokens"].values.tolist(), tokens)
    names = [str(one) for one in drops[part].values]
    rivals, theirs = _rivals(looked, tokens)
    rows: list[dict[str, object]] = []
    for at, label in enumerate(drops[layer].values):
        values, control = drops.values[at].astype(np.float64), controls[at]
        sets = _Sets(_differences(values, has), has, _differences(rivals[at], theirs), theirs)
        for number, name in enumerate(names):
            of = slice(number, number + 1)
            found = _row(values[of], has[of], control) | sets.compare_one(number)
            rows.append({"layer": str(label), "part": name, **found})
        known = np.isfinite(values).all(axis=1)
        if known.any():
            found = _row(values[known], has[known], control) | sets.compare_all()
            rows.append({"layer": str(label), "part": ALL, **found})
    return pd.DataFrame(rows, columns=["layer", "part", *_COLUMNS])


def _look(run: Run, step: int | None) -> xr.Dataset:
    # A layer without detectors has NaN for drops, and was looked at all the same.
    looked = run.read_together(_RECORDS)
    steps = [int(one) for one in looked.step.values]
    if not steps or (step is not None and step not in steps):
        raise ValueError(f"A step is one at which an AblationProbe looked: {', '.join(map(str, steps))}; got {step}.")
    return looked.sel(step=steps[-1] if step is None else step)


def _owners(names: Sequence[str], tokens: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which sets (set, token), written with "/" between their tokens, have which token."""
    return np.array([[one in own.split("/") for one in tokens] for own in names], dtype=bool).reshape(-1, len(tokens))


def _rivals(looked: xr.Dataset, tokens: Sequence[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Drops (layer, rival, token), and the tokens of each rival (rival, token); none if none were recorded."""
    if "ablation_rival" not in looked:
        return np.empty((looked.ablation_drop.shape[0], 0, len(tokens))), _owners([], tokens)
    rivals = looked.ablation_rival
    return rivals.values.astype(np.float64), _owners([str(one) for one in rivals[str(rivals.dims[1])].values], tokens)


@dataclass(frozen=True)
class _Sets:
    """Differences of parts and of rivals, and the tokens of each (set, token)."""

    parts: npt.NDArray[np.float64]
    has: npt.NDArray[np.bool_]
    rivals: npt.NDArray[np.float64]
    theirs: npt.NDArray[np.bool_]

    def compare_one(self, number: int) -> dict[str, float]:
        sizes, theirs = self.has.sum(axis=1), self.theirs.sum(axis=1)
        size = sizes[number]
        if not np.isfinite(self.parts[number]) or not (theirs == size).any():
            return _compare(np.nan, np.empty(0))
        among = np.append(self.parts[sizes == size], self.rivals[theirs == size])
        return _compare(np.nan_to_num(self.parts[number]), np.nan_to_num(among))

    def compare_all(self) -> dict[str, float]:
        if not len(self.rivals):
            return _compare(np.nan, np.empty(0))
        count = len(self.parts)
        values = np.nan_to_num(np.append(self.parts, self.rivals))
        held = torch.from_numpy(np.concatenate([self.has, self.theirs]))
        labels = relabel_sets(torch.arange(len(values)) < count, held, _SAMPLES, seed=0)
        sampled, observed = labels.numpy() @ values, values[:count].sum()
        return _compare(observed / count, np.append(sampled, observed) / count)


def _compare(observed: float, among: npt.NDArray[np.float64]) -> dict[str, float]:
    """Where a difference stands among others, itself counted in; NaN if there are none."""
    if not len(among):
        return dict.fromkeys(("low", "high", "p"), np.nan)
    others = torch.from_numpy(among)
    low, high = middle_range(others)
    return {"low": float(low), "high": float(high), "p": float(p_value(others.new_tensor(observed), others))}


def _row(
    drops: npt.NDArray[np.float64], has: npt.NDArray[np.bool_], control: npt.NDArray[np.float64]
) -> dict[str, float]:
    """What is lost of some parts (part, token), in the mean over them."""
    within, without = _means(drops, has)
    of_control, _ = _means(np.broadcast_to(control, drops.shape), has)
    found = (within.mean(), without.mean(), (within - without).mean(), of_control.mean())
    return {name: float(value) for name, value in zip(_OF_DROPS, found, strict=True)}


def _differences(drops: npt.NDArray[np.float64], has: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    within, without = _means(drops, has)
    return within - without


def _means(
    drops: npt.NDArray[np.float64], has: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of each set the mean drop in its tokens, and in the others."""
    inside = has.astype(np.float64)
    with np.errstate(invalid="ignore"):  # a part that all tokens of a bank have, or none: there is nothing to compare
        within = (drops * inside).sum(axis=-1) / inside.sum(axis=-1)
        without = (drops * (1 - inside)).sum(axis=-1) / (1 - inside).sum(axis=-1)
    return within, without
