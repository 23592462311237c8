"""Pictures of what is told and of what is lost: fixed ranges, names, NaN, and what cannot be told apart by colour."""

from __future__ import annotations

import numpy as np
import pytest

import lightning_emerge as le
from lightning_emerge.figures.ablation import draw_drops
from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.figures.matrix import draw_told


def told(values: np.ndarray) -> le.Measurement:
    features = le.Axis("feature", ("ring", "disk above bar"), notes={"kind": ["part", "pair"]})
    return le.Measurement("part_auc", values, (le.Axis("layer", ("a", "b", "c")), features), 12)


def test_areas_have_one_range_at_every_step_and_nan_is_grey():
    low, high = (draw_told(told(np.full((3, 2), value))) for value in (0.5, 1.0))
    assert np.abs(to_pixels(low).astype(int) - to_pixels(high)).max() > 100
    figure = draw_told(told(np.array([[0.5, np.nan], [0.8, 0.9], [1, 0.2]])), 0.0)
    image = figure.axes[0].images[0]
    assert image.get_array().shape == (2, 3)
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    assert image.get_array().mask.tolist() == [[False] * 3, [True, False, False]]
    assert "step 12" in figure.axes[0].get_title()
    colours = [label.get_color() for label in figure.axes[0].get_yticklabels()]
    assert colours[0] != colours[1]
    assert [text.get_text() for text in figure.axes[0].texts] == ["pair", "part"]


def test_many_features_and_layers_fit():
    features = le.Axis("feature", [f"conjunction {k}" for k in range(40)])
    layers = le.Axis("layer", [f"layer{k}" for k in range(30)])
    to_pixels(draw_told(le.Measurement("part_auc", np.full((30, 40), 0.7), (layers, features), 0)))


@pytest.mark.parametrize("layers", [1, 3])
def test_drops_have_one_range_and_say_their_numbers(layers):
    values = np.zeros((layers, 2, 3))
    values[0, 0] = [0.5, -0.004, np.nan]
    axes = (
        le.Axis("layer", [f"l{k}" for k in range(layers)]),
        le.Axis("part", ("ring", "bar"), notes={"tokens": ["a/c", "b"]}),
        le.Axis("token", ("a", "b", "c")),
    )
    figure = draw_drops(le.Measurement("ablation_drop", values, axes, 3))
    assert to_pixels(figure).std() > 5
    panel = figure.axes[0]
    assert (panel.images[0].norm.vmin, panel.images[0].norm.vmax) == (-1, 1)
    assert [text.get_text() for text in panel.texts][:2] == ["0.50", "0.00"]
    assert len(panel.texts) == 5
    assert len(panel.patches) == 3
