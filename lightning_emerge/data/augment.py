"""Augmentation: what an exemplar looks like at one visit, as a function of (seed, epoch, position) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torchvision.transforms.v2 import Transform

from lightning_emerge.data.dataset import Exemplars, Visit


@dataclass(frozen=True)
class Augmentations:
    """Transforms that change training images one at a time, before they are normalised.

    What an image becomes depends on the seed, the epoch, its position in the split and the transforms, and not on the
    batch, the order, or how many processes there are. Afterwards PyTorch's random numbers go on as if nothing had been
    sampled. Transforms that sample from another source of random numbers have none of this.

    Args:
        transforms: of `torchvision.transforms.v2`, in their order.
        seed: of the random numbers, at least 0.
    """

    transforms: Sequence[Transform]
    seed: int

    def __call__(self, images: torch.Tensor, visit: Visit) -> torch.Tensor:
        """Changes images that are visited together.

        Args:
            images: uint8 (exemplar, channel, y, x).
            visit: their positions in the split, and the epoch.

        Returns:
            uint8, of the same shape.

        Raises:
            ValueError: if a transform changes the shape or type.
        """
        with _random_state_kept():
            pairs = zip(images, visit.indices, strict=True)
            return torch.stack([self._change(image, visit.epoch, at) for image, at in pairs])

    def check(self, image: torch.Tensor) -> None:
        """Tries the transforms on one image, uint8 (channel, y, x).

        Raises:
            ValueError: if they cannot be used.
        """
        with _random_state_kept():
            try:
                changed = self._transform(image, 0, 0)
            except Exception as error:  # what a user's transform may raise is not known
                raise ValueError(
                    f"data.augmentations change uint8 tensors (channel, y, x), here {tuple(image.shape)}; got "
                    f"{type(error).__name__}: {error}. Correct the transform's arguments, or leave it out."
                ) from error
        _check(image, changed)

    def _change(self, image: torch.Tensor, epoch: int, position: int) -> torch.Tensor:
        changed = self._transform(image, epoch, position)
        _check(image, changed)
        return changed

    def _transform(self, image: torch.Tensor, epoch: int, position: int) -> torch.Tensor:
        key = np.random.SeedSequence((self.seed, epoch, position)).generate_state(1, np.uint64)
        # torch.manual_seed would reach for the GPU, which worker processes must not touch.
        torch.default_generator.manual_seed(int(key[0]))
        for transform in self.transforms:
            image = transform(image)
        return image


def augmented(exemplars: Exemplars, transforms: Sequence[Transform] | None, seed: int) -> Exemplars:
    """Adds the augmentations that a configuration names, if any, once they have been tried on the first image.

    Raises:
        ValueError: if they cannot be used.
    """
    if not transforms:
        return exemplars
    augment = Augmentations(tuple(transforms), seed)
    augment.check(exemplars.images[torch.tensor([0])][0])
    return replace(exemplars, augment=augment)


def _check(image: torch.Tensor, changed: object) -> None:
    if isinstance(changed, torch.Tensor) and changed.dtype == torch.uint8 and changed.shape == image.shape:
        return
    raise ValueError(
        f"data.augmentations give uint8 tensors of the shape that they get, {tuple(image.shape)}; got "
        f"{_describe(changed)}. Leave ToDtype and Normalize out, as the network's input is normalised after "
        "augmentation, and let a crop have the size data.image_size."
    )


def _describe(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__


@contextmanager
def _random_state_kept() -> Iterator[None]:
    state = torch.default_generator.get_state()
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
