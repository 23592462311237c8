"""Figures without pyplot: no global state, nothing to close, the same picture from any thread."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from lightning_emerge.figures.frames import DRAWING, Frame, with_channels
from lightning_emerge.figures.words import PlainFigure
from lightning_emerge.records import Measurement

TOKEN_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#F0E442")
"""Okabe & Ito's palette, which readers with any colour vision can tell apart; reused beyond eight tokens."""

TOKEN_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

EMPTY = 0.85
"""Grey level of what could not be measured."""


def new_figure(width: float, height: float) -> Figure:
    """Makes an empty figure of a size in inches."""
    return PlainFigure(figsize=(width, height), dpi=100, layout="constrained")


def colours_of(measurement: Measurement) -> tuple[Colormap, Normalize]:
    """The colours of a measurement's values, by the range and the scale that its record declares; NaN is grey.

    An open end is where the values end. On either side of zero it is orange against purple, which readers with any
    colour vision can tell apart.
    """
    name = "PuOr_r" if measurement.scale == "diverging" else "viridis"
    return colormaps[name].with_extremes(bad=str(EMPTY)), Normalize(*measurement.range)


def add_legend(to: Axes | Figure, handles: Iterable[Any], **style: Any) -> None:
    """Names handles by their labels, also those that begin with "_", which matplotlib leaves out by itself."""
    own = list(handles)
    to.legend(own, [handle.get_label() for handle in own], **style)


def to_pixels(figure: Figure) -> npt.NDArray[np.uint8]:
    """Draws a figure to an RGB array (y, x, channel)."""
    with DRAWING:
        if isinstance(figure, Frame):
            return with_channels(figure.draw_pixels(), 3)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return with_channels(np.asarray(canvas.buffer_rgba()), 3)


def to_png(figure: Figure) -> bytes:
    """Draws a figure to the content of a PNG file."""
    content = BytesIO()
    canvas = cast(FigureCanvasAgg, figure.canvas) if isinstance(figure, Frame) else FigureCanvasAgg(figure)
    with DRAWING:
        canvas.print_png(content)  # `savefig` would draw it twice, the first time to lay it out
    return content.getvalue()


def to_files(figure: Figure) -> tuple[bytes, bytes]:
    """Draws a figure, laid out once, to the contents of a PNG file and of an SVG file that is the same each time."""
    png, content = to_png(figure), BytesIO()
    canvas, dpi, layout = figure.canvas, figure.dpi, figure.get_layout_engine()
    figure.set_layout_engine("none")
    try:
        with DRAWING, rc_context({"svg.hashsalt": "lightning_emerge"}):
            FigureCanvasSVG(figure).print_svg(content, metadata={"Date": None, "Creator": None})
    finally:
        figure.set_canvas(canvas)
        figure.set_layout_engine(layout)
        figure.dpi = dpi
    return png, content.getvalue()


def to_rgb(tiles: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Gives pictures (..., channel) of 1 or 3 channels three."""
    return tiles.repeat(3, axis=-1) if tiles.shape[-1] == 1 else tiles


def mosaic(tiles: npt.NDArray[Any], columns: int, gap: int) -> tuple[npt.NDArray[Any], list[tuple[int, int]]]:
    """Lays tiles (tile, y, x, channel) out in rows on white.

    Args:
        tiles: uint8, or floating from 0 to 1.
        columns: tiles in a row.
        gap: pixels between tiles.

    Returns:
        One picture (y, x, channel), and the (x, y) of each tile's upper left corner.
    """
    count, height, width, channels = tiles.shape
    rows = -(-count // columns)
    white = 255 if tiles.dtype == np.uint8 else 1
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    sheet = np.full(shape, white, dtype=tiles.dtype)
    corners = [((k % columns) * (width + gap), (k // columns) * (height + gap)) for k in range(count)]
    for tile, (x, y) in zip(tiles, corners, strict=True):
        sheet[y : y + height, x : x + width] = tile
    return sheet, corners
