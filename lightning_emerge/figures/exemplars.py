"""Pictures of the stimuli that drive filters most."""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb as hex_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lightning_emerge.figures.canvas import EMPTY, TOKEN_COLOURS, add_legend, mosaic, to_rgb
from lightning_emerge.figures.frames import Frame, reused
from lightning_emerge.figures.words import NAME
from lightning_emerge.records import FloatArray, Measurement

_FRAME = 2


def draw_top_exemplars(measurement: Measurement) -> Figure:
    """Draws the top exemplars of each filter: layers as rows, filters as columns, framed in their tokens' colours.

    Args:
        measurement: `top_crop`, values (layer, filter, exemplar, channel, y, x) from 0 to 1, NaN outside of the image
            and for dead filters; with the arrays `token` (layer, filter, exemplar), the label of each, `tokens`, their
            names, and `filters`, how many a layer has, beside it.
    """
    layers, filters = (tuple(str(label) for label in axis.labels) for axis in measurement.axes[:2])
    labels, counts = measurement.beside["token"], measurement.beside["filters"]
    cells = _fill(measurement.values, labels)
    there = np.arange(len(filters)) < counts[:, None]
    cells[~there] = 255
    figure = _frame(layers, filters, cells.shape[2:], tuple(str(name) for name in measurement.beside["tokens"]))
    image, title, *words = figure.moving
    image.set_data(_lay_out(cells)[0])
    title.set_text(_title(measurement.step))
    for word, dead in zip(words, (there & np.isnan(labels).all(axis=2)).flat, strict=True):
        word.set_text("dead" if dead else "")
    return figure


@reused
def _frame(
    layers: tuple[str, ...], filters: tuple[str, ...], shape: tuple[int, int, int], tokens: tuple[str, ...]
) -> Frame:
    """All but the crops of `draw_top_exemplars`; those of one filter have one shape (y, x, channel)."""
    height, width, _ = shape
    sheet, corners = _lay_out(np.full((len(layers), len(filters), *shape), 255, np.uint8))
    words_wide = 0.3 + 0.075 * min(NAME, max(8, *map(len, layers)))
    figure = Frame(words_wide + sheet.shape[1] / 100, 1.3 + sheet.shape[0] / 100)
    axes = figure.subplots()
    image = axes.imshow(sheet, interpolation="nearest")
    words = [axes.text(x + width / 2, y + height / 2, "", ha="center", va="center", fontsize=8) for x, y in corners]
    axes.set_yticks([y + height / 2 for _, y in corners[:: len(filters)]], layers)
    axes.set_xticks([x + width / 2 for x, _ in corners[: len(filters)]], filters)
    axes.set_xlabel("filter")
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    title = axes.set_title(_title(0), fontsize=10)
    patches = [Patch(color=token_colour(k), label=name) for k, name in enumerate(tokens[: len(TOKEN_COLOURS)])]
    add_legend(figure, patches, loc="outside lower center", ncols=min(8, len(patches)), frameon=False, fontsize=8)
    figure.moving = [image, title, *words]
    return figure


def _title(step: int) -> str:
    return f"What drives each filter most, step {step}"


def _lay_out(cells: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], list[tuple[int, int]]]:
    return mosaic(cells.reshape(-1, *cells.shape[2:]), cells.shape[1], 6)


def _fill(values: FloatArray, labels: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Lays the crops of each filter side by side, with a gap of one pixel: (layer, filter, y, x, channel)."""
    tiles = np.moveaxis(_framed(values, labels), 2, 3)
    gapped = np.full((*tiles.shape[:4], tiles.shape[4] + 1, 3), 255, np.uint8)
    gapped[..., :-1, :] = tiles
    return gapped.reshape(*tiles.shape[:3], -1, 3)[..., :-1, :]


def token_colour(label: int) -> tuple[float, float, float]:
    """The colour of a token's frame."""
    return hex_to_rgb(TOKEN_COLOURS[label % len(TOKEN_COLOURS)])


def frame_block(crops: npt.NDArray[np.float32], labels: npt.NDArray[np.floating]) -> FloatArray:
    """Lays crops (exemplar, channel, y, x) in as many rows as columns, each in the colour of its label, 0 to 1.

    What there is none of is grey.
    """
    return mosaic(_framed(crops, labels), ceil(sqrt(len(crops))), 1)[0] / np.float32(255)


def _framed(crops: FloatArray, labels: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Puts crops (..., channel, y, x) in frames of their tokens' colours: (..., y, x, channel)."""
    colours = np.array([*map(token_colour, range(len(TOKEN_COLOURS))), (EMPTY,) * 3])
    chosen = np.where(np.isfinite(labels), np.nan_to_num(labels) % len(TOKEN_COLOURS), -1).astype(int)
    height, width = crops.shape[-2:]
    framed = np.empty((*labels.shape, height + 2 * _FRAME, width + 2 * _FRAME, 3), np.uint8)
    frames = _to_bytes(colours)[chosen][..., None, None, :]
    for edge in (slice(None, _FRAME), slice(-_FRAME, None)):
        framed[..., edge, :, :] = framed[..., edge, :] = frames
    framed[..., _FRAME:-_FRAME, _FRAME:-_FRAME, :] = to_rgb(np.moveaxis(_to_bytes(crops), -3, -1))
    return framed


def _to_bytes(values: FloatArray) -> npt.NDArray[np.uint8]:
    shown = values.astype(np.float32)
    shown[np.isnan(shown)] = EMPTY
    return (255 * shown.clip(0, 1, out=shown) + 0.5).astype(np.uint8)
