"""Pictures of first-layer kernels."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import mosaic, new_figure, to_rgb
from lightning_emerge.records import FloatArray, Measurement


def draw_kernels(measurement: Measurement) -> Figure:
    """Draws each filter's kernel in colour (or grey, for one channel) on a range that is the same at every step.

    A weight of zero is middle grey. The range is 4 / sqrt(fan-in) either way, 2.8 standard deviations of He's
    initialisation; weights beyond it are cut.

    Args:
        measurement: values (filter, channel, y, x) with 1 or 3 channels.
    """
    values = measurement.values
    filters, width = len(values), values.shape[3]
    reach = _reach(values)
    tiles = kernel_colours(values)
    zoom = max(1, 24 // width)
    tiles = tiles.repeat(zoom, axis=1).repeat(zoom, axis=2)
    columns = min(8, filters)
    sheet, corners = mosaic(tiles, columns, zoom * 2)
    rows = -(-filters // columns)
    figure = new_figure(0.8 * columns + 0.3, 0.8 * rows + 0.8)
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    for number, (x, y) in enumerate(corners):
        axes.text(x, y - 2, str(number), ha="left", va="bottom", fontsize=7)
    axes.set_axis_off()
    axes.set_title(f"Kernels of {measurement.about}, step {measurement.step}", fontsize=10, pad=14)
    figure.supxlabel(f"one square a filter, by number; grey is 0, full colour is ±{reach:.2f} or beyond", fontsize=8)
    return figure


def kernel_colours(kernels: FloatArray) -> FloatArray:
    """Colours (filter, y, x, 3), 0 to 1, of kernels (filter, channel, y, x), on `draw_kernels`'s range."""
    return to_rgb(np.clip(0.5 + kernels.transpose(0, 2, 3, 1) / (2 * _reach(kernels)), 0, 1))


def _reach(kernels: FloatArray) -> float:
    return 4 / np.sqrt(kernels[0].size)
