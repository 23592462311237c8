"""How filters couple, and how complex features are constructed from parts."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from lightning_emerge.analysis.report.content import Picture, Section
from lightning_emerge.analysis.report.overlay import Reduce, collect, tell_change, tell_missing, to_chart
from lightning_emerge.analysis.report.runs import Run, words
from lightning_emerge.figures.series import Chart, draw_charts

_AUC = (0.5, 1.0)
_PARTS: dict[str, tuple[str, tuple[float, float] | None]] = {
    "part_auc": ("told from a layer", _AUC),
    "part_filter_auc": ("told by one filter", _AUC),
    "part_transfer": ("told in tokens that were held out", None),
    "ablation_drop": ("lost when its filters are taken out", None),
}
_MOST_FEATURES = 16


def how_filters_couple(runs: Sequence[Run]) -> Section:
    """Shows how many filters of neighbouring layers are coupled, by pair of layers."""
    section = Section()
    tell_missing(runs, ("coupling_edges",), "CouplingProbe", section)
    first = next((edges for edges in (run.read("coupling_edges") for run in runs) if edges is not None), None)
    if first is None:
        return section
    charts: list[Chart | None] = []
    for number, kind in enumerate(words(first[str(first.dims[2])])):
        found = collect(runs, "coupling_edges", section, _at_kind(number))
        tell_change(found, f"Coupling by {kind}", section, most=True)
        charts.append(to_chart(found, f"by {kind}", span=(0, 1)))
    title = "Filters of neighbouring layers that are coupled"
    caption = (
        "Of all edges there could be between two layers, those that are there. Dark are early pairs, light late ones."
    )
    _add(charts, "coupling", title, caption, section, ordered=True)
    return section


def how_features_are_built(runs: Sequence[Run]) -> Section:
    """Shows which parts and conjunctions can be told, in the layer that tells each best."""
    section = Section()
    tell_missing(runs, list(_PARTS)[:3], "PartProbe", section)
    tell_missing(runs, list(_PARTS)[3:], "AblationProbe", section)
    charts: list[Chart | None] = []
    for name, (title, span) in _PARTS.items():
        found = collect(runs, name, section, _best)
        tell_change(found, f"What is {title}", section, most=True)
        charts.append(to_chart(found, title, span=span, most=_MOST_FEATURES))
    caption = "Each curve is a part or a conjunction of parts, in the layer that has most of it at that step."
    _add(charts, "construction", "Parts and conjunctions of parts", caption, section)
    return section


def _at_kind(number: int) -> Reduce:
    return lambda edges: edges.isel({str(edges.dims[2]): number}, drop=True)


def _best(values: xr.DataArray) -> xr.DataArray:
    """The largest over layers of (step, layer, feature), of the mean over whatever else there is."""
    values = values.mean([str(axis) for axis in values.dims[3:]], keep_attrs=True)
    return values.max(str(values.dims[1]), keep_attrs=True)


def _add(
    charts: Sequence[Chart | None], name: str, title: str, caption: str, section: Section, *, ordered: bool = False
) -> None:
    """Adds a picture for each set of labels, as a picture has one legend."""
    kinds: dict[tuple[str, ...], list[Chart]] = {}
    for chart in charts:
        if chart is not None:
            kinds.setdefault(tuple(series.label for series in chart.series), []).append(chart)
    for number, alike in enumerate(kinds.values()):
        figure = draw_charts(alike, title, ordered=ordered)
        section.pictures.append(Picture(f"{name}_{number}", figure, f"{title}: curves over steps", caption))
