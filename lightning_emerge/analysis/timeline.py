"""The timeline of a run: when each of its tokens, layers, features and couplings emerged, from its records alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from lightning_emerge.analysis.effects import LEAST, least_auc, least_change, least_share
from lightning_emerge.analysis.emergence_time import LEVEL, SHARE, Emergence, emergence_time
from lightning_emerge.analysis.recovery import grammar_recovery, shared_steps
from lightning_emerge.figures.timeline import Row, draw_rows
from lightning_emerge.store.folder import Folder
from lightning_emerge.store.layout import TIMELINE as FILE
from lightning_emerge.store.read import Run

_ABOUT = (
    "The optimizer step at which each series left its baseline for good: where it had gone "
    f"{SHARE:.0%} of its way to its final level, with a 95% interval from look to look. It rose by `least` or more, "
    f"from the untrained network's level too, and {LEVEL} looks lie at each level; null says that looks do not show it."
)

_EDGES = 6
"""Edges of a pair of layers by which the number that count has to rise.

No stimuli are sampled here. It is three standard errors of the difference of two counts of 2; at a false-discovery rate
of 5% one edge or a few come by chance at one look of twenty.
"""

_OF_TOKENS = ("bank_accuracy", "bank_confidence", "ridge_accuracy")
"""What a `CategoryProbe` records at the same looks."""

_WIDTH = 3.92
"""Standard errors in an interval of 95%."""


@dataclass(frozen=True)
class Series:
    """One series of a run that may emerge.

    Attributes:
        group: "token", "layer", "part", "pair", "conjunction", "grammar" or "coupling".
        name: of what may emerge.
        measure: the record that it is read from, and of what it is the best, if it is.
        unit: of its values.
        least: by how much it has to rise to have emerged.
        steps: of the looks, ascending.
        values: (look,).
    """

    group: str
    name: str
    measure: str
    unit: str
    least: float
    steps: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class Event:
    """When one of them emerged."""

    group: str
    name: str
    measure: str
    unit: str
    least: float
    emergence: Emergence


def run_series(run: str | Path | Run) -> list[Series]:
    """Reads the series of a run that a timeline shows, as many of them as its probes have recorded.

    Tokens: `bank_confidence`, since a network that gives one answer to everything has that token right. Layers:
    `ridge_accuracy`, what can be read out of each. Parts, pairs and conjunctions: `part_filter_auc`, of the layer whose
    best filter tells each best at the last look. Grammar: how well couplings tell which parts make up which wholes
    (see `grammar_recovery`). Couplings: `coupling_edges` of kind effective, of each pair of layers.

    The least rise that counts is what `least_share` and `least_auc` give for as many stimuli as a series is over, three
    standard errors of a change and 0.1 at least; of features, with allowance for the layer having been chosen. The
    standard error of the grammar's AUC is that over shuffled grammars at the last look. Of couplings 6 edges count.
    Where records do not say how many stimuli or edges there are, 0.1 counts alone.

    Args:
        run: the run, or its folder.

    Raises:
        FileNotFoundError: if there are no records.
    """
    run = Run.of(run)
    found: list[Series] = list(_tokens_and_layers(run.read_together(_OF_TOKENS)))
    features = run.read("part_filter_auc")
    if features is not None:
        found += _features(features)
    if {"coupling_effective", "filter_part_auc"} <= set(run.records):
        found += _grammar(run)
    values = run.read("coupling_edges", chosen={"kind": "effective"})
    if values is not None:
        sizes = zip(*(_notes(values, f"filters_{end}") for end in ("out", "in")), strict=True)
        found += _rows("coupling", values, [_EDGES / (fro * to) if fro and to else LEAST for fro, to in sizes])
    return found


def run_timeline(run: str | Path | Run) -> list[Event]:
    """Finds when each token, layer, part, pair, conjunction and coupling of a run emerged.

    What falls for good has not emerged.

    Args:
        run: the run, or its folder.

    Raises:
        FileNotFoundError: if there are no records.
    """
    return [_event(one) for one in run_series(run)]


def tell_time(found: Emergence) -> str:
    """Writes the step at which something emerged, with its 95% interval in brackets."""
    return "not seen" if found.step is None else f"{found.step:.0f} ({found.low:.0f} to {found.high:.0f})"


def write_timeline(folder: str | Path, events: Sequence[Event]) -> None:
    """Writes a timeline into its run's folder, as `emergence.json`."""
    rows = [_row(event) for event in events]
    Folder(folder).put(
        FILE, json.dumps({"about": _ABOUT, "unit": "optimizer steps", "events": rows}, indent=1).encode()
    )


def draw_timeline(run: str | Path | Run, events: Sequence[Event]) -> Figure | None:
    """Draws a timeline, or None if there is nothing on it.

    Args:
        run: whose last look ends the axis, or its folder.
        events: as `run_timeline` gives them.
    """
    if not events:
        return None
    last = Run.of(run).steps[-1]
    rows = [Row(one.group, one.name, one.emergence.step, one.emergence.low, one.emergence.high) for one in events]
    return draw_rows(rows, last)


def _tokens_and_layers(taken: xr.Dataset) -> Iterator[Series]:
    # Together, as a network that diverged has answers and no probabilities: that is not to say that nobody looked.
    counts = list[int]()
    if "bank_confidence" in taken:
        counts = _notes(taken["bank_confidence"], "stimuli")
        yield from _rows("token", taken["bank_confidence"], [least_share(one) if one else LEAST for one in counts])
    if "ridge_accuracy" in taken:
        shown = [count for count in counts if count]
        yield from _rows("layer", taken["ridge_accuracy"], least_share(*shown) if shown else LEAST)


def _notes(values: xr.DataArray, note: str, axis: str = "") -> list[int]:
    """What an axis, the first behind the steps, notes of each of its labels; 0 where nothing is noted."""
    axis = axis or str(values.dims[1])
    noted = values.coords.get(f"{axis}_{note}")
    return [0] * values.sizes[axis] if noted is None else [int(one) for one in noted.values]


def _rows(group: str, values: xr.DataArray, least: Sequence[float] | float) -> Iterator[Series]:
    axis, unit = str(values.dims[1]), str(values.attrs.get("units", "1"))
    steps, leasts = values.step.values.tolist(), np.broadcast_to(least, values.sizes[axis]).tolist()
    for number, name in enumerate(values[axis].values):
        own = values.values[:, number].tolist()
        yield Series(group, str(name), str(values.name), unit, leasts[number], steps, own)


def _features(taken: xr.DataArray) -> Iterator[Series]:
    layer, feature = (str(name) for name in taken.dims[1:])
    last, steps = taken.isel(step=-1), taken.step.values.tolist()
    kinds = taken.coords[f"{feature}_kind"].values
    ones, others = (_notes(taken, note, feature) for note in ("stimuli", "others"))
    for number, name in enumerate(taken[feature].values):
        known = last.isel({feature: number}).fillna(-1.0)
        best = int(known.argmax(layer))
        series = taken.isel({feature: number, layer: best})
        measure = f"part_filter_auc of {taken[layer].values[best]}"
        both = ones[number], others[number]
        least = least_auc(*both, among=taken.sizes[layer]) if all(both) else LEAST
        yield Series(str(kinds[number]), str(name), measure, "AUC", least, steps, series.values.tolist())


def _grammar(run: Run) -> Iterator[Series]:
    found = grammar_recovery(run) if shared_steps(run) else []
    steps, values = [one.step for one in found], [one.auc for one in found]
    shuffled = (found[-1].high - found[-1].low) / _WIDTH if found else 0.0
    least = least_change(shuffled) if isfinite(shuffled) else LEAST
    yield Series("grammar", "parts coupled to their wholes", "grammar_recovery", "AUC", least, steps, values)


def _event(one: Series) -> Event:
    found = _rise(emergence_time(one.steps, one.values, one.least))
    return Event(one.group, one.name, one.measure, one.unit, one.least, found)


def _rise(found: Emergence) -> Emergence:
    return found if found.level > found.baseline else replace(found, step=None, low=None, high=None)


def _row(event: Event) -> dict[str, Any]:
    row = asdict(event)
    emergence = row.pop("emergence")
    return {**row, **{name: _finite(number) for name, number in emergence.items()}}


def _finite(number: float | None) -> float | None:
    """JSON has no NaN."""
    return number if number is not None and isfinite(number) else None
