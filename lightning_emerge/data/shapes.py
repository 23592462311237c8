"""Shapes as signed distances: negative inside, positive outside, in units of the shape's radius.

Only additions, products, square roots, minima and maxima are used on pixels. IEEE 754 rounds these the same way in a
vector and alone, so a shape has the same bytes whatever batch it is drawn in. After Quilez, "2D distance functions".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import cos, pi, sin

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


def _disk(x: Array, y: Array) -> Array:
    return np.sqrt(x * x + y * y) - np.float32(0.85)


def _ring(x: Array, y: Array) -> Array:
    return np.abs(np.sqrt(x * x + y * y) - np.float32(0.65)) - np.float32(0.22)


def _box(x: Array, y: Array, half_width: float, half_height: float) -> Array:
    dx, dy = np.abs(x) - np.float32(half_width), np.abs(y) - np.float32(half_height)
    outside_x, outside_y = np.maximum(dx, np.float32(0)), np.maximum(dy, np.float32(0))
    return np.sqrt(outside_x * outside_x + outside_y * outside_y) + np.minimum(np.maximum(dx, dy), np.float32(0))


def _square(x: Array, y: Array) -> Array:
    return _box(x, y, 0.72, 0.72)


def _bar(x: Array, y: Array) -> Array:
    return _box(x, y, 1.0, 0.3)


def _cross(x: Array, y: Array) -> Array:
    return np.minimum(_box(x, y, 0.95, 0.27), _box(x, y, 0.27, 0.95))


def _polygon(corners: int) -> Callable[[Array, Array], Array]:
    """The largest of the signed distances to the edges' lines: exact inside, a lower bound outside."""
    turns = [(2 * k + 1) * pi / corners - pi / 2 for k in range(corners)]
    inner = cos(pi / corners)

    def distance(x: Array, y: Array) -> Array:
        edges = [x * np.float32(cos(turn)) + y * np.float32(sin(turn)) for turn in turns]
        return np.maximum.reduce(edges) - np.float32(inner)

    return distance


def _wedge(x: Array, y: Array) -> Array:
    """A disk cut off below its middle by a horizontal line."""
    return np.maximum(np.sqrt(x * x + y * y) - np.float32(0.95), y - np.float32(0.25))


def _arc(x: Array, y: Array) -> Array:
    return np.maximum(_ring(x, y), y - np.float32(0.1))


SHAPES: Mapping[str, Callable[[Array, Array], Array]] = {
    "disk": _disk,
    "ring": _ring,
    "bar": _bar,
    "cross": _cross,
    "square": _square,
    "triangle": _polygon(3),
    "hexagon": _polygon(6),
    "wedge": _wedge,
    "arc": _arc,
}
