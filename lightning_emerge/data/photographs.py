"""Photographs from a folder: real images as tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torchvision.transforms.v2 import Transform

from lightning_emerge.data.augment import augmented
from lightning_emerge.data.cache import PixelCache
from lightning_emerge.data.datamodule import ExemplarDataModule
from lightning_emerge.data.dataset import Exemplars
from lightning_emerge.data.dealing import Deal, Row, hold
from lightning_emerge.data.decoding import Pixels, collect
from lightning_emerge.data.folders import Files, list_splits, list_tokens
from lightning_emerge.data.names import file_id


class FolderDataModule(ExemplarDataModule):
    """Photographs in `root/<token>/*.jpg` (or png, webp, tiff, gif, bmp): one folder a token.

    Each photograph is turned as its EXIF says, laid on white where it is transparent, scaled so that its shorter side
    fits, and cropped in the middle; one of the size asked for keeps its pixels. The seed and the photographs' contents
    decide which split each falls into, in equal shares of each token. One that is there twice, be it under two tokens,
    is always trained on, so that no other split holds a picture of training.

    If `root` has the folders `train`, `val`, `test` and `bank`, with one folder a token in each, these are the splits,
    as they are. Then `min_exemplars` is of the training split, the whole bank folder is the bank, and `val_share`,
    `test_share` and `bank_exemplars` are not used. Ids are paths in `root`, in which bytes that are not
    UTF-8 are escaped.

    Args:
        root: folder of folders.
        image_size: side of the square images in pixels, at least 8.
        batch_size: exemplars in a batch, over all processes.
        min_exemplars: photographs that each token must have; 500 makes a dense sample.
        val_share: share of each token's photographs in the validation split, above 0 and below 0.5.
        test_share: share in the test split, above 0 and below 0.5.
        bank_exemplars: stimuli of each token that probes look at, at least 2.
        seed: of the split, the order and the augmentations.
        augmentations: what changes training images at each visit, as uint8 tensors, in this order; none by default. An
            image's change is a function of (seed, epoch, position in the split) and the transforms alone.
        cache: folder of decoded photographs, found by content, so that the next start is quick; `~/.cache` stands for
            `$XDG_CACHE_HOME` where that is set. None decodes every time.
        num_workers: processes that prepare batches beside the training process.
        shuffle_labels: whether training exemplars are told wrong tokens, as a control (see `ExemplarDataModule`).

    Raises:
        ValueError: if an argument is out of its range, too few photographs are left to train on, or the splits in
            `root` do not have the same tokens.
        FileNotFoundError: if `root` does not exist or holds no folders.
    """

    def __init__(
        self,
        root: str,
        image_size: int = 64,
        batch_size: int = 32,
        min_exemplars: int = 500,
        val_share: float = 0.1,
        test_share: float = 0.1,
        bank_exemplars: int = 50,
        seed: int = 0,
        augmentations: list[Transform] | None = None,
        cache: str | None = "~/.cache/lightning_emerge",
        num_workers: int = 0,
        shuffle_labels: bool = False,
    ) -> None:
        super().__init__(image_size, batch_size, seed, num_workers, shuffle_labels=shuffle_labels)
        self.root, self.augmentations = Path(root), augmentations
        self._deal = Deal(seed, min_exemplars, val_share, test_share, bank_exemplars)
        self._cache = PixelCache(cache, image_size)
        self._given = list_splits(self.root)
        self._files = self._given["train"] if self._given else list_tokens(self.root)
        self._deal.check_dense({str(files[0].parent): len(files) for files in self._files.values()})
        if not self._given:
            self._deal.check_left({token: len(files) for token, files in self._files.items()})

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(self._files)

    def load(self) -> Mapping[str, Exemplars]:
        given = self._given or {"": self._files}
        read = collect([path for files in given.values() for found in files.values() for path in found], self._read)
        rows = {split: _rows(files) for split, files in self._given.items()} if self._given else self._dealt(read)
        images = {path: photograph.pixels for path, photograph in read.items()}
        splits = hold(rows, images, lambda row: file_id(row.key.relative_to(self.root)))
        return {**splits, "train": augmented(splits["train"], self.augmentations, self.seed)}

    def _read(self, path: Path) -> _Photograph:
        content = path.read_bytes()
        digest = hashlib.sha256(content).digest()
        return _Photograph(digest, self._cache.read(content, digest))

    def _dealt(self, read: Mapping[Path, _Photograph]) -> dict[str, list[Row[Path]]]:
        return self._deal({token: {path: read[path].digest for path in found} for token, found in self._files.items()})


class _Photograph(NamedTuple):
    digest: bytes  # of the file
    pixels: Pixels


def _rows(files: Files) -> list[Row[Path]]:
    return [Row(label, path) for label, found in enumerate(files.values()) for path in found]
