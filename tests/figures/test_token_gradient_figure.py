"""Pictures of tokens' gradients: fixed colours, names, grey for what is not there."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.text import Text

from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.figures.token_gradient import draw_token_cosines
from lightning_emerge.records import Axis, Measurement

GREY = pytest.approx([0.85 * 255] * 3, abs=1)


def make(values: np.ndarray, step: int = 0) -> Measurement:
    layers, size, _ = values.shape
    tokens = [f"token{k}" for k in range(size)]
    axes = (Axis("layer", [f"layer{k}" for k in range(layers)]), Axis("token", tokens), Axis("token_b", tokens))
    return Measurement("token_gradient_cosine", values, axes, step, "cosine", range=(-1, 1), scale="diverging")


def texts(figure: Figure) -> list[str]:
    return [found.get_text() for found in figure.findobj(Text)]


def colour(figure: Figure, column: int, row: int) -> list[int]:
    """The pixel in the middle of a cell of the first panel, by the names of its row and its column."""
    axes, pixels = figure.axes[0], to_pixels(figure)
    place = axes.get_xticks()[column], axes.get_yticks()[row]
    x, y = axes.transData.transform(place)
    return pixels[len(pixels) - 1 - int(y), int(x)].tolist()


def diverging(value: float) -> list[float]:
    return pytest.approx([255 * channel for channel in colormaps["PuOr_r"]((value + 1) / 2)[:3]], abs=2.5)


def test_a_cosine_has_one_colour_at_every_step_and_in_every_layer():
    for step, far in ((0, -1.0), (90, 0.1)):
        values = np.array([[[1, -0.5, far], [-0.2, 1, 0], [far, 0, 1]]])
        figure = draw_token_cosines(make(values, step))
        assert colour(figure, 0, 0) == diverging(1)
        assert colour(figure, 1, 0) == diverging(-0.5)
        assert colour(figure, 0, 1) == diverging(-0.2)
        assert colour(figure, 2, 0) == diverging(far)
        assert colour(figure, 2, 1) == diverging(0)


def test_what_has_no_gradient_is_grey():
    values = np.array([[[np.nan, np.nan], [np.nan, 1]]])
    figure = draw_token_cosines(make(values))
    assert colour(figure, 0, 0) == GREY
    assert colour(figure, 1, 1) == diverging(1)


@pytest.mark.parametrize(("layers", "tokens"), [(1, 1), (1, 2), (5, 5), (16, 5), (3, 14)])
def test_every_layer_and_token_is_named(layers, tokens):
    figure = draw_token_cosines(make(np.zeros((layers, tokens, tokens)), 37))
    found = texts(figure)
    assert all(f"layer{k}" in found for k in range(layers))
    assert all(f"token{k}" in found for k in range(tokens))
    assert any("step 37" in text for text in found)
    assert any("cosine" in text for text in found)


@pytest.mark.parametrize("tokens", [3, 14, 15, 100])
def test_names_leave_room_for_each_other(tokens):
    figure = draw_token_cosines(make(np.zeros((2, tokens, tokens))))
    to_pixels(figure)
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    boxes.sort(key=lambda box: box.y0)
    assert all(lower.y1 <= upper.y0 + 2 for lower, upper in pairwise(boxes))
