"""Pictures of maximising images: colours as they are, names of rows and columns, dead filters crossed out."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.figures.maximisation import draw_maximised, draw_maximised_steps
from lightning_emerge.records import Axis, Measurement


def make(values: np.ndarray, counts: list[int], step: int = 0) -> Measurement:
    layers = Axis("layer", [f"conv{k}" for k in range(len(values))], notes={"filters": counts})
    names = ("filter", "channel", "y", "x")
    axes = tuple(Axis(name, range(size)) for name, size in zip(names, values.shape[1:], strict=True))
    return Measurement("maximising_image", values.astype(np.float32), (layers, *axes), step)


def even(*shape: int, level: float = 0.5) -> np.ndarray:
    return np.full(shape, level, dtype=np.float32)


def words(figure: Figure) -> list[str]:
    return [found.get_text() for found in figure.findobj(Text) if found.get_text()]


def colour(figure: Figure, x: float, y: float) -> list[int]:
    pixels = to_pixels(figure)
    column, row = figure.axes[0].transData.transform((x, y))
    return pixels[len(pixels) - 1 - int(row), int(column)].tolist()


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_have_their_own_colours(channels):
    values = even(1, 2, channels, 16, 16, level=0.0)
    values[0, 0, 0, :8] = 1
    values[0, 1] = 0.6
    figure = draw_maximised(make(values, [2]))
    assert colour(figure, 8, 3) == ([255, 0, 0] if channels == 3 else [255] * 3)
    assert colour(figure, 8, 12) == [0, 0, 0]
    assert colour(figure, 20 + 8, 8) == pytest.approx([153] * 3, abs=1)


def test_dead_filters_are_crossed_out_and_those_that_are_not_there_are_blank():
    values = even(2, 3, 3, 16, 16)
    values[0, 1] = values[1, 1:] = np.nan
    figure = draw_maximised(make(values, [3, 1], step=37))
    found = words(figure)
    assert found.count("dead") == 1
    assert len(figure.axes[0].lines) == 1
    assert {"conv0", "conv1", "0", "1", "2"} <= set(found)
    assert "step 37" in figure.axes[0].get_title()
    assert colour(figure, 40 + 8, 20 + 8) == [255, 255, 255]
    x, y = figure.axes[0].lines[0].get_data()
    assert (np.nanmin(x), np.nanmax(x), np.nanmin(y), np.nanmax(y)) == (20, 35, 0, 15)


def test_a_sheet_has_a_row_a_filter_and_a_column_a_step():
    values = even(3, 2, 3, 16, 16)
    values[2, 0] = 1
    values[0, 1] = np.nan
    figure = draw_maximised_steps(values, [0, 10, 624], "conv4_3", [5, 9])
    found = words(figure)
    assert {"0", "10", "624", "5", "9", "dead"} <= set(found)
    assert "conv4_3" in figure.axes[0].get_title()
    assert colour(figure, 40 + 8, 8) == [255, 255, 255]
    assert colour(figure, 40 + 8, 20 + 8) == pytest.approx([127.5] * 3, abs=1)
    assert [label.get_text() for label in draw_maximised_steps(values, [0, 1, 2], "x").axes[0].get_yticklabels()] == [
        "0",
        "1",
    ]
