"""Records of one run or several as curves and cells: each run, and mean and spread over those of one configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from lightning_emerge.figures.curves import Chart, Curve, Level, Line
from lightning_emerge.report.content import Section
from lightning_emerge.store.read import Run, words
from lightning_emerge.store.shown import shown_of

MOST_LAYERS = 8
"""Curves of layers that can be told apart in one chart."""

Found = list[tuple[Run, xr.DataArray]]
_Own = TypeVar("_Own")
Reduce = Callable[[xr.DataArray], xr.DataArray]


def by_group(found: Iterable[tuple[Run, _Own]]) -> dict[str, list[_Own]]:
    """Puts together what there is of the runs of each configuration, by the name of their group."""
    groups: dict[str, list[_Own]] = {}
    for run, own in found:
        groups.setdefault(run.group, []).append(own)
    return groups


def tell_runs(runs: Sequence[Run]) -> str:
    """Says how a chart of these runs is read."""
    sizes = {name: len(own) for name, own in by_group((run, run) for run in runs).items()}
    averaged = "Thin lines are single runs, thick ones their mean. " if max(sizes.values(), default=1) > 1 else ""
    return f"{averaged}A kind of line is a configuration. " if len(sizes) > 1 else averaged


def tell_missing(
    runs: Sequence[Run], names: Sequence[str], probe: str, section: Section, *, replay: bool = True
) -> None:
    """Says which of some records are not there, and what would record them.

    Args:
        runs: the runs.
        names: of the records.
        probe: the class that records them.
        section: where it is said.
        replay: whether the probe could look at the run's checkpoints.
    """
    for run in runs:
        absent = [name for name in names if name not in run.records]
        if absent:
            also = "; `lightning replay` lets it look at the checkpoints of a run that is over" if replay else ""
            section.missing.append(
                f"{run.name} has no {', '.join(absent)}: no {probe} has looked. "
                f"Add lightning_emerge.{probe} to trainer.callbacks{also}."
            )


def read_all(runs: Sequence[Run], name: str, section: Section, reduce: Reduce | None = None) -> Found:
    """Reads a record of all runs that have it; those whose axes differ from the first one's are left out, and said.

    Args:
        runs: the runs.
        name: of the record.
        section: where it is said.
        reduce: makes (step,) or (step, label) of what was recorded.
    """
    found: Found = []
    shared: dict[str, list[str]] = {}
    for run in runs:
        values = run.read(name)
        if values is None:
            continue
        axes = [str(axis) for axis in values.dims[1:] if axis != "kind"]  # kinds are chosen by name
        own = {axis.partition("_of_")[0]: words(values[axis]) for axis in axes}
        shared = shared or own
        other = [axis for axis in own if own[axis] != shared.get(axis)]
        if other:
            sentence = (
                f"{run.name} is left out of what runs have in common by {other[0]}: its {other[0]}s are not those of "
                f"{found[0][0].name}. Give it a report of its own."
            )
            section.missing += [sentence] if sentence not in section.missing else []
            continue
        found.append((run, values if reduce is None else reduce(values)))
    return found


def to_chart(
    found: Found,
    title: str,
    *,
    zoom: bool = False,
    level: float | None = None,
    most: int = MOST_LAYERS,
) -> Chart | None:
    """Makes a chart of a record (step, label), or (step,), with a thick line for each configuration.

    It is the mean over its runs at the steps at which all of them looked, and these are thin lines beside it, to the
    last look of each.

    Args:
        found: what `read_all` gave.
        title: of the chart.
        zoom: whether the axis ends where the values do, and not where the record's range does.
        level: of a dotted line.
        most: curves at most; of more labels some are shown, evenly chosen, the first and the last among them.
    """
    if not found:
        return None
    first = found[0][1]
    labels = words(first[str(first.dims[1])]) if first.ndim > 1 else [""]
    groups = by_group(found)
    most = min(most, MOST_LAYERS) if len(groups) > 1 else most  # each curve has a colour, as lines tell groups apart
    curves = [
        _curve(group, own, number, labels[number])
        for number in evenly(len(labels), most)
        for group, own in groups.items()
    ]
    shown = shown_of(str(first.name), first.attrs)
    span = None if zoom else shown.closed
    return Chart(title, unit_of(first), curves, span, shown.scale == "log", None if level is None else Level(level))


def unit_of(values: xr.DataArray) -> str:
    """The unit of a record in words."""
    unit = str(values.attrs.get("units", ""))
    return "pure number" if unit == "1" else unit


def tell_change(found: Found, what: str, section: Section, *, most: bool = False) -> None:
    """Says where a record (step, label) began and ended at one label, with its unit and the spread over like runs.

    Args:
        found: what `read_all` gave.
        what: is recorded, as the subject of a sentence.
        section: where it is said.
        most: whether at the label at which it is largest in the end, and not at the last label.
    """
    if not found:
        return
    first = found[0][1]
    ends = mean_of([values.values[-1] for _, values in found])
    at = int(np.nan_to_num(ends, nan=-np.inf).argmax()) if most else len(ends) - 1
    label, groups = words(first[str(first.dims[1])])[at], by_group(found)
    for group, own in groups.items():
        low, high = (spread([float(values.values[place, at]) for values in own], 2) for place in (0, -1))
        began, ended = (
            " and ".join(sorted({str(int(values.step[place])) for values in own}, key=int)) for place in (0, -1)
        )
        who = f"{group}: " if len(groups) > 1 else ""
        section.says.append(
            f"{who}{what} in {label} goes from {low} at step {began} to {high} at step {ended} ({unit_of(first)})."
        )


def _curve(group: str, found: Sequence[xr.DataArray], number: int, label: str) -> Curve:
    lines = [
        Line(values.step.values.tolist(), values.values if values.ndim == 1 else values.values[:, number])
        for values in found
    ]
    if len(lines) == 1:
        return Curve(label, lines[0], group=group)
    shared = sorted(set.intersection(*(set(line.steps) for line in lines)))
    rows = [line.values[np.isin(line.steps, shared)] for line in lines]
    return Curve(label, Line(shared, mean_of(rows)), lines, group)


def evenly(count: int, most: int) -> list[int]:
    """Positions evenly chosen among some, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def mean_of(rows: Sequence[npt.ArrayLike]) -> npt.NDArray[np.float64]:
    """Mean over runs, of those that have a number; NaN where none has."""
    values = np.ma.masked_invalid(np.stack([np.asarray(row, dtype=np.float64) for row in rows]))
    return np.ma.filled(values.mean(axis=0), np.nan)


def spread(values: Sequence[float | None], digits: int = 3) -> str:
    """Writes the mean and the standard deviation of one number of each run; of one run, the number."""
    known = [float(value) for value in values if value is not None and np.isfinite(value)]
    if not known:
        return "not seen" if any(value is None for value in values) else "-"
    of = f" ({len(known)} of {len(values)})" if len(known) < len(values) else ""
    if len(known) == 1:
        return f"{known[0]:.{digits}f}{of}"
    return f"{np.mean(known):.{digits}f} ± {np.std(known, ddof=1):.{digits}f}{of}"


def write_number(value: float | None, digits: int = 3) -> str:
    """Writes a number; a dash for one that is not known."""
    return "-" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"
