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
from lightning_emerge.analysis.emergence_time import Emergence, Moment, emergence_time
from lightning_emerge.analysis.fits import LEVEL, SHARE
from lightning_emerge.analysis.recovery import grammar_recovery, shared_steps
from lightning_emerge.figures.timeline import Row, draw_rows
from lightning_emerge.store.folder import Folder
from lightning_emerge.store.layout import TIMELINE as FILE
from lightning_emerge.store.read import Run

_ABOUT = (
    "Whether each series emerged: it rose by `least` or more, from the untrained network's level too, more than slow "
    f"noise does, and {LEVEL} looks lie before and after. If so, `step` is its onset, where it had gone {SHARE:.0%} of "
    f"its way from `baseline` to `level`, and `mastery` where it came within {SHARE:.0%} of its final level, both for "
    "good, with 95% intervals (`low` and `high`) from look to look. `looks_inside` counts looks between the two. If "
    "not, it is `never` that it rose so much, or `unresolved` by these looks, and midway a change of `detectable` "
    "would have been seen."
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

_NOT = {"never": "never", "unresolved": "not resolved by these looks"}
_COUNTED = {"emerged": "emerged", "never": "never did", "unresolved": "are not resolved by these looks"}
_MOST_TOKENS = 20
_TOLD = ("baseline", "level", "change", "least", "detectable", "looks_inside", "p_value")


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
    """Whether and when one of them emerged."""

    group: str
    name: str
    measure: str
    unit: str
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
    """Finds whether and when each token, layer, part, pair, conjunction and coupling of a run emerged.

    See `emergence_time`. What falls for good has not emerged.

    Args:
        run: the run, or its folder.

    Raises:
        FileNotFoundError: if there are no records.
    """
    return [_event(one) for one in run_series(run)]


def tell_time(found: Emergence) -> str:
    """Writes the step of an onset with its 95% interval in brackets, or why there is none."""
    return _tell(found.onset) if found.onset else _NOT[found.whether]


def tell_mastery(found: Emergence) -> str:
    """Writes the step of a mastery with its 95% interval in brackets, or "-" for what has not emerged."""
    if not found.onset:
        return "-"
    return _tell(found.mastery) if found.mastery else _NOT["unresolved"]


def tell_tokens(events: Sequence[Event]) -> list[str]:
    """Writes a line for each token that a run's timeline has, or how many there are of each kind if they are many."""
    found = [(event.name, event.emergence) for event in events if event.group == "token"]
    if len(found) > _MOST_TOKENS:
        return [f"{sum(one.whether == whether for _, one in found)} {said}" for whether, said in _COUNTED.items()]
    width = max((len(name) for name, _ in found), default=0)
    return [f"{name:{width}} {_tell_token(one)}" for name, one in found]


def _tell_token(found: Emergence) -> str:
    if found.onset:
        return f"onset {tell_time(found)}, mastery {tell_mastery(found)}"
    said = _NOT[found.whether]
    return said if not isfinite(found.detectable) else f"{said}; a rise of {found.detectable:.2f} would have been seen"


def _tell(moment: Moment) -> str:
    return f"{moment.step:.0f} ({moment.low:.0f} to {moment.high:.0f})"


def write_timeline(folder: str | Path, events: Sequence[Event]) -> None:
    """Writes a timeline into its run's folder, as `emergence.json`."""
    rows = [_row(event) for event in events]
    Folder(folder).put(
        FILE, json.dumps({"about": _ABOUT, "unit": "optimizer steps", "events": rows}, indent=1).encode()
    )


def draw_timeline(run: str | Path | Run, events: Sequence[Event]) -> Figure | None:
    """Draws a timeline, or None if there is nothing on it.

    Couplings are looked at seldom; where these looks do not resolve any, they are left out.

    Args:
        run: whose last look ends the axis, or its folder.
        events: as `run_timeline` gives them.
    """
    dated = any(one.group == "coupling" and one.emergence.whether != "unresolved" for one in events)
    events = [one for one in events if one.group != "coupling" or dated]
    if not events:
        return None
    last = Run.of(run).steps[-1]
    return draw_rows([_drawn(one) for one in events], last)


def _drawn(event: Event) -> Row:
    onset, mastery = (
        moment and (moment.step, moment.low, moment.high) for moment in (event.emergence.onset, event.emergence.mastery)
    )
    return Row(event.group, event.name, onset, mastery, event.emergence.whether == "never")


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
    return Event(one.group, one.name, one.measure, one.unit, _rise(emergence_time(one.steps, one.values, one.least)))


def _rise(found: Emergence) -> Emergence:
    falls = found.onset is not None and found.change < 0
    return replace(found, whether="never", onset=None, mastery=None, looks_inside=None) if falls else found


def _row(event: Event) -> dict[str, Any]:
    found = event.emergence
    mastery = asdict(found.mastery) if found.mastery else dict.fromkeys(("step", "low", "high"))
    numbers: dict[str, float | None] = {name: getattr(found, name) for name in ("step", "low", "high")}
    numbers |= {"mastery" if name == "step" else f"mastery_{name}": value for name, value in mastery.items()}
    numbers |= {name: getattr(found, name) for name in _TOLD}
    named = {"group": event.group, "name": event.name, "measure": event.measure, "unit": event.unit}
    return {**named, "whether": found.whether, **{name: _finite(number) for name, number in numbers.items()}}


def _finite(number: float | None) -> float | None:
    """JSON has neither NaN nor infinity."""
    return number if number is not None and isfinite(number) else None
