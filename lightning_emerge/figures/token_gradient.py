"""Pictures of which tokens' gradients agree."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import colours_of, mosaic, new_figure
from lightning_emerge.records import Measurement

_CELL = 12  # pixels of the sheet a side, so that gaps can be narrower than a cell
_NAMES = 14  # there is room for along one side of a panel


def draw_token_cosines(measurement: Measurement) -> Figure:
    """Draws a matrix of tokens for each layer, all on one fixed range of colours, that of the record.

    Args:
        measurement: values (layer, token, token).
    """
    layers, tokens = measurement.axes[0].labels, [str(token) for token in measurement.axes[1].labels]
    colours, scale = colours_of(measurement)
    tiles = colours(scale(np.ma.masked_invalid(measurement.values)), bytes=True)[..., :3]
    tiles = tiles.repeat(_CELL, axis=1).repeat(_CELL, axis=2)
    size, columns = tiles.shape[1], min(4, len(tiles))
    rows, gap = -(-len(tiles) // columns), max(4, size // 5)
    sheet, corners = mosaic(tiles, columns, gap)
    figure = new_figure(1.85 * columns + 1.9, 1.95 * rows + 0.9)
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    for (x, y), layer in zip(corners, layers, strict=True):
        axes.text(x + size / 2, y - gap / 8, str(layer), ha="center", va="bottom", fontsize=9)
    _name_tokens(axes, tokens, corners)
    axes.set_title(f"Which tokens' gradients agree, step {measurement.step}", fontsize=10, pad=18)
    bar = figure.colorbar(ScalarMappable(scale, colours), ax=axes, shrink=0.7)
    bar.set_label("cosine of two tokens' gradients\n(below 0 = conflict; grey = no gradient)", fontsize=8)
    return figure


def _name_tokens(axes: Axes, tokens: list[str], corners: list[tuple[int, int]]) -> None:
    """Names the rows of the first panels and the columns of the last; every n-th if there is no room for all."""
    shown = range(0, len(tokens), -(-len(tokens) // _NAMES))
    middles, names = [(k + 0.5) * _CELL - 0.5 for k in shown], [tokens[k] for k in shown]
    tops = sorted({y for _, y in corners})
    lefts = [x for x, y in corners if y == tops[-1]]
    axes.set_yticks([y + middle for y in tops for middle in middles], names * len(tops), fontsize=8)
    axes.set_xticks([x + middle for x in lefts for middle in middles], names * len(lefts), fontsize=8, rotation=90)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
