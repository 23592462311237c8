"""Pictures of confusion matrices: fixed colours, shares as text, names on both axes."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.text import Text

from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.figures.confusion import draw_confusion
from lightning_emerge.records import Axis, Measurement


def make(values: np.ndarray, step: int = 0) -> Measurement:
    names = [f"token{k}" for k in range(len(values))]
    axes = (Axis("token", names), Axis("predicted", names))
    return Measurement(
        "val/confusion", np.asarray(values, dtype=np.float32), axes, step, "share", about="Validation", range=(0, 1)
    )


def texts(figure: Figure) -> list[str]:
    return [found.get_text() for found in figure.findobj(Text)]


def colour(figure: Figure, column: float, row: float) -> list[int]:
    """The pixel in a corner of a cell, clear of its text."""
    pixels = to_pixels(figure)
    x, y = figure.axes[0].transData.transform((column - 0.4, row - 0.4))
    return pixels[len(pixels) - 1 - int(y), int(x)].tolist()


def viridis(value: float) -> list[float]:
    return pytest.approx([255 * channel for channel in colormaps["viridis"](float(value))[:3]], abs=1.5)


def test_a_share_has_one_colour_at_every_step():
    early = draw_confusion(make(np.array([[0.25, 0.75], [0.5, 0.5]]), 0))
    late = draw_confusion(make(np.array([[0.25, 0.75], [0.0, 1.0]]), 90))
    assert colour(early, 0, 0) == colour(late, 0, 0) == viridis(0.25)
    assert colour(late, 0, 1) == viridis(0)
    assert colour(late, 1, 1) == viridis(1)


def test_the_token_shown_is_the_row():
    figure = draw_confusion(make(np.array([[0, 1, 0], [0, 1, 0], [0, 0, 1]])))
    assert colour(figure, 1, 0) == viridis(1)
    assert colour(figure, 0, 1) == viridis(0)
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "token shown")


@pytest.mark.parametrize(("tokens", "numbers"), [(1, True), (5, True), (20, True), (21, False)])
def test_everything_is_named(tokens, numbers):
    values = np.full((tokens, tokens), 0.01)
    np.fill_diagonal(values, 0.37)
    figure = draw_confusion(make(values, 12))
    found = texts(figure)
    axes = figure.axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == [f"token{k}" for k in range(tokens)]
    assert found.count("0.37") == (tokens if numbers else 0)
    assert "Validation, step 12" in found
    assert "share of the token's exemplars" in found
