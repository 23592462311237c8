"""Pictures of alignments and planes show what they were given."""

from __future__ import annotations

import numpy as np

import lightning_emerge as le
from lightning_emerge.figures.embedding import Journey, Panel, draw_journeys, draw_planes
from lightning_emerge.figures.matrix import draw_alignment


def test_an_alignment_is_drawn_on_a_range_that_does_not_change():
    layers = (le.Axis("layer", ["a", "b"]), le.Axis("layer_b", ["a", "b"]))
    values = np.array([[1.0, -0.1], [-0.1, np.nan]])
    figure = draw_alignment(le.Measurement("cka", values, layers, 3))
    image = figure.axes[0].images[0]
    assert image.get_clim() == (0, 1)
    assert image.get_array().mask.sum() == 1
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]


def test_planes_and_paths_are_drawn_token_by_token_and_a_missing_one_is_empty():
    points, tokens = np.random.default_rng(0).normal(size=(6, 2)), ["p", "q"] * 3
    missing = Panel("none", np.full((6, 2), np.nan))
    figure = draw_planes([Panel("one", points), missing], tokens, "planes")
    np.testing.assert_allclose(figure.axes[0].collections[1].get_offsets(), points[1::2])
    path = np.random.default_rng(1).normal(size=(5, 2, 2))
    journey = draw_journeys({"conv": Journey([Panel("one", points), missing], path, points)}, tokens)
    assert journey.axes[0].get_ylabel() == "conv"
    np.testing.assert_allclose(journey.axes[2].lines[0].get_xydata(), path[:, 0])
    assert all(np.isnan(points.get_offsets()).all() for points in journey.axes[1].collections)
    assert [text.get_text() for text in journey.legends[0].get_texts()] == ["p", "q"]
