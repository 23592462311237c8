"""Folders that a user names to write into."""

from __future__ import annotations

import os
from errno import EACCES
from pathlib import Path

from lightning_emerge.cli.errors import UserError


def make_folder(folder: Path) -> None:
    """Makes the folder that --out lies in.

    Raises:
        UserError: if it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(EACCES, os.strerror(EACCES))
    except OSError as error:
        raise UserError(
            f"--out lies where a folder can be made and written; {folder} cannot: {error.strerror}. Name another place."
        ) from error
