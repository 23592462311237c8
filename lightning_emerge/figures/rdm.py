"""Pictures of representational dissimilarity matrices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import EMPTY, mosaic, new_figure
from lightning_emerge.figures.frames import Frame, reused
from lightning_emerge.records import FloatArray, Measurement

_COLOURS = colormaps["viridis"].with_extremes(bad=str(EMPTY))

MOST_CELLS = 200
"""Cells a side that a panel has pixels for."""


def draw_rdms(measurement: Measurement) -> Figure:
    """Draws the RDM of each layer, stimuli in the order of their tokens, all on one fixed range of colours.

    Colours end where the range of the record does, as that of correlations and cosines at 2. A dissimilarity without
    an end is shown as a multiple of its layer's mean.

    Args:
        measurement: an RDM (layer, stimulus, stimulus), with three arrays beside it: `cells` (layer, cell, cell), what
            is shown of it, no more than `MOST_CELLS` a side; `tokens`, that of each stimulus, in the order of the
            cells; and `reach` (layer,), the dissimilarity at which its colours end: the end of the range, or twice the
            layer's mean.
    """
    cells, reach = measurement.beside["cells"], measurement.beside["reach"]
    tokens = tuple(str(token) for token in measurement.beside["tokens"])
    tiles = np.stack([_paint(own, end) for own, end in zip(cells, reach.tolist(), strict=True)])
    layers = tuple(str(layer) for layer in measurement.axes[0].labels)
    figure = _frame(layers, tokens, tiles.shape[1], measurement.unit, measurement.range[1])
    image, title, *_ = figure.moving
    image.set_data(_lay_out(tiles)[0])
    title.set_text(_title(len(tokens), measurement.step))
    return figure


@reused
def _frame(layers: tuple[str, ...], tokens: tuple[str, ...], size: int, unit: str, end: float | None) -> Frame:
    """All but the tiles of `draw_rdms`, which are of `size` cells a side."""
    sheet, corners = _lay_out(np.zeros((len(layers), size, size, 4), np.uint8))
    gap, columns = _gap(size), min(4, len(layers))
    rows = -(-len(layers) // columns)
    figure = Frame(1.85 * columns + 1.5, 1.95 * rows + 0.7)
    axes = figure.subplots()
    image = axes.imshow(sheet, interpolation="nearest")
    for (x, y), layer in zip(corners, layers, strict=True):
        axes.text(x + size / 2, y - gap / 8, layer, ha="center", va="bottom", fontsize=9)
    edges, names = _blocks(tokens)
    middles = [(low + high) / 2 * size / len(tokens) for low, high in pairwise(edges)]
    bottom = corners[-1][1]
    last_row = [x for x, y in corners if y == bottom]
    axes.set_yticks([y + m for y in sorted({y for _, y in corners}) for m in middles], names * rows, fontsize=8)
    axes.set_xticks([x + m for x in last_row for m in middles], names * len(last_row))
    axes.tick_params(length=0)
    axes.tick_params(axis="x", labelrotation=90, labelsize=8)
    axes.spines[:].set_visible(False)
    title = axes.set_title(_title(len(tokens), 0), pad=18)
    _add_bar(figure, axes, end, 2.0, unit, "over the layer's mean distance")
    figure.moving = [image, title, *axes.texts]
    return figure


def _title(stimuli: int, step: int) -> str:
    return f"Dissimilarity of the layers' responses to {stimuli} stimuli, step {step}"


def _lay_out(tiles: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], list[tuple[int, int]]]:
    return mosaic(tiles, min(4, len(tiles)), _gap(tiles.shape[1]))


def _gap(size: int) -> int:
    return max(2, size // 5)


def _paint(values: FloatArray, end: float) -> npt.NDArray[np.uint8]:
    """Colours of dissimilarities; grey for what is not known, and for all if the end of colours is not."""
    known = np.isfinite(values) & np.isfinite(end)
    return _COLOURS(Normalize(0, end)(np.ma.masked_array(values, ~known)), bytes=True)


def draw_rdm_steps(
    rdms: FloatArray,
    steps: Sequence[int],
    layers: Sequence[str],
    tokens: Sequence[str],
    unit: str,
    end: float | None = None,
) -> Figure:
    """Draws RDMs of some layers (rows) at some steps (columns), on one range of colours from 0.

    Args:
        rdms: (step, layer, stimulus, stimulus), stimuli in the order of their tokens.
        steps: optimizer steps.
        layers: names of the layers.
        tokens: token of each stimulus.
        unit: of the dissimilarity.
        end: of its range, at which colours end; None if it has none: then they do at the largest of each layer.
    """
    size, (count, rows) = len(tokens), rdms.shape[:2]
    gap = max(2, size // 12)
    by_layer = rdms.swapaxes(0, 1)
    tiles = [_paint(own, float(np.fmax.reduce(own, axis=None)) if end is None else end) for own in by_layer]
    sheet, corners = mosaic(np.concatenate(tiles), count, gap)
    figure = new_figure(max(1.45 * count + 2.1, 6.8), 1.4 * rows + 1.0)
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    axes.set_yticks([corners[row * count][1] + size / 2 for row in range(rows)], layers)
    axes.set_xticks([corners[column][0] + size / 2 for column in range(count)], [str(step) for step in steps])
    axes.set_xlabel("optimizer steps")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    names = list(dict.fromkeys(tokens))
    title = f"Dissimilarity of responses to {len(tokens)} stimuli, in the order {', '.join(names)}"
    figure.suptitle(title, fontsize=10)
    _add_bar(figure, axes, end, 1.0, unit, "over the layer's largest")
    return figure


def _add_bar(figure: Figure, axes: Axes, end: float | None, most: float, unit: str, over: str) -> None:
    """A bar of colours up to the end of the range; without one, up to the most of something that values are over."""
    note = over if end is None else "1 = unrelated, 2 = opposite"
    colours = ScalarMappable(Normalize(0, most if end is None else end), _COLOURS)
    bar = figure.colorbar(colours, ax=axes, shrink=0.7, extend="max" if end is None and most > 1 else "neither")
    bar.set_label(f"{unit}\n({note}; grey = no response)")


def _blocks(tokens: Sequence[str]) -> tuple[list[int], list[str]]:
    """Where each run of the same token begins, with the end, and its name."""
    starts = [k for k, token in enumerate(tokens) if k == 0 or token != tokens[k - 1]]
    return [*starts, len(tokens)], [tokens[k] for k in starts]
