"""Pictures of representational dissimilarity matrices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import EMPTY, mosaic, new_figure
from lightning_emerge.figures.frames import Frame, reused
from lightning_emerge.records import FloatArray, Measurement

_RANGE, _MULTIPLES = (0.0, 1.0), (0.0, 2.0)
_MOST = 200


def draw_rdms(measurement: Measurement, *, bounded: bool = True) -> Figure:
    """Draws the RDM of each layer, stimuli in the order of their tokens, all on one fixed range of colours.

    Args:
        measurement: values (layer, stimulus, stimulus); the note `token` of the first stimulus axis names the tokens.
        bounded: whether 1 stands for unrelated responses, as with correlations and cosines. Other distances are shown
            as multiples of their layer's mean, as they have no range that is known beforehand.
    """
    layer_axis, stimulus_axis = measurement.axes[:2]
    tokens = [str(token) for token in stimulus_axis.notes["token"]]
    order = np.argsort([tokens.index(token) for token in tokens], kind="stable")
    colours, scale = _colours(_RANGE if bounded else _MULTIPLES)
    # One layer after the other: a bank of 500 in 16 layers would take 400 MB at once.
    tiles = np.stack(
        [
            _paint(_shrink(values[np.ix_(order, order)]) / (1 if bounded else _mean(values)), colours, scale)
            for values in measurement.values
        ]
    )
    layers = tuple(str(layer) for layer in layer_axis.labels)
    figure = _frame(layers, tuple(tokens[k] for k in order), tiles.shape[1], measurement.unit, bounded)
    image, title, *_ = figure.moving
    image.set_data(_lay_out(tiles)[0])
    title.set_text(_title(len(tokens), measurement.step))
    return figure


@reused
def _frame(layers: tuple[str, ...], tokens: tuple[str, ...], size: int, unit: str, bounded: bool) -> Frame:
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
    note = "1 = uncorrelated or opposite" if bounded else "over the layer's mean distance"
    colours, scale = _colours(_RANGE if bounded else _MULTIPLES)
    _add_bar(figure, axes, ScalarMappable(scale, colours), f"{unit}\n({note}; grey = no response)")
    figure.moving = [image, title, *axes.texts]
    return figure


def _title(stimuli: int, step: int) -> str:
    return f"Dissimilarity of the layers' responses to {stimuli} stimuli, step {step}"


def _lay_out(tiles: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], list[tuple[int, int]]]:
    return mosaic(tiles, min(4, len(tiles)), _gap(tiles.shape[1]))


def _gap(size: int) -> int:
    return max(2, size // 5)


def _paint(values: FloatArray, colours: Colormap, scale: Normalize) -> npt.NDArray[np.uint8]:
    return colours(scale(np.ma.masked_invalid(values)), bytes=True)


def _mean(rdm: FloatArray) -> float:
    apart = rdm[~np.eye(len(rdm), dtype=bool)]
    known = apart[np.isfinite(apart)]
    return float(known.mean()) or np.nan if len(known) else np.nan


def _shrink(values: FloatArray) -> FloatArray:
    """Averages neighbours until no side is longer than `_MOST`, which is what a panel has pixels for."""
    factor = -(-len(values) // _MOST)
    if factor == 1:
        return values
    padded = np.pad(values, (0, -len(values) % factor), constant_values=np.nan)
    known = np.isfinite(padded)
    if known.all():
        return _add_blocks(padded, factor) / factor**2
    counts = _add_blocks(known.astype(values.dtype), factor)
    return np.where(counts, _add_blocks(np.where(known, padded, 0), factor) / np.maximum(counts, 1), np.nan)


def _add_blocks(values: FloatArray, side: int) -> FloatArray:
    """Sums over squares of neighbours."""
    rows = sum(values[start::side] for start in range(1, side)) + values[::side]
    return sum(rows[:, start::side] for start in range(1, side)) + rows[:, ::side]


def draw_rdm_steps(
    rdms: FloatArray, steps: Sequence[int], layers: Sequence[str], tokens: Sequence[str], unit: str
) -> Figure:
    """Draws RDMs of some layers (rows) at some steps (columns), on `draw_rdms`'s range of colours.

    Args:
        rdms: (step, layer, stimulus, stimulus), stimuli in the order of their tokens.
        steps: optimizer steps.
        layers: names of the layers.
        tokens: token of each stimulus.
        unit: of the dissimilarity.
    """
    size, (count, rows) = len(tokens), rdms.shape[:2]
    gap = max(2, size // 12)
    colours, scale = _colours()
    flat = rdms.swapaxes(0, 1).reshape(-1, size, size)
    sheet, corners = mosaic(_paint(flat, colours, scale), count, gap)
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
    note = "1 = uncorrelated or opposite; grey = no response"
    _add_bar(figure, axes, ScalarMappable(scale, colours), f"{unit}\n({note})")
    return figure


def _colours(limits: tuple[float, float] = _RANGE) -> tuple[Colormap, Normalize]:
    return colormaps["viridis"].with_extremes(bad=str(EMPTY)), Normalize(*limits)


def _add_bar(figure: Figure, axes: Axes, colours: ScalarMappable, label: str) -> None:
    figure.colorbar(colours, ax=axes, shrink=0.7, extend="max").set_label(label)


def _blocks(tokens: Sequence[str]) -> tuple[list[int], list[str]]:
    """Where each run of the same token begins, with the end, and its name."""
    starts = [k for k, token in enumerate(tokens) if k == 0 or token != tokens[k - 1]]
    return [*starts, len(tokens)], [tokens[k] for k in starts]
