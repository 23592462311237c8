"""The graph of coupled filters over the steps of a run, from its records alone."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from matplotlib.figure import Figure

from lightning_emerge.figures.coupling import Graph, draw_graph
from lightning_emerge.figures.curves import Chart, Curve, Line, draw_charts
from lightning_emerge.measures.coupling import KINDS, count_edges
from lightning_emerge.records import Range
from lightning_emerge.records.names import split_pair
from lightning_emerge.store.read import Run

_SEED = 0  # of the search for communities
_COUNT: Range = (0.0, None)
_STATISTICS: dict[str, tuple[str, Range]] = {
    "edges": ("edges that count", _COUNT),
    "births": ("edges new since the look before", _COUNT),
    "deaths": ("edges gone since the look before", _COUNT),
    "giant_component": ("share of filters in the\nlargest component", (0.0, 1.0)),
    "modularity": ("modularity", (-0.5, 1.0)),
    "communities": ("communities of 2 filters or more", _COUNT),
    "token_assortativity": ("assortativity by token", (-1.0, 1.0)),
}
_Filters = Mapping[str, list[dict[str, Any]]]


def coupling_graph(run: str | Path | Run, step: int, kind: str = "effective") -> nx.DiGraph:
    """Builds the graph of a look of a `CouplingProbe`: filters, and the edges that count.

    Args:
        run: the run, or its folder.
        step: of the look.
        kind: "weight" or "effective".

    Returns:
        Nodes are called "conv1_2/3" and have the attributes `layer` and `filter`. If the records hold them, also
        `token`, the one that the filter prefers (`filter_response`, at that look or the last before it),
        `selectivity` (`class_selectivity`) and `part` (the feature with the largest `filter_part_auc`). Edges have
        `strength`, in standard deviations of the null, its size `weight`, and its `sign`, 1 or -1.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: if no `CouplingProbe` looked at that step, or there is no such kind of edge.
    """
    run = _open(run)
    _check_kind(kind)
    steps = _steps(run)
    if step not in steps:
        raise ValueError(
            f"A graph is of a step at which a CouplingProbe looked: {', '.join(map(str, steps))}; got {step}."
        )
    graph = _graph(run, step, kind)
    if graph is None:
        raise ValueError(f"A graph is of a look whose couplings can be read; those of {run} at step {step} are torn.")
    return graph


def write_graphml(run: str | Path | Run, step: int, path: str | Path, kind: str = "effective") -> None:
    """Writes the graph of a look as GraphML, for Gephi, Cytoscape, igraph and others.

    Args:
        run: the run, or its folder.
        step: of the look.
        path: of the file, which is written anew.
        kind: "weight" or "effective".

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: as `coupling_graph` does.
    """
    nx.write_graphml(coupling_graph(run, step, kind), path)


def coupling_statistics(run: str | Path | Run) -> xr.Dataset:
    """Says what the graphs of a run are like, look by look and for each kind of edge.

    Args:
        run: one in which a `CouplingProbe` looked, or its folder.

    Returns:
        Arrays by step and kind. `edges` is how many count; `births` and `deaths` how many of them did not count at the
        look before, and how many counted then and do no more, NaN at the first look; `giant_component` the share of
        filters in the largest part that hangs together, whichever way edges point; `communities` how many there are of
        two filters or more, and `modularity` theirs, by Louvain's method (Blondel et al. 2008) on edges weighted by the
        size of their strength, without direction; `token_assortativity` and `part_assortativity` (Newman 2003) are 1 if
        edges join filters that prefer the same alone, also if it is one and the same for all of them while other
        filters prefer something else, 0 if they are indifferent to it, and NaN if all filters prefer the same. By token
        too, `token_filters` is how many filters prefer the token, and `token_edges` how many edges join two of them.
        NaN where there are no edges, or the records do not say what filters prefer.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: if they hold no couplings.
    """
    run = _open(run)
    steps: list[int] = []
    tokens = run.tokens
    rows: list[list[dict[str, Any]]] = []
    before: list[set[tuple[str, str]]] | None = None
    for step in _steps(run):
        filters = _filters(run, step)
        graphs = [graph for kind in KINDS if (graph := _graph(run, step, kind, filters)) is not None]
        if len(graphs) < len(KINDS):
            continue
        steps.append(step)
        edges = [set(graph.edges) for graph in graphs]
        rows.append([describe_graph(graph, tokens) for graph in graphs])
        for number, row in enumerate(rows[-1]):
            row["births"] = np.nan if before is None else len(edges[number] - before[number])
            row["deaths"] = np.nan if before is None else len(before[number] - edges[number])
        before = edges
    return _to_dataset(rows, steps, tokens)


def describe_graph(graph: nx.DiGraph, tokens: list[str]) -> dict[str, Any]:
    """Describes one graph, as `coupling_statistics` does each."""
    flat = nx.Graph()
    flat.add_nodes_from(graph)
    flat.add_weighted_edges_from((a, b, data["weight"]) for a, b, data in graph.edges(data=True))
    some = flat.number_of_edges() > 0
    found: Any = nx.community.louvain_communities(flat, seed=_SEED) if some else []
    of_token = {token: [node for node, own in graph.nodes(data="token") if own == token] for token in tokens}
    known = any(of_token.values())
    return {
        "edges": graph.number_of_edges(),
        "giant_component": max(map(len, nx.connected_components(flat))) / len(flat) if some else np.nan,
        "communities": sum(len(community) > 1 for community in found) if some else np.nan,
        "modularity": nx.community.modularity(flat, found) if some else np.nan,
        "token_assortativity": _assortativity(graph, "token"),
        "part_assortativity": _assortativity(graph, "part"),
        "token_filters": [len(own) if known else np.nan for own in of_token.values()],
        "token_edges": [graph.subgraph(own).number_of_edges() if known else np.nan for own in of_token.values()],
    }


def draw_run_couplings(run: str | Path | Run) -> Figure:
    """Draws what `coupling_statistics` gives over the steps of a run.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: if they hold no couplings.
    """
    found = coupling_statistics(run)
    steps, kinds = found.step.values.tolist(), [str(kind) for kind in found.kind.values]
    charts = [
        Chart(title, "", [Curve(kind, Line(steps, found[name].sel(kind=kind).values)) for kind in kinds], span)
        for name, (title, span) in _STATISTICS.items()
    ]
    if "token" in found.coords:
        own = found.token_edges.sel(kind="effective")
        curves = [Curve(str(token), Line(steps, own.sel(token=token).values)) for token in found.token.values]
        charts.append(Chart("effective edges between filters\nof the same token", "", curves, _COUNT))
    return draw_charts(charts, "Couplings of filters over steps", columns=4, marked=True)


def draw_run_graph(run: str | Path | Run, step: int, kind: str = "effective") -> Figure:
    """Draws the graph of a look.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: as `coupling_graph` does.
    """
    run = _open(run)
    graph = coupling_graph(run, step, kind)
    tokens, pairs = run.tokens, _pairs(run)
    members: dict[str, list[int]] = {}
    for _, node in graph.nodes(data=True):
        members.setdefault(node["layer"], []).append(tokens.index(node["token"]) if "token" in node else -1)
    counted = {pair: np.zeros((len(members[pair[1]]), len(members[pair[0]]))) for pair in pairs}
    for before, after, strength in graph.edges(data="strength"):
        (layer, own), (following, other) = (
            (graph.nodes[n]["layer"], graph.nodes[n]["filter"]) for n in (before, after)
        )
        counted[layer, following][other, own] = strength
    preferred = {layer: np.array(own, float) for layer, own in members.items()}
    return draw_graph(Graph(preferred, counted, tokens), f"{kind.capitalize()} couplings, step {step}")


def _open(run: str | Path | Run) -> Run:
    run = Run.of(run)
    if "coupling_edges" not in run.records:
        raise ValueError(
            f"Graphs are made from what a CouplingProbe records; {run} has none of it. Put "
            "--config probes/coupling on top of the configuration, or replay it over the run's checkpoints."
        )
    return run


def _check_kind(kind: str) -> None:
    if kind == "activation":
        raise ValueError(
            f"The kind of an edge is one of {', '.join(KINDS)}; got 'activation', a correlation, which does not "
            "tell what drives a filter from what goes together with that. Read coupling_activation itself."
        )
    if kind not in KINDS:
        near = get_close_matches(kind, KINDS, 1, cutoff=0)[0]
        raise ValueError(f"The kind of an edge is one of {', '.join(KINDS)}; got {kind!r}. Did you mean {near!r}?")


def _steps(run: Run) -> list[int]:
    edges = run.read("coupling_edges")
    return [] if edges is None else edges.step.values.tolist()


def _pairs(run: Run) -> list[tuple[str, str]]:
    pairs = [split_pair(str(label)) for label in run.records[str(run.records.coupling_edges.dims[1])].values]
    return [(before, layer) for before, layer in pairs]


def _graph(run: Run, step: int, kind: str, filters: _Filters | None = None) -> nx.DiGraph | None:
    """The graph of a look, or None if it is torn; `filters` are those of `_filters`, if they are at hand."""
    couplings, thresholds = run.at(f"coupling_{kind}", step), run.at("coupling_threshold", step)
    if couplings is None or thresholds is None:
        return None
    graph = nx.DiGraph(step=step, kind=kind)
    for layer, members in (filters or _filters(run, step)).items():
        graph.add_nodes_from((f"{layer}/{member['filter']}", member) for member in members)
    strengths = torch.from_numpy(couplings.values)
    least = torch.from_numpy(thresholds.sel({str(thresholds.dims[1]): kind}).values.copy())
    counted = count_edges(strengths, least, kind).numpy()
    for (before, layer), own, size in zip(_pairs(run), counted, strengths.numpy(), strict=True):
        for to, fro in np.argwhere(own).tolist():
            strength = float(size[to, fro])
            graph.add_edge(
                f"{before}/{fro}", f"{layer}/{to}", strength=strength, weight=abs(strength), sign=int(np.sign(strength))
            )
    return graph


def _filters(run: Run, step: int) -> dict[str, list[dict[str, Any]]]:
    """The filters of each layer with what the records say of them at a step."""
    axis = str(run.records.coupling_edges.dims[1])
    counts: dict[str, int] = {}
    for end in (0, 1):
        for pair, count in zip(
            _pairs(run), run.records[f"{axis}_filters_{('in', 'out')[end]}"].values.tolist(), strict=True
        ):
            counts[pair[end]] = int(count)
    order = dict.fromkeys(layer for pair in _pairs(run) for layer in pair)
    response, index, parts = (
        _latest(run, name, step) for name in ("filter_response", "class_selectivity", "filter_part_auc")
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for layer in order:
        of_token, of_part = _largest(response, layer, above=0), _largest(parts, layer, above=-np.inf)
        selectivity = _of_layer(index, layer)
        found[layer] = [
            {
                "layer": layer,
                "filter": number,
                **({"token": of_token[number]} if of_token.get(number) else {}),
                **({"part": of_part[number]} if of_part.get(number) else {}),
                **_number("selectivity", selectivity, number),
            }
            for number in range(counts[layer])
        ]
    return found


def _latest(run: Run, name: str, step: int) -> xr.DataArray | None:
    """Values of a measure at a step, or at the last look before it."""
    looks = (run.at(name, one) for one in reversed(run.steps) if one <= step)
    return next((values for values in looks if values is not None and bool(values.notnull().any())), None)


def _of_layer(values: xr.DataArray | None, layer: str) -> npt.NDArray[np.floating] | None:
    if values is None:
        return None
    layers = [str(one) for one in values.coords[values.dims[0]].values]
    return np.asarray(values.values[layers.index(layer)]) if layer in layers else None


def _largest(values: xr.DataArray | None, layer: str, above: float) -> dict[int, str]:
    """The label at which each filter of a layer has its largest value, of values (layer, filter, label)."""
    own = _of_layer(values, layer)
    if values is None or own is None:
        return {}
    labels = [str(label) for label in values.coords[values.dims[2]].values]
    sizes = np.where(np.isfinite(own), own, -np.inf)
    return {number: labels[k] for number, k in enumerate(sizes.argmax(axis=1)) if sizes[number, k] > above}


def _number(name: str, values: npt.NDArray[np.floating] | None, number: int) -> dict[str, float]:
    known = values is not None and number < len(values) and np.isfinite(values[number])
    return {name: float(values[number])} if known else {}  # pyright: ignore[reportOptionalSubscript]


def _assortativity(graph: nx.DiGraph, name: str) -> float:
    known = graph.subgraph([node for node, value in graph.nodes(data=name) if value is not None])
    own = {node: known.nodes[node][name] for node in known}
    if not known.edges or len(set(own.values())) < 2:
        return np.nan
    if all(own[a] == own[b] for a, b in known.edges):
        return 1.0  # also within one token, where the coefficient is 0 / 0
    return float(nx.attribute_assortativity_coefficient(known, name))


def _to_dataset(rows: list[list[dict[str, Any]]], steps: list[int], tokens: list[str]) -> xr.Dataset:
    """Puts descriptions together, by step and kind."""
    found = xr.Dataset(coords={"step": steps, "kind": list(KINDS)})
    if tokens:
        found = found.assign_coords(token=tokens)
    for name in rows[0][0] if rows else ():
        values = np.array([[row[name] for row in kinds] for kinds in rows], dtype=float)
        if values.ndim == 2:
            found[name] = (("step", "kind"), values)
        elif tokens:
            found[name] = (("step", "kind", "token"), values)
    return found
