"""Graphs of planted records, whose statistics are known in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import numpy as np
import pytest

import lightning_emerge as le
from lightning_emerge.analysis.coupling import describe_graph, draw_run_couplings, draw_run_graph
from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.measures.coupling import KINDS
from lightning_emerge.store.write import ArraySink

PAIRS = le.Axis("pair", ["a > b", "b > c"], notes={"filters_out": [4, 3], "filters_in": [4, 4]})
SQUARE = (PAIRS, le.Axis("filter_out", range(4)), le.Axis("filter_in", range(4)))
TOKENS = le.Axis("token", ("dax", "wug"))
FILTERS = (le.Axis("layer", ("a", "b", "c")), le.Axis("filter", range(4)))


def write(
    sink: ArraySink,
    step: int,
    edges: dict[tuple[int, int, int], float],
    *,
    tokens: bool = True,
    kinds: Sequence[str] = KINDS,
    least: Sequence[float] = (4, 4),
) -> None:
    """Records edges (pair, filter_out, filter_in) of the same strength in each kind, with a threshold of 4."""
    strengths = np.full((2, 4, 4), 0.5, np.float32)
    strengths[1, 3] = np.nan
    for edge, strength in edges.items():
        strengths[edge] = strength
    axes = (PAIRS, le.Axis("kind", kinds))
    thresholds = np.tile(np.array(least, np.float32), (2, 1))
    found = [le.Measurement(f"coupling_{kind}", strengths, SQUARE, step) for kind in kinds]
    found.append(le.Measurement("coupling_threshold", thresholds, axes, step))
    found.append(le.Measurement("coupling_edges", np.full(thresholds.shape, 0.1, np.float32), axes, step))
    if tokens and step == 0:  # looked at more rarely: the last look before counts
        found.append(le.Measurement("filter_response", responses(), (*FILTERS, TOKENS), step))
        found.append(le.Measurement("class_selectivity", responses()[:, :, 0], FILTERS, step))
    sink.write(step, found)


def responses() -> np.ndarray:
    """The first two filters of each layer prefer the first token, the next two the second; one is silent."""
    values = np.zeros((3, 4, 2), np.float32)
    values[:, :2, 0], values[:, 2:, 1] = 1, 1
    values[0, 3] = 0
    values[2, 3] = np.nan
    return values


WITHIN = {(0, to, fro): 5.0 for to in (0, 1) for fro in (0, 1)} | {
    (1, to, fro): -6.0 for to in (0, 1) for fro in (0, 1)
}
OTHER = {(0, 2, 2): 9.0, (0, 3, 2): 9.0, (1, 2, 2): 9.0, (1, 2, 3): 9.0}


@pytest.fixture
def run(tmp_path):
    sink = ArraySink(tmp_path / "records.zarr", None)
    write(sink, 0, {})
    write(sink, 5, WITHIN | OTHER)
    write(sink, 9, {**OTHER, (0, 0, 2): 4.0})
    sink.close()
    return tmp_path


def test_a_graph_has_the_filters_and_the_edges_that_count(run):
    graph = le.coupling_graph(run, 5)
    assert list(graph) == [f"{layer}/{k}" for layer, count in (("a", 4), ("b", 4), ("c", 3)) for k in range(count)]
    assert graph.number_of_edges() == 12
    assert graph.edges["b/1", "c/0"] == {"strength": -6.0, "weight": 6.0, "sign": -1}
    assert graph.nodes["a/0"] == {"layer": "a", "filter": 0, "token": "dax", "selectivity": 1.0}
    assert graph.nodes["b/3"]["token"] == "wug"
    assert "token" not in graph.nodes["a/3"]
    assert nx.is_directed_acyclic_graph(graph)


def test_by_weight_no_edge_is_below_chance(run):
    assert le.coupling_graph(run, 5, "weight").number_of_edges() == 8


def test_kinds_are_found_by_name_in_what_an_earlier_version_recorded(tmp_path):
    sink = ArraySink(tmp_path / "records.zarr", None)
    write(sink, 0, WITHIN | OTHER, kinds=("weight", "activation", "effective"), least=(4, 1, 7))
    sink.close()
    assert le.coupling_graph(tmp_path, 0).number_of_edges() == 4
    found = le.coupling_statistics(tmp_path)
    assert found.kind.values.tolist() == ["weight", "effective"]
    assert found.edges.values.tolist() == [[8, 4]]
    curves = draw_run_couplings(tmp_path)
    to_pixels(curves)
    assert [line.get_ydata().tolist() for line in curves.axes[0].lines[:2]] == [[8], [4]]


def test_a_correlation_is_no_edge(run):
    for ask in (lambda: le.coupling_graph(run, 5, "activation"), lambda: draw_run_graph(run, 5, "activation")):
        with pytest.raises(ValueError, match=r"weight, effective; got 'activation'"):
            ask()


def test_births_and_deaths_are_against_the_look_before(run):
    found = le.coupling_statistics(run).sel(kind="effective")
    assert found.edges.values.tolist() == [0, 12, 5]
    assert found.births.values[1:].tolist() == [12, 1]
    assert found.deaths.values[1:].tolist() == [0, 8]
    assert np.isnan([found.births[0], found.deaths[0], found.giant_component[0], found.modularity[0]]).all()


def test_two_cliques_of_tokens_are_two_communities(run):
    found = le.coupling_statistics(run).sel(kind="effective", step=5)
    assert float(found.communities) == 2
    assert float(found.giant_component) == pytest.approx(6 / 11)
    inside, outside = 4 * 5 + 4 * 6, 4 * 9  # sums of weights of each; none lies between them
    whole = inside + outside
    assert float(found.modularity) == pytest.approx(1 - (inside / whole) ** 2 - (outside / whole) ** 2)
    assert float(found.token_assortativity) == pytest.approx(1)
    assert found.token_filters.values.tolist() == [6, 4]
    assert found.token_edges.values.tolist() == [8, 4]
    assert np.isnan(found.part_assortativity)


def test_an_edge_between_tokens_lowers_the_assortativity(run):
    found = le.coupling_statistics(run).sel(kind="effective", step=9)
    # Of five edges four lead from wug to wug and one from wug to dax: all begin at the same, so nothing can be told.
    assert float(found.token_assortativity) == pytest.approx(0)


def test_a_known_graph_is_described_as_networkx_has_it():
    club = nx.karate_club_graph()
    graph = nx.DiGraph()
    graph.add_nodes_from((node, {"token": data["club"]}) for node, data in club.nodes(data=True))
    graph.add_edges_from(club.edges, weight=1.0)
    found = describe_graph(graph, ["Mr. Hi", "Officer"])
    assert found["edges"] == 78
    assert found["giant_component"] == 1
    assert 0.40 < found["modularity"] < 0.4199  # the best there is is 0.4198 (Brandes et al. 2008)
    assert found["communities"] == 4
    assert found["token_filters"] == [17, 17]
    between = nx.cut_size(club, [node for node, data in club.nodes(data=True) if data["club"] == "Officer"])
    assert sum(found["token_edges"]) == 78 - between


@pytest.mark.parametrize(("other", "expected"), [("wug", 1), ("dax", np.nan)])
def test_edges_of_one_token_alone_are_perfect_if_there_are_others(other, expected):
    graph = nx.DiGraph()
    graph.add_nodes_from([*((k, {"token": "dax"}) for k in range(4)), (4, {"token": other}), (5, {})])
    graph.add_edges_from([(0, 1), (1, 2), (0, 3), (4, 5)], weight=1.0)
    assert describe_graph(graph, ["dax", "wug"])["token_assortativity"] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_graphml_can_be_read_back(run, kind, tmp_path):
    le.write_graphml(run, 5, tmp_path / "graph.graphml", kind)
    again, graph = nx.read_graphml(tmp_path / "graph.graphml"), le.coupling_graph(run, 5, kind)
    assert dict(again.nodes(data=True)) == dict(graph.nodes(data=True))
    assert {edge: graph.edges[edge] for edge in again.edges} == {edge: again.edges[edge] for edge in graph.edges}


def test_without_tokens_there_are_edges_and_no_more(tmp_path):
    sink = ArraySink(tmp_path / "records.zarr", None)
    write(sink, 0, WITHIN, tokens=False)
    sink.close()
    found = le.coupling_statistics(tmp_path).sel(kind="effective")
    assert found.edges.values.tolist() == [8]
    assert np.isnan(found.token_assortativity).all()
    assert "token_edges" not in found
    assert "token" not in le.coupling_graph(tmp_path, 0).nodes["a/0"]
    curves, graph = draw_run_couplings(tmp_path), draw_run_graph(tmp_path, 0)
    for figure in (curves, graph):
        to_pixels(figure)
    assert not any("same token" in axes.get_title() for axes in curves.axes)
    assert graph.axes[0].get_title() == "Effective couplings, step 0: 8 edges"


def test_parts_are_those_that_a_filter_tells_best(tmp_path):
    sink = ArraySink(tmp_path / "records.zarr", None)
    write(sink, 0, WITHIN | OTHER)
    axes = (*FILTERS, le.Axis("feature", ("disk", "bar")))
    sink.write(0, [le.Measurement("filter_part_auc", 0.5 + responses() / 2, axes, 0)])
    sink.close()
    assert le.coupling_graph(tmp_path, 0).nodes["b/2"]["part"] == "bar"
    found = le.coupling_statistics(tmp_path).sel(kind="effective", step=0)
    assert float(found.part_assortativity) == pytest.approx(1)


def test_what_is_not_there_is_said(run, tmp_path_factory):
    with pytest.raises(ValueError, match=r"looked: 0, 5, 9; got 4\."):
        le.coupling_graph(run, 4)
    with pytest.raises(ValueError, match="Did you mean 'effective'"):
        le.coupling_graph(run, 5, "efective")
    other = tmp_path_factory.mktemp("other")
    sink = ArraySink(other / "records.zarr", None)
    sink.write(0, [le.Measurement("filter_response", responses(), (*FILTERS, TOKENS), 0)])
    sink.close()
    for ask in (le.coupling_statistics, lambda folder: le.coupling_graph(folder, 0)):
        with pytest.raises(ValueError, match="--config probes/coupling"):
            ask(other)


def test_pictures_are_drawn_from_records(run):
    figure = draw_run_graph(run, 5)
    assert figure.axes[0].get_title() == "Effective couplings, step 5: 12 edges"
    curves = draw_run_couplings(run)
    assert curves.axes[0].lines[1].get_ydata().tolist() == [0, 12, 5]
