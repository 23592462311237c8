"""Pictures of representational dissimilarity matrices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import EMPTY, mosaic, new_figure
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
    shrunk = [
        _shrink(values[np.ix_(order, order)] / (1 if bounded else _mean(values))) for values in measurement.values
    ]
    tiles = np.stack([colours(scale(np.ma.masked_invalid(values)), bytes=True)[..., :3] for values in shrunk])
    size = tiles.shape[1]
    columns = min(4, len(tiles))
    gap = max(2, size // 5)
    sheet, corners = mosaic(tiles, columns, gap)
    rows = -(-len(tiles) // columns)
    figure = new_figure(1.85 * columns + 1.5, 1.95 * rows + 0.7)
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    for (x, y), layer in zip(corners, layer_axis.labels, strict=True):
        axes.text(x + size / 2, y - gap / 8, str(layer), ha="center", va="bottom", fontsize=9)
    edges, names = _blocks([tokens[k] for k in order])
    middles = [(low + high) / 2 * size / len(tokens) for low, high in pairwise(edges)]
    bottom = corners[-1][1]
    last_row = [x for x, y in corners if y == bottom]
    axes.set_yticks([y + m for y in sorted({y for _, y in corners}) for m in middles], names * rows, fontsize=8)
    axes.set_xticks([x + m for x in last_row for m in middles], names * len(last_row))
    axes.tick_params(length=0)
    axes.tick_params(axis="x", labelrotation=90, labelsize=8)
    axes.spines[:].set_visible(False)
    axes.set_title(f"Dissimilarity of the layers' responses to {len(tokens)} stimuli, step {measurement.step}", pad=18)
    note = "1 = uncorrelated or opposite" if bounded else "over the layer's mean distance"
    _add_bar(figure, axes, ScalarMappable(scale, colours), f"{measurement.unit}\n({note}; grey = no response)")
    return figure


def _mean(rdm: FloatArray) -> float:
    apart = rdm[~np.eye(len(rdm), dtype=bool)]
    known = apart[np.isfinite(apart)]
    return float(known.mean()) or np.nan if len(known) else np.nan


def _shrink(values: FloatArray) -> FloatArray:
    """Averages neighbours until no side is longer than `_MOST`, which is what a panel has pixels for."""
    factor = -(-len(values) // _MOST)
    if factor == 1:
        return values
    missing = -len(values) % factor
    padded = np.pad(values, (0, missing), constant_values=np.nan)
    blocks = padded.reshape(len(padded) // factor, factor, -1, factor)
    counts = np.isfinite(blocks).sum(axis=(1, 3))
    return np.where(counts, np.nansum(blocks, axis=(1, 3)) / np.maximum(counts, 1), np.nan)


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
    tiles = colours(scale(np.ma.masked_invalid(flat)), bytes=True)[..., :3]
    sheet, corners = mosaic(tiles, count, gap)
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
