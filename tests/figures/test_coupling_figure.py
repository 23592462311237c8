"""The picture of a graph shows its strongest edges, and filters where they always are."""

from __future__ import annotations

import numpy as np
from matplotlib.collections import LineCollection

from lightning_emerge.figures.canvas import TOKEN_COLOURS
from lightning_emerge.figures.coupling import STRONGEST, Graph, draw_graph


def make_graph(edges: int) -> Graph:
    random = np.random.default_rng(0)
    strengths = np.zeros(64 * 32)
    strengths[random.permutation(64 * 32)[:edges]] = random.uniform(4, 12, edges) * random.choice([-1, 1], edges)
    preferred = {"first": np.arange(32) % 3 - 1.0, "second": np.append(np.zeros(64), [np.nan] * 6)}
    return Graph(preferred, {("first", "second"): strengths.reshape(64, 32)}, ["dax", "wug"])


def test_the_strongest_edges_are_drawn_and_it_is_said_of_how_many():
    figure = draw_graph(make_graph(500), "Step 3")
    lines = [segment for lines in figure.axes[0].collections[:2] for segment in lines.get_segments()]
    assert len(lines) == STRONGEST
    kept = sorted(np.abs(make_graph(500).edges["first", "second"]).ravel())[-STRONGEST:]
    widths = [float(width) for lines in figure.axes[0].collections[:2] for width in lines.get_linewidths()]
    np.testing.assert_allclose(sorted(widths), [0.3 + 1.1 * strength / 15 for strength in kept], rtol=1e-6)
    assert figure.axes[0].get_title() == f"Step 3: {STRONGEST} strongest of 500 edges"


def test_filters_keep_their_places_and_have_the_colour_of_their_token():
    few, many = draw_graph(make_graph(1), "").axes[0], draw_graph(make_graph(400), "").axes[0]
    places = [
        [points.get_offsets().tolist() for points in axes.collections if len(points.get_offsets())]
        for axes in (few, many)
    ]
    own = [offsets for offsets in places[0] if offsets and offsets[0] != [0, 0]]
    assert own == [offsets for offsets in places[1] if offsets and offsets[0] != [0, 0]]
    assert sum(map(len, own)) == 32 + 64
    colours = {tuple(points.get_facecolor()[0]) for points in few.collections if len(points.get_facecolor())}
    assert len(colours) == 3
    assert TOKEN_COLOURS[0] in [line.get_color() for line in draw_graph(make_graph(1), "").legends[0].get_lines()]


def test_a_graph_without_edges_is_drawn():
    figure = draw_graph(make_graph(0), "Step 0")
    assert figure.axes[0].get_title() == "Step 0: 0 edges"
    assert not [drawn for drawn in figure.axes[0].collections if isinstance(drawn, LineCollection)]
