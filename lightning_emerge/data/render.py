"""Rendering: an exemplar's image as a pure function of (grammar, nuisances, seed, split, token, index)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
import numpy.typing as npt

from lightning_emerge.data.shapes import SHAPES, Array
from lightning_emerge.data.tokens import Token

SPLITS = ("train", "val", "test", "bank")
"""Names of the splits; a split's position keys its exemplars, so that no two splits share one."""

_BATCH = 64
_OCTAVES = (2, 4, 8, 16)


@dataclass(frozen=True)
class Nuisances:
    """What varies from exemplar to exemplar and never tells the token.

    Attributes:
        position: largest shift of the token's centre on each axis, as a share of the image's side (0 to 0.5).
        scale: smallest and largest size of the token; at 1 its frame fills two thirds of the image's side (0.3 to 1.5).
        rotation: largest turn of the whole token either way, in degrees (0 to 45).
        jitter: largest shift of each part on each axis, in the token's frame, whose half side is 1 (0 to 0.5).
        light: largest change of light from the middle to an edge, on each axis, as a share of full range (0 to 0.5).
        background: largest amplitude of the coarsest octave of the 1/f background, as a share of full range (0 to 1);
            each finer octave has half the amplitude of the one before.
        noise: standard deviation of the sensor's noise, as a share of full range (0 to 0.5).

    Raises:
        ValueError: if a value is out of its range.
    """

    position: float = 0.12
    scale: tuple[float, float] = (0.7, 1.1)
    rotation: float = 15.0
    jitter: float = 0.12
    light: float = 0.15
    background: float = 0.4
    noise: float = 0.06

    def __post_init__(self) -> None:
        ranges = {"position": 0.5, "rotation": 45.0, "jitter": 0.5, "light": 0.5, "background": 1.0, "noise": 0.5}
        for name, highest in ranges.items():
            value = getattr(self, name)
            if not 0 <= value <= highest:
                raise ValueError(f"nuisances.{name} lies in 0 to {highest:g}; got {value}.")
        low, high = self.scale
        if not 0.3 <= low <= high <= 1.5:
            raise ValueError(f"nuisances.scale is a smallest and a largest size in 0.3 to 1.5; got {low}, {high}.")


def render(
    token: Token, label: int, indices: Sequence[int], *, split: str, seed: int, size: int, nuisances: Nuisances
) -> npt.NDArray[np.uint8]:
    """Draws exemplars of one token.

    Args:
        token: what to draw.
        label: the token's position in its grammar; it keys the random draw.
        indices: which exemplars; each image depends on its own index alone.
        split: one of `SPLITS`.
        seed: the data's seed.
        size: the image's side in pixels.
        nuisances: how far exemplars vary.

    Returns:
        uint8 array (exemplar, channel, y, x), RGB.
    """
    blocks = [indices[start : start + _BATCH] for start in range(0, len(indices), _BATCH)]
    keys = [[(seed, SPLITS.index(split), label, index) for index in block] for block in blocks]
    return np.concatenate([_render_block(token, block, size, nuisances) for block in keys])


@dataclass(frozen=True)
class _Draws:
    """The random numbers of a block of exemplars, each exemplar's from a generator of its own."""

    shift: Array  # (exemplar, 2), -1 to 1
    scale: Array  # (exemplar,), 0 to 1
    turn: Array  # (exemplar,), -1 to 1
    light: Array  # (exemplar, 2), -1 to 1
    ground: Array  # (exemplar, 3), 0 to 1
    colour: Array  # (exemplar, part, 3), 0 to 1
    jitter: Array  # (exemplar, part, 2), -1 to 1
    octaves: tuple[Array, ...]  # each (exemplar, grid, grid), -1 to 1
    contrast: Array  # (exemplar,), 0 to 1
    noise: Array  # (exemplar, 3, y, x), standard normal


def _draw(keys: Sequence[tuple[int, ...]], parts: int, size: int) -> _Draws:
    widths = [2, 1, 1, 2, 3, 3 * parts, 2 * parts, 1, *((n + 1) ** 2 for n in _OCTAVES)]
    generators = [np.random.default_rng(key) for key in keys]
    uniform = np.stack([generator.random(sum(widths)) for generator in generators]).astype(np.float32)
    noise = np.stack([generator.standard_normal((3, size, size), dtype=np.float32) for generator in generators])
    shift, scale, turn, light, ground, colour, jitter, contrast, *grids = np.split(
        uniform, np.cumsum(widths)[:-1], axis=1
    )
    n = len(keys)
    return _Draws(
        shift=_signed(shift),
        scale=scale[:, 0],
        turn=_signed(turn[:, 0]),
        light=_signed(light),
        ground=ground,
        colour=colour.reshape(n, parts, 3),
        jitter=_signed(jitter.reshape(n, parts, 2)),
        octaves=tuple(_signed(g.reshape(n, m + 1, m + 1)) for g, m in zip(grids, _OCTAVES, strict=True)),
        contrast=contrast[:, 0],
        noise=noise,
    )


def _signed(unit: Array) -> Array:
    return unit * np.float32(2) - np.float32(1)


def _render_block(
    token: Token, keys: Sequence[tuple[int, ...]], size: int, nuisances: Nuisances
) -> npt.NDArray[np.uint8]:
    draws = _draw(keys, len(token.parts), size)
    pixel = ((np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size) - np.float32(0.5)) * np.float32(2)
    x, y = pixel[None, None, :], pixel[None, :, None]
    image = _background(draws, size, nuisances)
    frame = _Frame.of(draws, nuisances)
    for number, part in enumerate(token.parts):
        px, py, radius = frame.to_part(
            x, y, part.place, part.pose, draws.jitter[:, number] * np.float32(nuisances.jitter)
        )
        distance = SHAPES[part.shape](px, py) * radius * np.float32(size / 2)
        cover = np.clip(np.float32(0.5) - distance, np.float32(0), np.float32(1))[:, None]
        paint = np.float32(0.5) + np.float32(0.5) * draws.colour[:, number, :, None, None]
        image += cover * (paint - image)
    light = draws.light * np.float32(nuisances.light)
    image += (light[:, :1, None] * x + light[:, 1:, None] * y)[:, None]
    image += draws.noise * np.float32(nuisances.noise)
    return (np.clip(image, np.float32(0), np.float32(1)) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


@dataclass(frozen=True)
class _Frame:
    """Where each exemplar's token lies in its image; arrays are (exemplar, 1, 1) but for `turn`."""

    x: Array
    y: Array
    half: Array
    turn: npt.NDArray[np.float64]  # (exemplar,)
    cosine: Array
    sine: Array

    @classmethod
    def of(cls, draws: _Draws, nuisances: Nuisances) -> _Frame:
        low, high = nuisances.scale
        shift = draws.shift * np.float32(2 * nuisances.position)
        half = (np.float32(low) + draws.scale * np.float32(high - low)) * np.float32(2 / 3)
        turn = np.array([radians(nuisances.rotation * float(turn)) for turn in draws.turn])
        return cls(shift[:, :1, None], shift[:, 1:, None], half[:, None, None], turn, *_cos_sin(turn))

    def to_part(
        self, x: Array, y: Array, place: tuple[float, float], pose: float, jitter: Array
    ) -> tuple[Array, Array, Array]:
        """Pixels in the part's own frame (radius 1), and that radius in units of half the image."""
        at_x, at_y = np.float32(place[0]) + jitter[:, :1, None], np.float32(place[1]) + jitter[:, 1:, None]
        centre_x = self.x + self.half * (self.cosine * at_x - self.sine * at_y)
        centre_y = self.y + self.half * (self.sine * at_x + self.cosine * at_y)
        c, s = _cos_sin(self.turn + radians(pose))
        radius = self.half * np.float32(0.42)
        dx, dy = (x - centre_x) / radius, (y - centre_y) / radius
        return c * dx + s * dy, c * dy - s * dx, radius


def _cos_sin(angles: npt.NDArray[np.float64]) -> tuple[Array, Array]:
    # One angle at a time: a vectorised cosine may round otherwise than a single one.
    def column(function: Callable[[float], float]) -> Array:
        return np.array([function(float(a)) for a in angles], dtype=np.float32)[:, None, None]

    return column(cos), column(sin)


def _background(draws: _Draws, size: int, nuisances: Nuisances) -> Array:
    """A plain colour under value noise whose octaves have amplitudes in proportion to their wavelength (1/f)."""
    texture = np.zeros((len(draws.contrast), size, size), dtype=np.float32)
    for octave, grid in zip(_OCTAVES, draws.octaves, strict=True):
        texture += _stretch(grid, size) * np.float32(_OCTAVES[0] / octave)
    texture *= (draws.contrast * np.float32(nuisances.background))[:, None, None]
    ground = np.float32(0.05) + np.float32(0.3) * draws.ground
    return ground[:, :, None, None] + texture[:, None]


def _stretch(grid: Array, size: int) -> Array:
    """Bilinear interpolation of (exemplar, n + 1, n + 1) to (exemplar, size, size)."""
    cells = grid.shape[1] - 1
    at = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / size)
    low = np.minimum(at.astype(np.int64), cells - 1)
    weight = at - low.astype(np.float32)
    rows = grid[:, low] * (np.float32(1) - weight)[None, :, None] + grid[:, low + 1] * weight[None, :, None]
    return rows[:, :, low] * (np.float32(1) - weight) + rows[:, :, low + 1] * weight
