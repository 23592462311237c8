"""Pictures of trees: a line along all merges, and the nearest tokens side by side."""

from __future__ import annotations

import numpy as np

from lightning_emerge.figures.tree import draw_trees

TREE = np.array([[0, 2, 0.1, 2], [1, 3, 0.9, 3]])  # a and c are joined at 0.1, and both with b at 0.9


def test_the_nearest_tokens_are_side_by_side_and_merges_are_at_their_distances():
    figure = draw_trees({"conv": TREE, "dead": np.full((2, 4), np.nan)}, ["a", "b", "c"], "1 - r", 7, 2.0)
    alive, dead = figure.axes[:2]
    silence, *names = [text.get_text() for text in alive.texts]
    assert silence == ""
    assert names == ["b", "a", "c"]
    x, y = (np.asarray(values, float).reshape(2, 5)[:, :4] for values in alive.lines[0].get_data())
    assert x.tolist() == [[0, 0.1, 0.1, 0], [0, 0.9, 0.9, 0.1]]
    assert y.tolist() == [[1, 1, 2, 2], [0, 0, 1.5, 1.5]]
    assert [text.get_text() for text in dead.texts] == ["no response", "", "", ""]
    assert len(dead.lines[0].get_xdata()) == 0
    assert alive.get_xlim()[0] < 0
    assert 2 < alive.get_xlim()[1] < 2.1


def test_without_an_end_all_layers_end_at_the_next_round_distance():
    far = TREE * [1, 1, 30, 1]  # up to 27
    figure = draw_trees({"near": TREE, "far": far}, ["a", "b", "c"], "squared", 7)
    for axes in figure.axes[:2]:
        assert 50 < axes.get_xlim()[1] < 52
