"""What Lightning has no public name for, in one place, so that a release that drops one of these fails one test."""

from __future__ import annotations

from typing import Any

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger


def cluster_of(trainer: Trainer) -> ClusterEnvironment:
    """What has started a trainer's processes. Strategies of one device have it nowhere else."""
    return getattr(trainer, "_accelerator_connector").cluster_environment  # noqa: B009 - it is not of the interface


def find_requeued(trainer: Trainer) -> str | None:
    """The checkpoint that Lightning itself would resume a job of SLURM's from, whichever job has left it."""
    return trainer._checkpoint_connector._hpc_resume_path


def count_logged(trainer: Trainer) -> int:
    """The steps as loggers count them: batches, where several optimizers step in one."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def restore_logged(trainer: Trainer, count: int) -> None:
    """Puts that count back: on resuming, Lightning adds one for a step that it believes to be unfinished."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = count


def version_of(logger: TensorBoardLogger | CSVLogger) -> int | str | None:
    """The version that a logger was given; None if it has none yet. Its own `version` would choose one."""
    return logger._version


def give_version(logger: TensorBoardLogger | CSVLogger, version: int | str | None) -> None:
    """Gives a version to a logger that has opened no file yet, in place of the one that it has."""
    known: Any = logger  # one of the two says that it has numbers alone
    known._version = version
