"""Photographs from a folder: real images as tokens."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from lightning_emerge.data.datamodule import ExemplarDataModule
from lightning_emerge.data.dataset import Exemplars
from lightning_emerge.data.render import SPLITS

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class FolderDataModule(ExemplarDataModule):
    """Photographs in `root/<token>/*.jpg` (or png, webp, tiff, gif, bmp): one folder a token.

    Each photograph is turned as its EXIF says, scaled so that its shorter side fits, and cropped in the middle. Which
    split it falls into depends on the seed and on its own name alone, in equal shares of each token.

    Args:
        root: folder of folders.
        image_size: side of the square images in pixels, at least 8.
        batch_size: exemplars in an optimizer step, over all processes.
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
        for label, (token, files) in enumerate(self.files.items()):
            for split, chosen in self._deal(token, files).items():
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
            if not self._deal(token, files)["train"]:
                raise ValueError(
                    f"The bank, validation and test splits leave no photograph of {token!r} to train on; "
                    f"lower data.bank_exemplars ({self.bank_exemplars}), data.val_share or data.test_share."
                )

    def _deal(self, token: str, files: Sequence[Path]) -> dict[str, list[Path]]:
        def draw(path: Path) -> bytes:
            return hashlib.sha256(f"{self.seed}/{token}/{path.name}".encode()).digest()

        drawn = sorted(files, key=draw)
        bank = self.bank_exemplars
        val = bank + max(1, round(self.shares["val"] * len(files)))
        test = val + max(1, round(self.shares["test"] * len(files)))
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
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
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
            upright = ImageOps.exif_transpose(file).convert("RGB")
    fitted = ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(fitted).transpose(2, 0, 1).copy()
