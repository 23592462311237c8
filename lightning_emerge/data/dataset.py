"""Exemplars, and the order in which they are visited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset, DistributedSampler

MEAN, DEVIATION = 0.5, 0.25
"""Pixels p in 0 to 1 reach the network as (p - MEAN) / DEVIATION."""


class Batch(TypedDict):
    """What one training, validation, test or prediction step gets."""

    image: torch.Tensor  # float32 (exemplar, channel, y, x); on its way to a GPU uint8, which is a quarter as much
    label: torch.Tensor  # int64 (exemplar,)
    id: list[str]


class Visit(NamedTuple):
    """Which exemplars are looked up together, and in which epoch."""

    indices: list[int]
    epoch: int


class Images(Protocol):
    """uint8 images (exemplar, channel, y, x), in memory or made when they are asked for."""

    def __getitem__(self, indices: torch.Tensor, /) -> torch.Tensor:
        """The images at these positions."""
        ...


class Augment(Protocol):
    """Changes uint8 images (exemplar, channel, y, x) as a function of their positions and the epoch alone."""

    def __call__(self, images: torch.Tensor, visit: Visit, /) -> torch.Tensor:
        """The changed images, of the same shape and type."""
        ...


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Maps uint8 pixels to the float32 values that the network gets."""
    return (images.float() / 255 - MEAN) / DEVIATION


@dataclass(frozen=True)
class Exemplars(Dataset[Batch]):
    """One split: images, labels and ids, looked up a whole batch at a time.

    Attributes:
        images: uint8, (exemplar, channel, y, x): a tensor, or what makes one when asked.
        labels: int64 tensor (exemplar,).
        ids: one unique name an exemplar.
        augment: what changes the images at each visit, if anything does.
        raw: whether batches hold pixels as they are, uint8, for `normalise` to be applied on the device.
    """

    images: Images
    labels: torch.Tensor
    ids: Sequence[str]
    augment: Augment | None = None
    raw: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, visit: Visit) -> Batch:
        at = torch.as_tensor(visit.indices)
        images = self.images[at]
        if self.augment is not None:
            images = self.augment(images, visit)
        images = images if self.raw else normalise(images)
        return Batch(image=images, label=self.labels[at], id=[self.ids[i] for i in visit.indices])

    def pixels(self) -> torch.Tensor:
        """All images as they are, uint8 (exemplar, channel, y, x)."""
        return self.images[torch.arange(len(self))]


class BatchOrder(DistributedSampler[Visit]):
    """Batches of exemplars whose union over ranks does not depend on the number of ranks.

    Each batch of the whole run is dealt out to the ranks in turn, so one rank and several take the same optimizer
    steps. In training the order is a function of (seed, epoch) and a last, smaller batch is left out; otherwise every
    exemplar is visited exactly once, with no padding, in batches of nearly equal size.

    It is a DistributedSampler so that Lightning sees that sharding is done and tells it the epoch.

    Args:
        size: number of exemplars.
        batch_size: exemplars in a batch, over all ranks.
        rank: this process.
        world_size: number of processes.
        seed: of the shuffled order.
        training: whether to shuffle.

    Raises:
        ValueError: if the batches cannot be dealt out so that each rank gets its share of each.
    """

    def __init__(self, size: int, batch_size: int, *, rank: int, world_size: int, seed: int, training: bool) -> None:
        super().__init__(_Sized(size), num_replicas=world_size, rank=rank, shuffle=training, seed=seed)
        self.size, self.batch_size = size, batch_size
        self._resumed: tuple[int, int] | None = None
        if training and batch_size % world_size:
            raise ValueError(
                f"data.batch_size is the batch over all processes and a multiple of their number; got batch_size "
                f"{batch_size} with {world_size} processes."
            )
        if size < (batch_size if training else world_size * len(self)):
            raise ValueError(
                f"Each process gets a share of each batch; {size} exemplars are too few for batches of {batch_size} "
                f"over {world_size} process(es). Lower data.batch_size, or give more exemplars."
            )

    def go_on(self, epoch: int, batch: int) -> None:
        """Begins the next time in the middle: with a batch of an epoch, whichever epoch is set by then."""
        self._resumed = epoch, batch

    def __iter__(self) -> Iterator[Visit]:
        epoch, start = self._resumed or (self.epoch, 0)
        self._resumed = None
        if self.shuffle:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.size)
            batches = [order[k * self.batch_size : (k + 1) * self.batch_size] for k in range(len(self))]
        else:
            # Every batch spans all tokens, so that a part of them is a fair sample.
            batches = [np.arange(k, self.size, len(self)) for k in range(len(self))]
        for batch in batches[start:]:
            yield Visit(batch[self.rank :: self.num_replicas].tolist(), epoch)

    def __len__(self) -> int:
        return self.size // self.batch_size if self.shuffle else -(-self.size // self.batch_size)


class _Sized(Dataset[int]):
    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size
