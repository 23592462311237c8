"""Pictures of what is lost: fixed ranges, numbers, and frames around what a token has."""

from __future__ import annotations

import numpy as np
import pytest

import lightning_emerge as le
from lightning_emerge.figures.ablation import draw_drops
from lightning_emerge.figures.canvas import to_pixels


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
