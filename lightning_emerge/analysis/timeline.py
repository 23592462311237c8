"""The timeline of a run: when each of its tokens, layers, features and couplings emerged, from its records alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from lightning_emerge.analysis.emergence_time import SHARE, Emergence, emergence_time
from lightning_emerge.analysis.recovery import grammar_recovery, shared_steps
from lightning_emerge.figures.timeline import Row, draw_rows
from lightning_emerge.sinks.arrays import open_run
from lightning_emerge.sinks.layout import TIMELINE as FILE
from lightning_emerge.sinks.storage import Folder

_ABOUT = (
    "The optimizer step at which each series left its baseline for good: where it had gone "
    f"{SHARE:.0%} of its way to its final level, with a 95% interval from look to look; null says that it never did."
)


@dataclass(frozen=True)
class Series:
    """One series of a run that may emerge.

    Attributes:
        group: "token", "layer", "part", "pair", "conjunction", "grammar" or "coupling".
        name: of what may emerge.
        measure: the record that it is read from, and of what it is the best, if it is.
        unit: of its values.
        steps: of the looks, ascending.
        values: (look,).
    """

    group: str
    name: str
    measure: str
    unit: str
    steps: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class Event:
    """When one of them emerged."""

    group: str
    name: str
    measure: str
    unit: str
    emergence: Emergence


def run_series(folder: str | Path) -> list[Series]:
    """Reads the series of a run that a timeline shows, as many of them as its probes have recorded.

    Tokens: `bank_confidence`, since a network that gives one answer to everything has that token right. Layers:
    `ridge_accuracy`, what can be read out of each. Parts, pairs and conjunctions: `part_filter_auc`, of the layer whose
    best filter tells each best at the last look. Grammar: how well couplings tell which parts make up which wholes
    (see `grammar_recovery`). Couplings: `coupling_edges` of kind effective, of each pair of layers.

    Args:
        folder: of the run.

    Raises:
        FileNotFoundError: if there are no records.
    """
    records = open_run(folder)
    found: list[Series] = []
    for measure, group in (("bank_confidence", "token"), ("ridge_accuracy", "layer")):
        if measure in records:
            found += _rows(group, measure, records[measure])
    if "part_filter_auc" in records:
        found += _features(records["part_filter_auc"])
    if {"coupling_effective", "filter_part_auc"} <= set(records):
        found += _grammar(folder)
    if "coupling_edges" in records:
        found += _rows("coupling", "coupling_edges", records["coupling_edges"].sel(kind="effective"))
    return found


def run_timeline(folder: str | Path) -> list[Event]:
    """Finds when each token, layer, part, pair, conjunction and coupling of a run emerged.

    What falls for good has not emerged.

    Args:
        folder: of the run.

    Raises:
        FileNotFoundError: if there are no records.
    """
    return [
        Event(one.group, one.name, one.measure, one.unit, _rise(emergence_time(one.steps, one.values)))
        for one in run_series(folder)
    ]


def write_timeline(folder: str | Path, events: Sequence[Event]) -> None:
    """Writes a timeline into its run's folder, as `emergence.json`."""
    rows = [_row(event) for event in events]
    Folder(folder).put(
        FILE, json.dumps({"about": _ABOUT, "unit": "optimizer steps", "events": rows}, indent=1).encode()
    )


def draw_timeline(folder: str | Path, events: Sequence[Event]) -> Figure | None:
    """Draws a timeline, or None if there is nothing on it.

    Args:
        folder: of the run, whose last look ends the axis.
        events: as `run_timeline` gives them.
    """
    if not events:
        return None
    last = int(open_run(folder).step[-1])
    rows = [Row(one.group, one.name, one.emergence.step, one.emergence.low, one.emergence.high) for one in events]
    return draw_rows(rows, last)


def _rows(group: str, measure: str, values: xr.DataArray) -> Iterator[Series]:
    taken = values.dropna("step", how="all").load()
    axis, unit = str(taken.dims[1]), str(taken.attrs.get("units", "1"))
    for number, name in enumerate(taken[axis].values):
        yield Series(group, str(name), measure, unit, taken.step.values.tolist(), taken.values[:, number].tolist())


def _features(values: xr.DataArray) -> Iterator[Series]:
    taken = values.dropna("step", how="all").load()
    layer, feature = (str(name) for name in taken.dims[1:])
    last = taken.isel(step=-1)
    kinds = taken.coords[f"{feature}_kind"].values
    for number, name in enumerate(taken[feature].values):
        known = last.isel({feature: number}).fillna(-1.0)
        best = int(known.argmax(layer))
        series = taken.isel({feature: number, layer: best})
        measure = f"part_filter_auc of {taken[layer].values[best]}"
        yield Series(str(kinds[number]), str(name), measure, "AUC", taken.step.values.tolist(), series.values.tolist())


def _grammar(folder: str | Path) -> Iterator[Series]:
    found = grammar_recovery(folder) if shared_steps(folder) else []
    name = "parts coupled to their wholes"
    yield Series("grammar", name, "grammar_recovery", "AUC", [one.step for one in found], [one.auc for one in found])


def _rise(found: Emergence) -> Emergence:
    return found if found.level > found.baseline else replace(found, step=None, low=None, high=None)


def _row(event: Event) -> dict[str, Any]:
    row = asdict(event)
    emergence = row.pop("emergence")
    return {**row, **{name: _finite(number) for name, number in emergence.items()}}


def _finite(number: float | None) -> float | None:
    """JSON has no NaN."""
    return number if number is not None and isfinite(number) else None
