"""Photographs from a folder: real images as tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lightning_emerge.data.dataset import Exemplars
from lightning_emerge.data.names import file_id
from lightning_emerge.data.photographs.cache import PixelCache
from lightning_emerge.data.photographs.dealing import Row
from lightning_emerge.data.photographs.dealt import DealtDataModule
from lightning_emerge.data.photographs.decoding import Pixels, read_each
from lightning_emerge.data.photographs.listing import Files, list_splits, list_tokens


class FolderDataModule(DealtDataModule):
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
        cache: folder of decoded photographs, found by content, so that the next start is quick; `~/.cache` stands for
            `$XDG_CACHE_HOME` where that is set. None decodes every time.
        **shared: image_size, batch_size, min_exemplars and others, as for any `DealtDataModule`.

    Raises:
        ValueError: if an argument is out of its range, too few photographs are left to train on, or the splits in
            `root` do not have the same tokens.
        FileNotFoundError: if `root` does not exist or holds no folders.
    """

    def __init__(self, root: str, *, cache: str | None = "~/.cache/lightning_emerge", **shared: Any) -> None:
        super().__init__(**shared)
        self.root = Path(root)
        self._cache = PixelCache(cache, self.image_size)
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
        read = read_each([path for files in given.values() for found in files.values() for path in found], self._read)
        rows = {split: _rows(files) for split, files in self._given.items()} if self._given else self._dealt(read)
        images = {path: photograph.pixels for path, photograph in read.items()}
        return self.hold(rows, images, lambda row: file_id(row.key.relative_to(self.root)))

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
