"""Pictures of planes and paths show what they were given."""

from __future__ import annotations

import numpy as np

from lightning_emerge.figures.embedding import Journey, Panel, draw_journeys, draw_planes


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
