"""Pictures of the stimuli that drive filters most."""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb as hex_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lightning_emerge.figures.canvas import EMPTY, TOKEN_COLOURS, mosaic, new_figure, to_rgb
from lightning_emerge.records import Measurement

_FRAME = 2


def draw_top_exemplars(measurement: Measurement) -> Figure:
    """Draws the top exemplars of each filter: layers as rows, filters as columns, framed in their tokens' colours.

    Args:
        measurement: `top_crop`, values (layer, filter, exemplar, channel, y, x) from 0 to 1, NaN outside of the image
            and for dead filters; with the arrays `token` (layer, filter, exemplar), the label of each, `tokens`, their
            names, and `filters`, how many a layer has, beside it.
    """
    layers, filters = (axis.labels for axis in measurement.axes[:2])
    labels, names = measurement.beside["token"], [str(name) for name in measurement.beside["tokens"]]
    values = measurement.values.astype(np.float32)
    cells = [frame_strip(*pair) for row in zip(values, labels, strict=True) for pair in zip(*row, strict=True)]
    sheet, corners = mosaic(np.stack(cells), len(filters), 6)
    height, width = cells[0].shape[:2]
    figure = new_figure(0.9 + sheet.shape[1] / 100, 1.3 + sheet.shape[0] / 100)
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    for number, (x, y) in enumerate(corners):
        row, column = divmod(number, len(filters))
        if column >= measurement.beside["filters"][row]:
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, color="white"))
        elif np.isnan(labels[row, column]).all():
            axes.text(x + width / 2, y + height / 2, "dead", ha="center", va="center", fontsize=8)
    axes.set_yticks([corners[row * len(filters)][1] + height / 2 for row in range(len(layers))], [*map(str, layers)])
    axes.set_xticks([x + width / 2 for x, _ in corners[: len(filters)]], [*map(str, filters)])
    axes.set_xlabel("filter")
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    axes.set_title(f"What drives each filter most, step {measurement.step}", fontsize=10)
    patches = [Patch(color=token_colour(k), label=name) for k, name in enumerate(names[: len(TOKEN_COLOURS)])]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(8, len(patches)), frameon=False, fontsize=8)
    return figure


def token_colour(label: int) -> tuple[float, float, float]:
    """The colour of a token's frame."""
    return hex_to_rgb(TOKEN_COLOURS[label % len(TOKEN_COLOURS)])


def frame_strip(crops: npt.NDArray[np.float32], labels: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Lays crops (exemplar, channel, y, x) side by side, each in the colour of its label; grey where there is none."""
    return mosaic(_frame(crops, labels), len(crops), 1)[0]


def frame_block(crops: npt.NDArray[np.float32], labels: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """The same in as many rows as columns."""
    return mosaic(_frame(crops, labels), ceil(sqrt(len(crops))), 1)[0]


def _frame(crops: npt.NDArray[np.float32], labels: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    tiles = to_rgb(crops.transpose(0, 2, 3, 1))
    count, height, width = tiles.shape[:3]
    framed = np.full((count, height + 2 * _FRAME, width + 2 * _FRAME, 3), EMPTY, dtype=np.float32)
    for tile, label, frame in zip(tiles, labels, framed, strict=True):
        if np.isfinite(label):
            frame[:] = token_colour(int(label))
        frame[_FRAME:-_FRAME, _FRAME:-_FRAME] = np.where(np.isfinite(tile), tile.clip(0, 1), EMPTY)
    return framed
