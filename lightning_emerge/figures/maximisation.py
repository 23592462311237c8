"""Pictures of images that excite filters the most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import mosaic, new_figure, to_rgb
from lightning_emerge.records import FloatArray, Measurement

_GAP = 4


def draw_maximised(measurement: Measurement) -> Figure:
    """Draws the images of one look, a row a layer and a column a filter; filters that nothing excites are crossed out.

    Args:
        measurement: values (layer, filter, channel, y, x) from 0 to 1 with 1 or 3 channels, NaN where there is no
            image; the note `filters` of the layer axis says how many filters of each layer were looked at.
    """
    layers, filters = measurement.axes[:2]
    counts = [int(count) for count in layers.notes["filters"]]
    there = np.arange(len(filters.labels)) < np.array(counts)[:, None]
    figure, axes = _draw_sheet(measurement.values, there)
    _label(axes, measurement.values, layers.labels, filters.labels)
    axes.set_xlabel("filter, by number")
    axes.set_title(f"Images that excite filters the most, step {measurement.step}", fontsize=10)
    return figure


def draw_maximised_steps(
    images: FloatArray, steps: Sequence[int], layer: str, filters: Sequence[int] | None = None
) -> Figure:
    """Draws the images of a layer's filters (rows) at some steps (columns).

    Args:
        images: (step, filter, channel, y, x) from 0 to 1 with 1 or 3 channels, NaN for a dead filter.
        steps: optimizer steps.
        layer: its name.
        filters: numbers of the filters; from 0 on if none are given.
    """
    rows = images.swapaxes(0, 1)
    figure, axes = _draw_sheet(rows, np.ones(rows.shape[:2], dtype=bool))
    _label(axes, rows, list(range(len(rows))) if filters is None else filters, steps)
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel("filter, by number")
    axes.set_title(f"Images that excite filters of {layer} the most", fontsize=10)
    return figure


def _draw_sheet(images: FloatArray, there: npt.NDArray[np.bool_]) -> tuple[Figure, Axes]:
    """Draws images (row, column, channel, y, x); crosses out those that are there and NaN."""
    rows, columns, channels, height, width = images.shape
    tiles = images.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    missing = np.isnan(tiles.reshape(len(tiles), -1)).any(axis=1)
    tiles = np.where(missing.reshape(-1, 1, 1, 1), 1, tiles)
    sheet, corners = mosaic(to_rgb(tiles), columns, _GAP)
    figure = new_figure(0.8 * columns + 1.0, 0.8 * rows + 0.9)
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest", vmin=0, vmax=1)
    for (left, top), dead in zip(corners, missing & there.ravel(), strict=True):
        if dead:
            right, bottom = left + width - 1, top + height - 1
            axes.plot([left, right, np.nan, left, right], [top, bottom, np.nan, bottom, top], color="0.6", lw=0.8)
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            axes.text((left + right) / 2, (top + bottom) / 2, "dead", ha="center", va="center", fontsize=8, bbox=box)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8)
    return figure, axes


def _label(axes: Axes, images: FloatArray, rows: Sequence[object], columns: Sequence[object]) -> None:
    height, width = images.shape[-2:]
    axes.set_yticks([k * (height + _GAP) + height / 2 for k in range(len(rows))], [str(row) for row in rows])
    axes.set_xticks([k * (width + _GAP) + width / 2 for k in range(len(columns))], [str(name) for name in columns])
