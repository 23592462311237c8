"""Pictures of how alike layers are show what they were given."""

from __future__ import annotations

import numpy as np

import lightning_emerge as le
from lightning_emerge.figures.cka import draw_alignment


def test_an_alignment_is_drawn_on_a_range_that_does_not_change():
    layers = (le.Axis("layer", ["a", "b"]), le.Axis("layer_b", ["a", "b"]))
    values = np.array([[1.0, -0.1], [-0.1, np.nan]])
    figure = draw_alignment(le.Measurement("cka", values, layers, 3, range=(-1, 1)))
    image = figure.axes[0].images[0]
    assert image.get_clim() == (0, 1)
    assert image.get_array().mask.sum() == 1
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]
