"""Photographs from a folder: real images as tokens."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from lightning_emerge.data.datamodule import ExemplarDataModule
from lightning_emerge.data.dataset import Exemplars
from lightning_emerge.data.render import SPLITS

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class FolderDataModule(ExemplarDataModule):
    """Photographs in `root/<token>/*.jpg` (or png, webp, tiff, gif, bmp): one folder a token.

    Each photograph is turned as its EXIF says, scaled so that its shorter side fits, and cropped in the middle. The
    seed and the photographs' contents decide which split each falls into, in equal shares of each token. One that is
    there twice, be it under two tokens, is always trained on, so that no other split holds a picture of training.

    Args:
        root: folder of folders.
        image_size: side of the square images in pixels, at least 8.
        batch_size: exemplars in a batch, over all processes.
        min_exemplars: photographs that each token must have; 500 makes a dense sample.
        val_share: share of each token's photographs in the validation split, above 0 and below 0.5.
        test_share: share in the test split, above 0 and below 0.5.
        bank_exemplars: stimuli of each token that probes look at, at least 2.
        seed: of the split and of the order.

    Raises:
        ValueError: if an argument is out of its range, or too few photographs are left to train on.
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
    ) -> None:
        super().__init__(image_size, batch_size, seed)
        for name, share in (("val_share", val_share), ("test_share", test_share)):
            if not 0 < share < 0.5:
                raise ValueError(f"data.{name} lies above 0 and below 0.5; got {share}.")
        for name, count, lowest in (("min_exemplars", min_exemplars, 1), ("bank_exemplars", bank_exemplars, 2)):
            if count < lowest:
                raise ValueError(f"data.{name} is at least {lowest}; got {count}.")
        self.min_exemplars, self.bank_exemplars = min_exemplars, bank_exemplars
        self.shares = {"val": val_share, "test": test_share}
        self.root = Path(root)
        self.files = _list_photographs(self.root)
        self._check_counts()

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(self.files)

    def load(self) -> Mapping[str, Exemplars]:
        splits: dict[str, list[tuple[int, Path]]] = {split: [] for split in SPLITS}
        contents = {path: hashlib.sha256(path.read_bytes()).digest() for files in self.files.values() for path in files}
        repeated = {digest for digest, times in Counter(contents.values()).items() if times > 1}
        for label, files in enumerate(self.files.values()):
            for split, chosen in self._deal(files, contents, repeated).items():
                splits[split] += [(label, path) for path in chosen]
        images = _decode([path for rows in splits.values() for _, path in rows], self.image_size)
        return {split: self._exemplars(rows, images) for split, rows in splits.items()}

    def _check_counts(self) -> None:
        for token, files in self.files.items():
            if len(files) < self.min_exemplars:
                raise ValueError(
                    f"Each token has at least data.min_exemplars ({self.min_exemplars}) photographs; "
                    f"{self.root / token} has {len(files)}. Add photographs, or lower data.min_exemplars on purpose."
                )
            if self._borders(len(files))[-1] >= len(files):
                raise ValueError(
                    f"The bank, validation and test splits leave no photograph of {token!r} to train on; "
                    f"lower data.bank_exemplars ({self.bank_exemplars}), data.val_share or data.test_share."
                )

    def _borders(self, count: int) -> tuple[int, int, int]:
        """How many of a token's photographs are in the bank; in the bank or validation; in these or test."""
        val, test = (max(1, round(self.shares[split] * count)) for split in ("val", "test"))
        return self.bank_exemplars, self.bank_exemplars + val, self.bank_exemplars + val + test

    def _deal(
        self, files: Sequence[Path], contents: Mapping[Path, bytes], repeated: Set[bytes]
    ) -> dict[str, list[Path]]:
        def draw(path: Path) -> tuple[bool, bytes]:
            return contents[path] in repeated, hashlib.sha256(f"{self.seed}/".encode() + contents[path]).digest()

        drawn = sorted(files, key=draw)
        bank, val, test = self._borders(len(files))
        return {"train": sorted(drawn[test:]), "val": drawn[bank:val], "test": drawn[val:test], "bank": drawn[:bank]}

    def _exemplars(self, rows: Sequence[tuple[int, Path]], images: Mapping[Path, npt.NDArray[np.uint8]]) -> Exemplars:
        return Exemplars(
            torch.from_numpy(np.stack([images[path] for _, path in rows])),
            torch.tensor([label for label, _ in rows]),
            tuple(path.relative_to(self.root).as_posix() for _, path in rows),
        )


def _list_photographs(root: Path) -> dict[str, list[Path]]:
    if not root.is_dir():
        siblings = [path.name for path in root.parent.iterdir()] if root.parent.is_dir() else []
        near = get_close_matches(root.name, siblings, 1)
        hint = f" Did you mean {root.parent / near[0]}?" if near else ""
        raise FileNotFoundError(f"data.root is a folder with one folder of photographs a token; {root} is none.{hint}")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(folders) < 2:
        raise FileNotFoundError(
            f"data.root is a folder with one folder of photographs a token, at least two; {root} has {len(folders)}."
        )
    files = {
        folder.name: sorted(
            path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        )
        for folder in folders
    }
    for token, found in files.items():
        if not found:
            raise ValueError(
                f"Each token's folder holds photographs ({', '.join(sorted(SUFFIXES))}); {root / token} has none."
            )
    return files


def _decode(paths: Sequence[Path], size: int) -> dict[Path, npt.NDArray[np.uint8]]:
    """Reads every photograph, or says in one error which cannot be read."""
    images: dict[Path, npt.NDArray[np.uint8]] = {}
    broken: list[str] = []
    for path in paths:
        try:
            images[path] = _read(path, size)
        except UnidentifiedImageError:
            broken.append(f"{path} (not an image)")
        except Exception as error:  # what a broken file can raise is not known
            broken.append(f"{path} ({error})")
    if broken:
        more = f" and {len(broken) - 10} more" if len(broken) > 10 else ""
        raise ValueError(
            f"Every photograph can be decoded; {len(broken)} cannot: {'; '.join(broken[:10])}{more}. "
            "Repair or remove them."
        )
    return images


def _read(path: Path, size: int) -> npt.NDArray[np.uint8]:
    with warnings.catch_warnings():
        # Odd EXIF blocks and palettes are common in photographs and do not touch the pixels.
        warnings.simplefilter("ignore", UserWarning)
        with Image.open(path) as file:
            upright = _to_eight_bits(ImageOps.exif_transpose(file)).convert("RGB")
    fitted = ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(fitted).transpose(2, 0, 1).copy()


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey, which Pillow would cut off at 255."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image
