"""Pictures of what is lost: fixed ranges, numbers, and frames around what a token has."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.figure import Figure

import lightning_emerge as le
from lightning_emerge.figures.ablation import draw_drops
from lightning_emerge.figures.canvas import to_pixels


def colour(figure: Figure, column: float, row: float) -> list[int]:
    """The pixel in a corner of a cell, clear of its number and its frame."""
    pixels = to_pixels(figure)
    x, y = figure.axes[0].transData.transform((column - 0.47, row - 0.46))
    return pixels[len(pixels) - 1 - int(y), int(x)].tolist()


@pytest.mark.parametrize("layers", [1, 3])
def test_drops_have_one_range_and_say_their_numbers(layers):
    values = np.zeros((layers, 2, 3))
    values[0, 0] = [0.5, -0.004, np.nan]
    axes = (
        le.Axis("layer", [f"l{k}" for k in range(layers)]),
        le.Axis("part", ("ring", "bar"), notes={"tokens": ["a/c", "b"]}),
        le.Axis("token", ("a", "b", "c")),
    )
    figure = draw_drops(le.Measurement("ablation_drop", values, axes, 3, range=(-1, 1), scale="diverging"))
    assert [colour(figure, column, 1) for column in range(3)] == [colour(figure, 2, 1)] * 3
    assert colour(figure, 2, 1) == pytest.approx([255 * channel for channel in colormaps["PuOr_r"](0.5)[:3]], abs=1.5)
    assert colour(figure, 2, 0) == pytest.approx([0.85 * 255] * 3, abs=1)
    panel = figure.axes[0]
    assert (panel.images[0].norm.vmin, panel.images[0].norm.vmax) == (-1, 1)
    assert [text.get_text() for text in panel.texts][:2] == ["0.50", "0.00"]
    assert len(panel.texts) == 5
    assert len(panel.patches) == 3
