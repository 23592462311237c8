"""Scenes: all that an exemplar's image is made from, sampled as a pure function of (seed, split, token, index)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from lightning_emerge.data.grammar.shapes import SHAPES
from lightning_emerge.data.grammar.tokens import Token
from lightning_emerge.data.names import SPLITS
from lightning_emerge.data.rendering import raster
from lightning_emerge.data.rendering.nuisances import LIMITS, Nuisances

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FRAME = 1 / 3
"""Half the side of the token's frame at scale 1, as a share of the image's side."""

PART_RADIUS = 0.42
"""Radius of a part, in the token's frame, whose half side is 1."""

_CLUTTER = int(LIMITS["clutter"].highest)
_SQUARE_SIDE = 1.44  # side of a square of radius 1


@dataclass(frozen=True)
class Scenes:
    """What some exemplars show. Lengths are shares of the image's side, colours are 0 to 1, angles degrees clockwise.

    The pieces of an exemplar lie from back to front: clutter, then the token's parts, then one patch that occludes.

    Attributes:
        frames: (exemplar, 4): x and y of the token's centre, its scale, its rotation.
        wholes: (exemplar, 8): change of light along x and y, the ground's three colours, the background's amplitude,
            the blur, the noise.
        seeds: (exemplar, 2), of the background's texture and of the noise.
        kinds: (exemplar, piece): positions in `SHAPES`, or -1 where there is no piece.
        pieces: (exemplar, piece, 7): x, y, radius, angle, and three colours.
        parts: how many pieces are the token's parts.
    """

    frames: Floats
    wholes: Floats
    seeds: Integers
    kinds: Integers
    pieces: Floats
    parts: int

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def clutter(self) -> int:
        """How many pieces lie behind the parts, those that are not there included."""
        return self.kinds.shape[1] - self.parts - 1

    def __getitem__(self, at: slice) -> Scenes:
        arrays = {f.name: getattr(self, f.name)[at] for f in fields(self) if f.name != "parts"}
        return Scenes(**arrays, parts=self.parts)


def sample_scenes(
    token: Token, label: int, indices: Sequence[int], *, split: str, seed: int, nuisances: Nuisances
) -> Scenes:
    """Samples what exemplars of one token show.

    Args:
        token: that they show.
        label: the token's position in its grammar; it keys the random numbers.
        indices: which exemplars; each depends on its own index alone.
        split: one of `lightning_emerge.data.names.SPLITS`.
        seed: the data's seed.
        nuisances: how far exemplars vary.
    """
    numbers = _Numbers(seed, split, label, indices, len(token.parts))
    frames, wholes = _frames(numbers, nuisances), _wholes(numbers, nuisances)
    kinds, clutter = _clutter(numbers, frames, nuisances)
    parts, patch = _parts(numbers, frames, token, nuisances), _patch(numbers, frames, nuisances)
    count = len(indices)
    own = np.tile(np.array([SHAPES.index(part.shape) for part in token.parts], np.int64), (count, 1))
    last = np.where(patch[:, :, raster.RADIUS] > 0, raster.SQUARE, raster.NONE)
    kinds = np.concatenate([kinds, own, last], axis=1)
    pieces = np.concatenate([clutter, parts, patch], axis=1)
    return Scenes(frames, wholes, numbers.seeds, kinds, pieces, len(token.parts))


class _Numbers:
    """The random numbers of some exemplars, each exemplar's from a generator of its own, used up in a fixed order.

    Numbers are used up whether or not a nuisance is on, so that changing one leaves the others as they were.
    """

    def __init__(self, seed: int, split: str, label: int, indices: Sequence[int], parts: int) -> None:
        width = 11 + (1 + 8 * _CLUTTER) + 7 + 5 * parts
        self._unit = np.empty((len(indices), width))
        self.seeds = np.empty((len(indices), 2), np.int64)
        for row, index in enumerate(indices):
            generator = np.random.default_rng((seed, SPLITS.index(split), label, index))
            generator.random(out=self._unit[row])
            self.seeds[row] = generator.integers(0, 2**63, 2)
        self._used = 0

    def unit(self, *shape: int) -> Floats:
        """The next numbers of each exemplar, 0 to 1, (exemplar, *shape)."""
        begin, self._used = self._used, self._used + int(np.prod(shape))
        return self._unit[:, begin : self._used].reshape(len(self._unit), *shape)

    def signed(self, *shape: int) -> Floats:
        """The same, -1 to 1."""
        return 2 * self.unit(*shape) - 1


def _frames(numbers: _Numbers, nuisances: Nuisances) -> Floats:
    low, high = nuisances.scale
    place = 0.5 + nuisances.position * numbers.signed(2)
    scale = low + (high - low) * numbers.unit(1)
    return np.concatenate([place, scale, nuisances.rotation * numbers.signed(1)], axis=1)


def _wholes(numbers: _Numbers, nuisances: Nuisances) -> Floats:
    light = nuisances.light * numbers.signed(2)
    ground = _colours(numbers.unit(3), 0.05, 0.35, nuisances)
    contrast, blur = nuisances.background * numbers.unit(1), nuisances.blur * numbers.unit(1)
    noise = np.full_like(blur, nuisances.noise)
    return np.concatenate([light, ground, contrast, blur, noise], axis=1)


def _colours(unit: Floats, low: float, high: float, nuisances: Nuisances) -> Floats:
    return (low + high) / 2 + nuisances.colour * (high - low) * (unit - 0.5)


def _clutter(numbers: _Numbers, frames: Floats, nuisances: Nuisances) -> tuple[Integers, Floats]:
    # Rounded down from the unit interval, each number of pieces up to the largest is as likely as another.
    count = np.floor(numbers.unit(1) * (nuisances.clutter + 1))
    unit = numbers.unit(_CLUTTER, 8)[:, : int(nuisances.clutter)]
    there = np.arange(int(nuisances.clutter)) < count
    kinds = np.where(there, (unit[:, :, 0] * len(SHAPES)).astype(np.int64), raster.NONE)
    part = PART_RADIUS * FRAME * frames[:, 2, None, None]
    radius, angle = part * (0.4 + 0.4 * unit[:, :, 3:4]), 360 * unit[:, :, 4:5]
    colours = _colours(unit[:, :, 5:], 0.5, 1.0, nuisances)
    pieces = np.concatenate([unit[:, :, 1:3], radius, angle, colours], axis=2)
    return kinds, np.where(there[:, :, None], pieces, np.nan)


def _patch(numbers: _Numbers, frames: Floats, nuisances: Nuisances) -> Floats:
    unit = numbers.unit(7)
    side = np.sqrt(nuisances.occlusion * unit[:, :1])  # of the frame's side
    reach = 1 - side
    x, y = _turned(frames, reach * (2 * unit[:, 1:2] - 1), reach * (2 * unit[:, 2:3] - 1))
    radius = side * 2 * FRAME * frames[:, 2:3] / _SQUARE_SIDE
    pieces = np.concatenate([x, y, radius, 360 * unit[:, 3:4], _colours(unit[:, 4:], 0.05, 1.0, nuisances)], axis=1)
    return np.where(radius > 0, pieces, np.nan)[:, None]


def _parts(numbers: _Numbers, frames: Floats, token: Token, nuisances: Nuisances) -> Floats:
    unit = numbers.unit(len(token.parts), 5)
    jitter = nuisances.jitter * (2 * unit[:, :, :2] - 1)
    places = np.array([part.place for part in token.parts], np.float64).reshape(-1, 2) + jitter
    x, y = _turned(frames, places[:, :, 0], places[:, :, 1])
    radius = np.broadcast_to(PART_RADIUS * FRAME * frames[:, 2:3], x.shape)
    angle = frames[:, 3:4] + np.array([part.pose for part in token.parts])
    return np.concatenate(
        [np.stack([x, y, radius, angle], axis=2), _colours(unit[:, :, 2:], 0.5, 1.0, nuisances)], axis=2
    )


def _turned(frames: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Places in the token's frame, as places in the image."""
    # One angle at a time: a vectorised cosine may round otherwise than a single one.
    turns = [np.deg2rad(turn) for turn in frames[:, 3]]
    cosine = np.array([np.cos(turn) for turn in turns])[:, None]
    sine = np.array([np.sin(turn) for turn in turns])[:, None]
    half = FRAME * frames[:, 2:3]
    return frames[:, 0:1] + half * (cosine * x - sine * y), frames[:, 1:2] + half * (sine * x + cosine * y)
