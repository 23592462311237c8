"""Pictures of kernels: one range of colours, zero grey, a number for each filter."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.figures.filters import draw_kernels
from lightning_emerge.records import Axis, Measurement


def make(values: np.ndarray, step: int = 0) -> Measurement:
    names = ("filter", "channel", "y", "x")
    axes = tuple(Axis(name, range(size)) for name, size in zip(names, values.shape, strict=True))
    return Measurement("kernels", values.astype(np.float32), axes, step, "weight", about="conv1_1")


def texts(figure: Figure) -> dict[str, tuple[float, float]]:
    return {found.get_text(): found.get_position() for found in figure.findobj(Text) if found.get_text()}


def colour(figure: Figure, number: int, right: float = 12, down: float = 14) -> list[int]:
    """The pixel right of and below the number of a filter; a square is about 24 wide."""
    pixels = to_pixels(figure)
    left, top = texts(figure)[str(number)]
    x, y = figure.axes[0].transData.transform((left + right, top + down))
    return pixels[len(pixels) - 1 - int(y), int(x)].tolist()


def even(*weights: float, channels: int = 3) -> np.ndarray:
    """Filters of 3 x 3 kernels, each with one weight all over; the range is 4 / sqrt(fan-in) either way."""
    reach = 4 / np.sqrt(channels * 9)
    return np.broadcast_to(reach * np.array(weights)[:, None, None, None], (len(weights), channels, 3, 3)).copy()


@pytest.mark.parametrize("channels", [1, 3])
def test_zero_is_middle_grey_and_what_is_beyond_the_range_is_cut(channels):
    figure = draw_kernels(make(even(0, 0.5, -0.5, 1, -1, 7, -7, channels=channels)))
    for number, level in enumerate((127.5, 191.25, 63.75, 255, 0, 255, 0)):
        assert colour(figure, number) == pytest.approx([level] * 3, abs=1)


def test_a_weight_has_one_colour_at_every_step():
    early, late = draw_kernels(make(even(0.3, 0.0), step=0)), draw_kernels(make(even(0.3, 9.0), step=500))
    assert colour(early, 0) == colour(late, 0)
    assert colour(early, 1) != colour(late, 1)


def test_channels_are_red_green_and_blue():
    values = even(0, 0, 0)
    for k in range(3):
        values[k, k] = 5
    figure = draw_kernels(make(values))
    for k in range(3):
        assert colour(figure, k) == pytest.approx([255 if channel == k else 127.5 for channel in range(3)], abs=1)


def test_rows_run_down_and_columns_across():
    values = even(-1)
    values[0, :, 0, 2] = 5
    figure = draw_kernels(make(values))
    assert colour(figure, 0, right=20, down=6) == [255, 255, 255]
    assert colour(figure, 0, right=4, down=22) == [0, 0, 0]


@pytest.mark.parametrize("shape", [(1, 3, 3, 3), (10, 1, 5, 5), (64, 3, 7, 7), (4, 3, 30, 5)])
def test_every_filter_is_numbered(shape):
    figure = draw_kernels(make(np.random.default_rng(0).normal(size=shape), step=37))
    found = texts(figure)
    assert all(str(k) in found for k in range(shape[0]))
    assert len({found[str(k)] for k in range(shape[0])}) == shape[0]
    assert "Kernels of conv1_1, step 37" in found
    assert any(f"±{4 / np.sqrt(np.prod(shape[1:])):.2f}" in text for text in found)
