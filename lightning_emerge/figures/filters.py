"""Pictures of first-layer kernels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import mosaic, to_rgb
from lightning_emerge.figures.frames import Frame, reused
from lightning_emerge.records import FloatArray, Measurement

_COLUMNS = 8


def draw_kernels(measurement: Measurement) -> Figure:
    """Draws each filter's kernel in colour (or grey, for one channel) on a range that is the same at every step.

    A weight of zero is middle grey. The range is 4 / sqrt(fan-in) either way, 2.8 standard deviations of He's
    initialisation; weights beyond it are cut.

    Args:
        measurement: values (layer, filter, channel, y, x) of one layer, with 1 or 3 channels. Records of earlier
            versions have no axis of layers and say in `about` which it is.
    """
    filters, channels, height, width = measurement.values.shape[-4:]
    values = measurement.values.reshape(filters, channels, height, width)
    first = measurement.axes[0]
    layer = str(first.labels[0]) if first.name == "layer" else measurement.about
    figure = _frame(values.shape, layer)
    image, title, *_ = figure.moving
    colours = np.nan_to_num(255 * kernel_colours(values), nan=255)  # a weight that is not a number is white
    image.set_data(_lay_out(colours.round().astype(np.uint8))[0])
    title.set_text(_title(layer, measurement.step))
    return figure


@reused
def _frame(shape: tuple[int, int, int, int], layer: str) -> Frame:
    """All but the kernels of `draw_kernels`."""
    filters, _, height, width = shape
    sheet, corners = _lay_out(np.zeros((filters, height, width, 3), np.uint8))
    columns = min(_COLUMNS, filters)
    rows = -(-filters // columns)
    figure = Frame(0.8 * columns + 0.3, 0.8 * rows + 0.8)
    axes = figure.subplots()
    image = axes.imshow(sheet, interpolation="nearest")
    for number, (x, y) in enumerate(corners):
        axes.text(x, y - 2, str(number), ha="left", va="bottom", fontsize=7)
    axes.set_axis_off()
    title = axes.set_title(_title(layer, 0), fontsize=10, pad=14)
    reach = _reach(shape)
    figure.supxlabel(f"one square a filter, by number; grey is 0, full colour is ±{reach:.2f} or beyond", fontsize=8)
    figure.moving = [image, title, *axes.texts]
    return figure


def _title(layer: str, step: int) -> str:
    return f"Kernels of {layer}, step {step}"


def _lay_out(tiles: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], list[tuple[int, int]]]:
    zoom = max(1, 24 // tiles.shape[2])
    tiles = tiles.repeat(zoom, axis=1).repeat(zoom, axis=2)
    return mosaic(tiles, min(_COLUMNS, len(tiles)), zoom * 2)


def kernel_colours(kernels: FloatArray) -> FloatArray:
    """Colours (filter, y, x, 3), 0 to 1, of kernels (filter, channel, y, x), on `draw_kernels`'s range."""
    return to_rgb(np.clip(0.5 + kernels.transpose(0, 2, 3, 1) / (2 * _reach(kernels.shape)), 0, 1))


def _reach(shape: tuple[int, ...]) -> float:
    return 4 / np.sqrt(np.prod(shape[1:]))
