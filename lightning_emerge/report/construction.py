"""How filters couple, and how complex features are constructed from parts."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from lightning_emerge.analysis.ablation import ALL, ablation_table
from lightning_emerge.analysis.construction import construction_leads, construction_order
from lightning_emerge.analysis.coupling import draw_run_graph
from lightning_emerge.analysis.recovery import grammar_recovery
from lightning_emerge.figures.curves import Chart, draw_charts
from lightning_emerge.measures.coupling import KINDS
from lightning_emerge.report.content import Picture, Section, Table
from lightning_emerge.report.overlay import (
    Reduce,
    by_group,
    read_all,
    tell_change,
    tell_missing,
    to_chart,
    write_number,
)
from lightning_emerge.store.read import Run, words

_PARTS = {
    "part_auc": "told from a layer",
    "part_filter_auc": "told by one filter",
    "part_transfer": "told in tokens that were held out",
    "ablation_drop": "lost when its filters are taken out",
}
_MOST_FEATURES = 16


def how_filters_couple(runs: Sequence[Run]) -> Section:
    """Shows how many filters of neighbouring layers are coupled, by pair of layers."""
    section = Section()
    tell_missing(runs, ("coupling_edges",), "CouplingProbe", section)
    if all(run.read("coupling_edges") is None for run in runs):
        return section
    charts: list[Chart | None] = []
    for kind in KINDS:
        found = read_all(runs, "coupling_edges", section, _at_kind(kind))
        if any(float(edges.max()) > 0 for _, edges in found):
            tell_change(found, f"The share of {kind} edges", section, most=True)
            charts.append(to_chart(found, f"{kind} edges", zoom=True))
        else:
            section.says.append(f"No {kind} edge exceeds its null, at a false-discovery rate of 5%, at any look.")
    title = "Filters of neighbouring layers that are coupled"
    caption = (
        "Of all edges there could be between two layers, those that are there. Dark are early pairs, light late ones."
    )
    _add(charts, "coupling", title, caption, section, ordered=True)
    for run in runs if len(runs) == 1 else ():
        section.pictures += _graph(run)
    return section


def how_features_are_built(runs: Sequence[Run]) -> Section:
    """Shows which parts and conjunctions can be told, in the layer that tells each best."""
    section = Section()
    tell_missing(runs, list(_PARTS)[:3], "PartProbe", section)
    tell_missing(runs, list(_PARTS)[3:], "AblationProbe", section)
    charts: list[Chart | None] = []
    for name, title in _PARTS.items():
        found = read_all(runs, name, section, _best)
        tell_change(found, f"What is {title}", section, most=True)
        charts.append(to_chart(found, title, zoom=name == "ablation_drop", most=_MOST_FEATURES))
    caption = "Each curve is a part or a conjunction of parts, in the layer that has most of it at that step."
    _add(charts, "construction", "Parts and conjunctions of parts", caption, section)
    parted = [run for run in runs if run.read("part_filter_auc") is not None]
    groups = by_group((run, run) for run in parted if _has_wholes(run))
    for group, own in groups.items():
        section.says.append(f"{f'{group}: ' if len(groups) > 1 else ''}{_order(own)}")
    section.tables += [table for table in (_leads(parted), _recovered(parted), _ablated(runs)) if table.rows]
    return section


def _graph(run: Run) -> list[Picture]:
    """The graph of effective edges at the last look, if there are any."""
    edges = run.last("coupling_edges")
    if edges is None or run.read("coupling_threshold") is None or not float(edges.sel(kind="effective").max()) > 0:
        return []
    figure = draw_run_graph(run, int(edges.step))
    caption = (
        "A column is a layer, a dot a filter in the colour of the token that it prefers, a line an edge that counts."
    )
    return [Picture("coupling_graph", figure, "Graph of effective edges between filters of layers", caption)]


def _has_wholes(run: Run) -> bool:
    """Whether there are two kinds of features, to be in an order."""
    features = run.records["part_filter_auc"]
    return len({*words(features[f"{features.dims[-1]}_kind"])}) > 1


def _order(runs: Sequence[Run]) -> str:
    try:
        found = construction_order(runs)
    except ValueError:  # its looks resolve too few
        return (
            "The looks do not resolve whether parts, pairs and conjunctions emerged: nothing is known of their order."
        )
    seen = f"Of {found.things} parts, pairs and conjunctions {found.seen} were seen to emerge."
    if not found.seen:
        return f"{seen} Nothing is known of their order."
    return (
        f"{seen} Of {found.pairs} pairs of a simpler thing and one that is made of such (parts, pairs, conjunctions), "
        f"{found.agreement:.2f} emerged in that order, where 95% of shuffled orders have {found.low:.2f} to "
        f"{found.high:.2f} (p = {found.p_value:.4f}, one-sided)."
    )


def _leads(runs: Sequence[Run]) -> Table:
    """How long before wholes their parts and the couplings that feed them emerged."""
    rows: list[list[str]] = []
    for run in runs:
        leads = construction_leads(run)
        for kind, own in leads.groupby("kind", sort=False):
            known = own.dropna(subset=["steps"])
            sure = [int((known.low > 0).sum()), int((known.high < 0).sum())]
            median = write_number(float(known.steps.median()), 0) if len(known) else "-"
            rows.append([f"{run.name}: {kind}", median, *map(str, sure), f"{len(known)} of {len(own)}"])
    head = ["", "median lead", "surely first", "surely later", "where both emerged"]
    return Table("Optimizer steps by which parts, and couplings, emerged before the wholes that have them.", head, rows)


def _recovered(runs: Sequence[Run]) -> Table:
    """How well couplings give the grammar back at the last look."""
    rows: list[list[str]] = []
    for run in runs:
        if run.read("coupling_effective") is None:
            continue
        looks = grammar_recovery(run)
        if not looks:  # all are torn
            continue
        last = looks[-1]
        chance = f"{write_number(last.low, 2)} to {write_number(last.high, 2)}"
        rows.append([run.name, str(last.step), write_number(last.auc, 2), chance, write_number(last.p_value)])
    about = "How surely a part is coupled more strongly to wholes that have it than to others: AUC, 0.5 by chance."
    return Table(about, ["", "step", "AUC", "95% of shuffled grammars", "p"], rows)


def _ablated(runs: Sequence[Run]) -> Table:
    """What tokens with a part lose without its detectors, and what the others lose."""
    rows: list[list[str]] = []
    for run in runs:
        if run.read("ablation_drop") is None:
            continue
        table = ablation_table(run)
        whole = table[table.part == ALL]
        columns = (whole[name].tolist() for name in ("layer", "drop_with", "drop_without", "control", "p"))
        rows += [[f"{run.name}: {layer}", *map(write_number, cells)] for layer, *cells in zip(*columns, strict=True)]
    about = (
        "Fall of the right token's probability when the detectors of a part are silenced, in the mean over parts. "
        "Tokens with it lose more if filters are tuned to tokens at all; only p, against the detectors of other sets "
        "of as many tokens, says whether parts are special."
    )
    return Table(
        about, ["", "tokens with it", "tokens without", "filters by lot, tokens with it", "p against rivals"], rows
    )


def _at_kind(kind: str) -> Reduce:
    return lambda edges: edges.sel({str(edges.dims[2]): kind}, drop=True)


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
            kinds.setdefault(tuple(series.label for series in chart.curves), []).append(chart)
    for number, alike in enumerate(kinds.values()):
        figure = draw_charts(alike, title, ordered=ordered)
        section.pictures.append(Picture(f"{name}_{number}", figure, f"{title}: curves over steps", caption))
