"""Folders that a user names to write into, and those that runs have to themselves."""

from __future__ import annotations

import os
from errno import EACCES
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from lightning_emerge.cli.errors import UserError
from lightning_emerge.sinks.places import to_local
from lightning_emerge.sinks.storage import Folder, Lock


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


def claim_version(logger: TensorBoardLogger | CSVLogger) -> None:
    """Makes the folder of a new run, under the next number that nobody else has taken meanwhile.

    Raises:
        OSError: if it cannot be made.
    """
    while True:
        folder = Path(to_local(logger.log_dir))
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
            return
        except FileExistsError:
            logger._version = int(logger.version) + 1


def lock_run(folder: str) -> Lock | None:
    """Keeps other fits out of a run's folder until it is released, or the process ends; None where there are no locks.

    Raises:
        ValueError: if another fit is writing there.
        OSError: if the folder cannot be written.
    """
    try:
        return Folder(folder).lock()  # which lies beside it
    except PermissionError:
        if not os.access(folder, os.W_OK):
            raise
        return None  # only the folder itself can be written, as in a container
    except BlockingIOError:
        raise ValueError(
            f"One run at a time writes to a folder; another is writing {folder} now. Wait for it, or give this one "
            "another with --trainer.logger.init_args.version."
        ) from None
