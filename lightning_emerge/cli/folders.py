"""Folders that a user names to write into, and those that runs have to themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from errno import EACCES
from pathlib import Path
from typing import Any, TypeGuard

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from lightning_emerge.cli.errors import UserError
from lightning_emerge.engine.lightning_private import give_version, version_of
from lightning_emerge.store.folder import Folder, Lock
from lightning_emerge.store.places import is_url, to_local


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


def spell_out(settings: Any) -> None:
    """Gives folders with a colon from the root on: Lightning takes `exp::a`, `data:x` and `file:x` for protocols.

    Args:
        settings: of the trainer, in which the folders are changed.
    """
    loggers = settings.logger if isinstance(settings.logger, list) else [settings.logger]
    places = [(logger.init_args, "save_dir") for logger in loggers if hasattr(logger, "init_args")]
    for place, key in [(settings, "default_root_dir"), *places]:
        folder = place.get(key)
        if folder and ":" in str(folder) and not is_url(folder):
            place[key] = to_local(folder)


def is_local(logger: Logger) -> TypeGuard[TensorBoardLogger | CSVLogger]:
    """Whether a logger gives each run a folder on this machine's disks."""
    return isinstance(logger, TensorBoardLogger | CSVLogger) and not is_url(logger.root_dir)


def claim(loggers: Sequence[Logger], *, lock: bool) -> Lock | None:
    """Makes the folders of a run its own, before anything is written there.

    Args:
        loggers: of the trainer; those that have no version yet get one.
        lock: whether to keep other fits out of the first one's folder until it is released.

    Raises:
        ValueError: if another fit is writing there.
        OSError: if the folder cannot be made.
    """
    for logger in filter(is_local, loggers):
        if version_of(logger) is None:
            claim_version(logger)
    first = loggers[0] if loggers else None
    return lock_run(str(first.log_dir)) if lock and first and is_local(first) else None


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
            give_version(logger, int(logger.version) + 1)


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
