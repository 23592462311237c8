"""Average linkage against SciPy, and its picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.figures.tree import draw_trees
from lightning_emerge.measures.tree import average_linkage


@pytest.mark.parametrize("tokens", [2, 3, 5, 12])
def test_it_is_scipys(tokens):
    values = np.random.default_rng(tokens).uniform(size=(tokens, tokens))
    rdm = values + values.T
    np.fill_diagonal(rdm, 0)
    expected = linkage(squareform(rdm), "average")
    found = average_linkage(torch.from_numpy(rdm)).numpy()
    found[:, :2] = np.sort(found[:, :2], axis=1)
    np.testing.assert_allclose(found, expected)


def test_without_all_distances_there_is_no_tree():
    rdm = torch.zeros(4, 4)
    rdm[1, 2] = torch.nan
    assert average_linkage(rdm).isnan().all()


def test_the_picture_has_the_nearest_tokens_side_by_side_in_each_layer():
    rdm = torch.tensor([[0.0, 0.9, 0.1], [0.9, 0.0, 0.9], [0.1, 0.9, 0.0]])
    trees = {"conv": average_linkage(rdm).numpy(), "dead": np.full((2, 4), np.nan)}
    figure = draw_trees(trees, ["a", "b", "c"], "1 - r", 7)
    names = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert sorted(names) == ["a", "b", "c"]
    assert abs(names.index("a") - names.index("c")) == 1
    assert "no response" in [text.get_text() for text in figure.axes[1].texts]
    assert to_pixels(figure).std() > 0
