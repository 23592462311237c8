"""Small pictures of stimuli that are no images: curves of numbers, and words."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from textwrap import wrap

import numpy as np

from lightning_emerge.figures.canvas import new_figure, to_pixels
from lightning_emerge.records import FloatArray, Pixels

SIDE = 64
"""Pixels of a picture."""

_LINES, _LETTERS, _ROWS = 8, 15, 8
_DPI, _POINTS = 100, 5


def curve_tiles(rows: FloatArray) -> Pixels:
    """Draws rows of numbers as lines, black on white, on the range of all stimuli.

    Args:
        rows: (stimulus, line, place); of many lines the first 8 are drawn.

    Returns:
        uint8 (stimulus, y, x, 1).
    """
    rows = np.nan_to_num(rows[:, :_LINES].astype(np.float64))
    low, high = rows.min(), rows.max()
    places = np.linspace(0, rows.shape[2] - 1, SIDE)
    before = np.floor(places).astype(int)
    after, share = np.minimum(before + 1, rows.shape[2] - 1), places - before
    drawn = rows[..., before] * (1 - share) + rows[..., after] * share
    heights = ((high - drawn) / max(high - low, 1e-9) * (SIDE - 1)).round().astype(int)
    beside = np.concatenate([heights[..., :1], heights[..., :-1]], axis=-1)
    top, bottom = np.minimum(heights, beside)[:, :, None], np.maximum(heights, beside)[:, :, None]
    y = np.arange(SIDE)[:, None]
    ink = ((top <= y) & (y <= bottom)).any(axis=1)
    return np.where(ink, 0, 255).astype(np.uint8)[..., None]


def text_tiles(texts: Sequence[str]) -> Pixels:
    """Writes the beginning of each text into a small picture.

    Returns:
        uint8 (text, y, x, 3).
    """
    columns = ceil(sqrt(len(texts)))
    rows = -(-len(texts) // columns)
    figure = new_figure(columns * SIDE / _DPI, rows * SIDE / _DPI)
    for number, text in enumerate(texts):
        lines = wrap(text[: 2 * _LETTERS * _ROWS], _LETTERS)[:_ROWS]
        x, y = (number % columns + 0.03) / columns, 1 - (number // columns + 0.03) / rows
        figure.text(x, y, "\n".join(lines), fontsize=_POINTS, va="top", ha="left", linespacing=1.0)
    sheet = to_pixels(figure)[: rows * SIDE, : columns * SIDE]
    tiles = sheet.reshape(rows, SIDE, columns, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)
    return tiles[: len(texts)]
