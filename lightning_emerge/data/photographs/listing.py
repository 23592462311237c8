"""Photographs on disk: one folder a token, in one folder or in one for each split."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from lightning_emerge.data.names import SPLITS, check_token

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

Files = dict[str, list[Path]]
"""Photographs of each token, by name."""


def list_tokens(root: Path) -> Files:
    """Photographs in `root/<token>/`, tokens and files in the order of their names; hidden ones are left out.

    Raises:
        FileNotFoundError: if `root` does not exist or holds fewer than two folders.
        ValueError: if one of them holds no photographs, or its name is no token's.
    """
    _check_folder(root)
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(folders) < 2:
        raise FileNotFoundError(
            f"data.root is a folder with one folder of photographs a token, at least two; {root} has {len(folders)}."
        )
    files = {check_token(folder.name): _list_photographs(folder) for folder in folders}
    for token, found in files.items():
        if not found:
            hint = (
                f" Splits are read as they are where all of {', '.join(SPLITS)} are there." if token in SPLITS else ""
            )
            raise ValueError(
                f"Each token's folder holds photographs ({', '.join(sorted(SUFFIXES))}); {root / token} has none.{hint}"
            )
    return files


def list_splits(root: Path) -> dict[str, Files] | None:
    """Photographs in `root/<split>/<token>/`, or none if not all splits have a folder.

    Raises:
        FileNotFoundError: as `list_tokens`, for one of the splits.
        ValueError: likewise, or if the splits do not have the same tokens, or the bank is not balanced.
    """
    if not all((root / split).is_dir() for split in SPLITS):
        return None
    splits = {split: list_tokens(root / split) for split in SPLITS}
    _check_tokens(root, splits)
    _check_bank(root / "bank", splits["bank"])
    return splits


def _check_folder(root: Path) -> None:
    if root.is_dir():
        return
    siblings = [path.name for path in root.parent.iterdir()] if root.parent.is_dir() else []
    near = get_close_matches(root.name, siblings, 1)
    hint = f" Did you mean {root.parent / near[0]}?" if near else ""
    raise FileNotFoundError(f"data.root is a folder with one folder of photographs a token; {root} is none.{hint}")


def _list_photographs(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def _check_tokens(root: Path, splits: Mapping[str, Files]) -> None:
    for split, files in splits.items():
        differing = sorted(splits["train"].keys() ^ files.keys())
        if differing:
            raise ValueError(
                f"Each split has a folder for each token; {root / 'train'} and {root / split} do not share "
                f"{', '.join(differing)}. Add the missing folders, or remove the others."
            )


def _check_bank(folder: Path, files: Files) -> None:
    counts = {token: len(found) for token, found in files.items()}
    if min(counts.values()) < 2 or len(set(counts.values())) > 1:
        said = ", ".join(f"{token} {count}" for token, count in counts.items())
        raise ValueError(
            f"The stimulus bank has equally many photographs of each token, at least two; {folder} has {said}. "
            "Add or remove photographs there."
        )
