"""Pictures of what is told: fixed ranges, names, NaN, and what cannot be told apart by colour."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from matplotlib import colormaps

import lightning_emerge as le
from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.figures.parts import draw_told


def told(values: np.ndarray) -> le.Measurement:
    features = le.Axis("feature", ("ring", "disk above bar"), notes={"kind": ["part", "pair"]})
    return le.Measurement("part_auc", values, (le.Axis("layer", ("a", "b", "c")), features), 12, range=(0, 1))


def test_areas_have_one_range_at_every_step_and_nan_is_grey():
    low, high = (draw_told(told(np.full((3, 2), value))) for value in (0.5, 1.0))
    for figure, end in ((low, 0), (high, -1)):
        image = figure.axes[0].images[0]
        assert image.to_rgba(image.get_array())[0, 0].tolist() == [*colormaps["viridis"].colors[end], 1]
    figure = draw_told(told(np.array([[0.5, np.nan], [0.8, 0.9], [1, 0.2]])), 0.0)
    image = figure.axes[0].images[0]
    assert image.get_array().shape == (2, 3)
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    assert image.get_array().mask.tolist() == [[False] * 3, [True, False, False]]
    assert "step 12" in figure.axes[0].get_title()
    colours = [label.get_color() for label in figure.axes[0].get_yticklabels()]
    assert colours[0] != colours[1]
    assert [text.get_text() for text in figure.axes[0].texts] == ["pair", "part"]


def test_many_features_and_layers_are_all_named():
    features = le.Axis("feature", [f"conjunction {k}" for k in range(40)])
    layers = le.Axis("layer", [f"layer{k}" for k in range(30)])
    figure = draw_told(le.Measurement("part_auc", np.full((30, 40), 0.7), (layers, features), 0, range=(0, 1)))
    to_pixels(figure)
    for axis, names in ((figure.axes[0].xaxis, layers), (figure.axes[0].yaxis, features)):
        assert [label.get_text() for label in axis.get_ticklabels()] == list(names.labels)
        boxes = sorted(
            (box.y0, box.y1) if axis is figure.axes[0].yaxis else (box.x0, box.x1)
            for box in (label.get_window_extent() for label in axis.get_ticklabels())
        )
        assert all(one[1] <= other[0] + 1 for one, other in pairwise(boxes))
