"""How filters couple, and how complex features are constructed from parts."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from lightning_emerge.analysis.report.content import Picture, Section
from lightning_emerge.analysis.report.overlay import collect, tell_missing, to_chart
from lightning_emerge.analysis.report.runs import Run, words
from lightning_emerge.figures.series import Chart, draw_charts

_PARTS = {
    "part_auc": "told from the layer",
    "part_filter_auc": "told by the best filter",
    "part_transfer": "told in arrangements not seen",
    "ablation_drop": "lost without its filters",
}


def how_filters_couple(runs: Sequence[Run]) -> Section:
    """Shows how many filters of neighbouring layers are coupled, by pair of layers."""
    section = Section()
    tell_missing(runs, ("coupling_edges",), "CouplingProbe", section)
    found = collect(runs, "coupling_edges", section, lambda values: values.isel({str(values.dims[2]): 0}))
    kinds = next((words(run.records[str(run.records.coupling_edges.dims[2])]) for run, _ in found), [])
    charts = [to_chart(collect(runs, "coupling_edges", section, _kind(k)), kind) for k, kind in enumerate(kinds)]
    _add(charts, "coupling", "Edges between filters of two layers, by pair of layers", section, ordered=True)
    return section


def how_features_are_built(runs: Sequence[Run]) -> Section:
    """Shows which parts and conjunctions can be told, in the layer that tells each best."""
    section = Section()
    tell_missing(runs, list(_PARTS), "PartProbe", section)
    charts = [to_chart(collect(runs, name, section, _best), title, most=16) for name, title in _PARTS.items()]
    _add(charts, "construction", "Parts and their conjunctions, in the layer that has most of each", section)
    return section


def _kind(number: int):
    return lambda values: values.isel({str(values.dims[2]): number})


def _best(values: xr.DataArray) -> xr.DataArray:
    """The largest over layers of (step, layer, feature), of the mean over whatever else there is."""
    values = values.mean([str(axis) for axis in values.dims[3:]], keep_attrs=True)
    return values.max(str(values.dims[1]), keep_attrs=True)


def _add(charts: Sequence[Chart | None], name: str, title: str, section: Section, *, ordered: bool = False) -> None:
    there = [chart for chart in charts if chart is not None]
    labels = [series.label for series in there[0].series] if there else []
    for chart in there:
        # A figure has one legend, so charts of other labels have a figure of their own.
        if [series.label for series in chart.series] != labels:
            figure = draw_charts([chart], title, ordered=ordered)
            section.pictures.append(Picture(f"{name}_{len(section.pictures)}", figure, title, chart.title))
    same = [chart for chart in there if [series.label for series in chart.series] == labels]
    if same:
        section.pictures.insert(0, Picture(name, draw_charts(same, title, ordered=ordered), title, title))
