"""Rendering: images and masks of exemplars, as pure functions of what they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from lightning_emerge.data.grammar.tokens import Token
from lightning_emerge.data.rendering import raster
from lightning_emerge.data.rendering.nuisances import Nuisances
from lightning_emerge.data.rendering.scenes import Integers, Scenes, sample_scenes

_BLOCK = 64
_Block = TypeVar("_Block")


def render(
    tokens: Sequence[Token],
    labels: Integers,
    indices: Integers,
    *,
    split: str,
    seed: int,
    size: int,
    nuisances: Nuisances,
) -> npt.NDArray[np.uint8]:
    """Draws exemplars.

    Args:
        tokens: of the grammar, in the order of their labels.
        labels: (exemplar,), which token each exemplar is of; with the index it keys the random numbers.
        indices: (exemplar,), which of its token's exemplars each is; each image depends on its own index alone.
        split: one of `lightning_emerge.data.names.SPLITS`.
        seed: the data's seed.
        size: the image's side in pixels.
        nuisances: how far exemplars vary.

    Returns:
        uint8 array (exemplar, channel, y, x), RGB.
    """
    images = np.empty((len(indices), 3, size, size), np.uint8)
    own = [(int(label), np.flatnonzero(labels == label)) for label in np.unique(labels)]
    blocks = [(label, at[start : start + _BLOCK]) for label, at in own for start in range(0, len(at), _BLOCK)]

    def work(block: tuple[int, Integers]) -> None:
        label, at = block
        scenes = sample_scenes(tokens[label], label, indices[at].tolist(), split=split, seed=seed, nuisances=nuisances)
        painted = np.empty((len(at), 3, size, size), np.uint8)
        _paint(scenes, painted)
        images[at] = painted

    _in_threads(work, blocks)
    return images


def paint(scenes: Scenes, size: int) -> npt.NDArray[np.uint8]:
    """Paints what exemplars show.

    Args:
        scenes: what they show.
        size: the image's side in pixels.

    Returns:
        uint8 array (exemplar, channel, y, x), RGB.
    """
    images = np.empty((len(scenes), 3, size, size), np.uint8)
    _in_threads(lambda block: _paint(scenes[block], images[block]), _slices(len(scenes)))
    return images


def part_masks(scenes: Scenes, size: int) -> npt.NDArray[np.float32]:
    """Finds where each part of a token is seen.

    Args:
        scenes: what exemplars show.
        size: the image's side in pixels.

    Returns:
        float32 array (exemplar, part, y, x): the share of each pixel that shows the part, before light, blur and noise.
        What a later part or the patch hides is not shown; parts sum to at most 1.
    """
    shares = np.empty((len(scenes), scenes.parts, size, size), np.float32)

    def work(block: slice) -> None:
        part = scenes[block]
        raster.uncover(part.kinds, part.pieces, part.clutter, shares[block])

    _in_threads(work, _slices(len(scenes)))
    return shares


def _paint(scenes: Scenes, images: npt.NDArray[np.uint8]) -> None:
    raster.paint(scenes.wholes, scenes.seeds.astype(np.uint64), scenes.kinds, scenes.pieces, images)


def _slices(count: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, count, _BLOCK)]


def _in_threads(work: Callable[[_Block], None], blocks: Sequence[_Block]) -> None:
    """Does a piece of work on blocks of exemplars, in as many threads as this process is to use."""
    threads = min(torch.get_num_threads(), len(blocks))
    if threads < 2:
        for block in blocks:
            work(block)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, blocks))
