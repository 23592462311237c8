"""All that is compiled: signed distances of the shapes, and painting an exemplar from its latents, pixel by pixel.

Every pixel is a function of its exemplar's numbers alone, computed in one order without fused or reordered arithmetic,
so an image has the same bytes whatever batch it is painted in. It stands in one file because the compiler's cache does
not notice a change in another. Distances are after Quilez, "2D distance functions".
"""

from __future__ import annotations

from math import ceil, cos, exp, floor, pi, radians, sin, sqrt
from statistics import NormalDist

import numpy as np

from lightning_emerge.data.grammar.shapes import ROUND, SHAPES
from lightning_emerge.data.rendering.compiled import compiled, random_bits

_LEVELS = 4096
_NORMAL = np.array([NormalDist().inv_cdf((k + 0.5) / _LEVELS) for k in range(_LEVELS)], dtype=np.float32)
_REACH = 1.05  # no shape reaches farther from its middle, in units of its radius
_SHARPEST = 0.1  # a blur of less, in pixels, changes no byte
_OCTAVES = 4

DISK, RING, WEDGE, ARC, BAR, CROSS, SQUARE, TRIANGLE, HEXAGON = (
    SHAPES.index(name) for name in ("disk", "ring", "wedge", "arc", "bar", "cross", "square", "triangle", "hexagon")
)
_ROUNDS = len(ROUND)

NONE = -1
"""Number of a piece that is not there."""

X, Y, RADIUS, ANGLE, RED = range(5)
"""Columns of a piece; red, green and blue are the last three."""

PIECE_COLUMNS = 7
LIGHT_X, LIGHT_Y, GROUND, CONTRAST, BLUR, NOISE = 0, 1, 2, 5, 6, 7
"""Columns of what concerns the whole image; the ground has three."""

WHOLE_COLUMNS = 8


@compiled
def _box(x, y, half_width, half_height):
    dx, dy = abs(x) - half_width, abs(y) - half_height
    outside_x, outside_y = max(dx, 0.0), max(dy, 0.0)
    return sqrt(outside_x * outside_x + outside_y * outside_y) + min(max(dx, dy), 0.0)


@compiled
def _polygon(x, y, corners):
    """The largest of the signed distances to the edges' lines: exact inside, a lower bound outside."""
    farthest = -2.0
    for k in range(corners):
        turn = (2 * k + 1) * pi / corners - pi / 2
        farthest = max(farthest, x * cos(turn) + y * sin(turn))
    return farthest - cos(pi / corners)


@compiled
def _round(shape, x, y):
    radius = sqrt(x * x + y * y)
    if shape == DISK:
        return radius - 0.85
    if shape == WEDGE:  # a disk cut off below its middle
        return max(radius - 0.95, y - 0.25)
    ring = abs(radius - 0.65) - 0.22
    return ring if shape == RING else max(ring, y - 0.1)


@compiled
def _straight(shape, x, y):
    if shape == BAR:
        return _box(x, y, 1.0, 0.3)
    if shape == CROSS:
        return min(_box(x, y, 0.95, 0.27), _box(x, y, 0.27, 0.95))
    if shape == SQUARE:
        return _box(x, y, 0.72, 0.72)
    return _polygon(x, y, 3 if shape == TRIANGLE else 6)


@compiled
def signed_distance(shape: int, x: float, y: float) -> float:
    """Distance to a shape's edge: negative inside, in units of its radius, in its own frame (y downwards).

    Args:
        shape: position in `SHAPES`.
        x: to the right of the shape's middle.
        y: below the shape's middle.
    """
    return _round(shape, x, y) if shape < _ROUNDS else _straight(shape, x, y)


@compiled
def _spread(size, cells):
    """For each pixel, the grid point before it and the weight of the one after."""
    before, weight = np.empty(size, np.int64), np.empty(size, np.float32)
    for at in range(size):
        place = (at + 0.5) * cells / size
        before[at] = min(int(place), cells - 1)
        weight[at] = place - before[at]
    return before, weight


@compiled
def _lay_ground(canvas, texture, whole, seed):
    """A plain colour under value noise whose octaves have amplitudes in proportion to their wavelength (1/f)."""
    size = canvas.shape[1]
    texture[:] = 0.0
    sampled = np.uint64(0)
    line = np.empty(2**_OCTAVES + 1, np.float32)
    for octave in range(_OCTAVES):
        cells = 2 ** (octave + 1)
        before, weight = _spread(size, cells)
        amplitude = np.float32(whole[CONTRAST] * 2.0 / cells)
        grid = np.empty((cells + 1, cells + 1), np.float32)
        for row in range(cells + 1):
            for column in range(cells + 1):
                bits = random_bits(seed, sampled) >> np.uint64(40)
                grid[row, column] = amplitude * (np.float32(bits) * np.float32(2.0**-23) - np.float32(1.0))
                sampled += np.uint64(1)
        for y in range(size):
            for column in range(cells + 1):
                above, below = grid[before[y], column], grid[before[y] + 1, column]
                line[column] = above + weight[y] * (below - above)
            for x in range(size):
                left, right = line[before[x]], line[before[x] + 1]
                texture[y, x] += left + weight[x] * (right - left)
    for channel in range(3):
        canvas[channel] = np.float32(whole[GROUND + channel]) + texture


@compiled
def _cover(shape, piece, size, alpha):
    """Writes how much of each pixel a piece covers into `alpha`; returns the box (x0, y0, x1, y1) that it lies in."""
    x, y, radius = piece[X] * size, piece[Y] * size, piece[RADIUS] * size
    cosine, sine = cos(radians(piece[ANGLE])), sin(radians(piece[ANGLE]))
    reach = _REACH * radius + 1.0
    x0, x1 = max(0, floor(x - reach)), min(size, ceil(x + reach))
    y0, y1 = max(0, floor(y - reach)), min(size, ceil(y + reach))
    for row in range(y0, y1):
        for column in range(x0, x1):
            dx, dy = (column + 0.5 - x) / radius, (row + 0.5 - y) / radius
            distance = signed_distance(shape, cosine * dx + sine * dy, cosine * dy - sine * dx) * radius
            alpha[row, column] = min(max(0.5 - distance, 0.0), 1.0)
    return x0, y0, x1, y1


@compiled
def _lay_piece(canvas, alpha, shape, piece):
    x0, y0, x1, y1 = _cover(shape, piece, canvas.shape[1], alpha)
    for channel in range(3):
        paint = np.float32(piece[RED + channel])
        for row in range(y0, y1):
            for column in range(x0, x1):
                canvas[channel, row, column] += alpha[row, column] * (paint - canvas[channel, row, column])


@compiled
def _light(canvas, whole):
    size = canvas.shape[1]
    for row in range(size):
        across_y = np.float32(whole[LIGHT_Y] * (2.0 * (row + 0.5) / size - 1.0))
        for column in range(size):
            across = across_y + np.float32(whole[LIGHT_X] * (2.0 * (column + 0.5) / size - 1.0))
            for channel in range(3):
                canvas[channel, row, column] += across


@compiled
def _bell(deviation):
    """Weights of a Gaussian of a standard deviation in pixels, cut at three."""
    reach = ceil(3.0 * deviation)
    weights = np.array([exp(-0.5 * ((k - reach) / deviation) ** 2) for k in range(2 * reach + 1)])
    total = 0.0
    for weight in weights:
        total += weight
    return (weights / total).astype(np.float32)


@compiled
def _smear(channel, weights, out):
    """Adds up a channel's rows by weight, and turns it over; the image's edge goes on beyond it."""
    size, reach = len(channel), len(weights) // 2
    line = np.empty(size, np.float32)
    for row in range(size):
        line[:] = 0.0
        for k in range(len(weights)):
            near = channel[min(max(row + k - reach, 0), size - 1)]
            for column in range(size):
                line[column] += weights[k] * near[column]
        out[:, row] = line


@compiled
def _blur(canvas, turned, deviation):
    weights = _bell(deviation)
    for channel in range(3):
        _smear(canvas[channel], weights, turned)
        _smear(turned, weights, canvas[channel])


@compiled
def _expose(canvas, deviation, seed, image):
    """Adds the sensor's noise, cuts to what it can hold, and rounds to bytes."""
    values, out = canvas.reshape(-1), image.reshape(-1)
    strength = np.float32(deviation)
    for start in range(0, len(values), 4):
        bits = random_bits(seed, np.uint64(start // 4))
        for k in range(start, min(start + 4, len(values))):
            value = values[k] + strength * _NORMAL[bits & np.uint64(_LEVELS - 1)]
            bits >>= np.uint64(16)
            out[k] = np.uint8(min(max(value, np.float32(0.0)), np.float32(1.0)) * np.float32(255.0) + np.float32(0.5))


@compiled
def paint(wholes, seeds, kinds, pieces, images) -> None:
    """Paints exemplars: ground, pieces from back to front, light, blur, noise.

    Args:
        wholes: float64 (exemplar, `WHOLE_COLUMNS`).
        seeds: uint64 (exemplar, 2), of the ground's texture and of the noise.
        kinds: int64 (exemplar, piece), each piece's shape, or `NONE`.
        pieces: float64 (exemplar, piece, `PIECE_COLUMNS`), lengths as shares of the image's side.
        images: uint8 (exemplar, 3, y, x), written to.
    """
    size = images.shape[2]
    canvas = np.empty((3, size, size), np.float32)
    alpha, texture = np.empty((size, size), np.float32), np.empty((size, size), np.float32)
    for exemplar in range(len(images)):
        whole = wholes[exemplar]
        _lay_ground(canvas, texture, whole, seeds[exemplar, 0])
        for k in range(kinds.shape[1]):
            if kinds[exemplar, k] != NONE:
                _lay_piece(canvas, alpha, kinds[exemplar, k], pieces[exemplar, k])
        _light(canvas, whole)
        if whole[BLUR] * size > _SHARPEST:
            _blur(canvas, texture, whole[BLUR] * size)
        _expose(canvas, whole[NOISE], seeds[exemplar, 1], images[exemplar])


@compiled
def uncover(kinds, pieces, first, shares) -> None:
    """Finds how much of each pixel shows each of some pieces: what covers it and no later piece hides.

    Args:
        kinds: int64 (exemplar, piece).
        pieces: float64 (exemplar, piece, `PIECE_COLUMNS`).
        first: the first piece that is asked for.
        shares: float32 (exemplar, piece asked for, y, x), 0 to 1, written to.
    """
    asked, size = shares.shape[1], shares.shape[2]
    alpha = np.empty((size, size), np.float32)
    shares[:] = 0.0
    for exemplar in range(len(shares)):
        for k in range(first, kinds.shape[1]):
            if kinds[exemplar, k] == NONE:
                continue
            x0, y0, x1, y1 = _cover(kinds[exemplar, k], pieces[exemplar, k], size, alpha)
            for row in range(y0, y1):
                for column in range(x0, x1):
                    for earlier in range(min(k - first, asked)):
                        shares[exemplar, earlier, row, column] *= np.float32(1.0) - alpha[row, column]
                    if k - first < asked:
                        shares[exemplar, k - first, row, column] = alpha[row, column]
