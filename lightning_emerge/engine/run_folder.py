"""Where a run keeps its records, checkpoints and pictures: a folder of its own, named as its logger names the run."""

from __future__ import annotations

import os

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning_utilities.core.rank_zero import WarningCache

from lightning_emerge.store.places import is_url

_warned = WarningCache()


def run_folder(trainer: Trainer) -> str:
    """Finds the folder of a run. A collective: every process asks.

    The first logger names it: `TensorBoardLogger` and `CSVLogger` by `log_dir`, any other by its `save_dir`, `name`
    and `version`, as Lightning does for checkpoints. Where there is no logger, or one that names nothing, it is the
    trainer's `default_root_dir`.

    Args:
        trainer: of the run. The version of some loggers, such as W&B's, is known from `setup` on.
    """
    found = _find(trainer.loggers, trainer.default_root_dir) if trainer.is_global_zero else ""
    return trainer.strategy.broadcast(found)


def _find(loggers: list[Logger], root: str) -> str:
    if not loggers:
        return root
    logger = loggers[0]
    try:
        if isinstance(logger, TensorBoardLogger | CSVLogger):
            return logger.log_dir or root
        named = [logger.name, f"version_{logger.version}" if isinstance(logger.version, int) else logger.version]
        home = str(logger.save_dir or root)
    except Exception as error:  # somebody's own logger; other processes wait for the answer
        _warned.warn(
            f"A run's folder is named by the save_dir, name and version of its first logger; {type(logger).__name__} "
            f"raised {type(error).__name__}: {error}. The folder is {root}."
        )
        return root
    home = home if is_url(home) else os.path.normpath(home)
    return "/".join([home, *(str(part).strip("/") for part in named if part not in (None, ""))])
