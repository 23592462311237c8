"""What data modules of images that were there before share: they are read once, and dealt to splits by content."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence

from torchvision.transforms.v2 import Transform

from lightning_emerge.data.augment import augmented
from lightning_emerge.data.datamodule import ExemplarDataModule
from lightning_emerge.data.dataset import Exemplars
from lightning_emerge.data.photographs.dealing import Deal, Key, Row, hold
from lightning_emerge.data.photographs.decoding import Pixels


class DealtDataModule(ExemplarDataModule, ABC):
    """Exemplars that are found, not made: the seed and their contents decide which split each falls into.

    Args:
        image_size: side of the square images in pixels, at least 8.
        batch_size: exemplars in a batch, over all processes.
        min_exemplars: images that each token must have; 500 makes a dense sample.
        val_share: share of each token's images in the validation split, above 0 and below 0.5.
        test_share: share in the test split, above 0 and below 0.5.
        bank_exemplars: stimuli of each token that probes look at, at least 2.
        seed: of the split, the order and the augmentations.
        augmentations: what changes training images at each visit, as uint8 tensors, in this order; none by default. An
            image's change is a function of (seed, epoch, position in the split) and the transforms alone.
        num_workers: processes that prepare batches beside the training process.
        shuffle_labels: whether training exemplars get wrong tokens, as a control (see `ExemplarDataModule`).

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        image_size: int = 64,
        batch_size: int = 32,
        min_exemplars: int = 500,
        val_share: float = 0.1,
        test_share: float = 0.1,
        bank_exemplars: int = 50,
        seed: int = 0,
        augmentations: list[Transform] | None = None,
        num_workers: int = 0,
        shuffle_labels: bool = False,
    ) -> None:
        super().__init__(image_size, batch_size, seed, num_workers, shuffle_labels=shuffle_labels)
        self.augmentations = augmentations
        self._deal = Deal(seed, min_exemplars, val_share, test_share, bank_exemplars)

    def hold(
        self,
        splits: Mapping[str, Sequence[Row[Key]]],
        images: Mapping[Key, Pixels],
        name: Callable[[Row[Key]], str],
    ) -> dict[str, Exemplars]:
        """Puts the exemplars of each split in memory, those of training with their augmentations (see `hold`)."""
        held = hold(splits, images, name)
        return {**held, "train": augmented(held["train"], self.augmentations, self.seed)}
