"""Which checkpoint a command begins with: the one that is named, the newest run's last one, or none."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.model_helpers import is_overridden

from lightning_emerge.callbacks.checkpoints import LAST
from lightning_emerge.cli.troubles import say_other_network
from lightning_emerge.engine.checkpoint_files import find_mismatch, read_checkpoint
from lightning_emerge.engine.lightning_private import find_requeued, give_version, version_of
from lightning_emerge.models.classifier import TokenClassifier
from lightning_emerge.store.layout import STORE
from lightning_emerge.store.places import is_url

_FOUND = "LIGHTNING_EMERGE_LAST"
"""Where a process tells those that it starts from which checkpoint all resume."""


def find_checkpoint(trainer: Trainer, asked: str | None, *, fitting: bool) -> str | None:
    """Finds the checkpoint that `--ckpt_path` asks for.

    Args:
        trainer: of the command.
        asked: a file, "last" or another word of Lightning's.
        fitting: whether the run resumes, so that its logger has to write where it did.

    Raises:
        ValueError: if there is none, or one of any job of SLURM's lies where Lightning would resume from it.
    """
    if asked == "last":
        asked = _find_last(trainer, fitting=fitting)
    if asked is None:
        _refuse_foreign(trainer)
    return asked


def check_checkpoint(path: str | None, model: LightningModule, *, fitting: bool) -> None:
    """Checks that a command can begin with a checkpoint.

    Args:
        path: as `find_checkpoint` gives it.
        model: of the command.
        fitting: whether training resumes from it, which takes a whole one.

    Raises:
        ValueError: if it is not there, or holds another network or too little.
    """
    if not path or str(path) in ("best", "hpc", "registry") or is_url(path):
        return
    if not Path(path).exists():
        raise ValueError(f"--ckpt_path names a checkpoint, 'best' or 'last'; there is no file {path}.")
    checkpoint = read_checkpoint(path)
    if fitting and "optimizer_states" not in checkpoint:
        raise ValueError(
            f"A fit goes on from a whole checkpoint, such as last.ckpt; {path} holds weights alone. "
            "Look at them with `lightning replay`, or test them with `lightning test`."
        )
    _check_network(path, model, checkpoint["state_dict"])


def find_last(loggers: Sequence[Logger], *, go_on: bool) -> str | None:
    """Finds `last.ckpt` of the newest run under the first logger's name, or of the version that it was given.

    Args:
        loggers: of the trainer; a `TensorBoardLogger` or a `CSVLogger` comes first.
        go_on: whether to make the logger write into that run's folder.

    Returns:
        The file's path, or None if there is none.

    Raises:
        ValueError: if the first logger does not number its runs.
    """
    logger = loggers[0] if loggers else None
    if not isinstance(logger, TensorBoardLogger | CSVLogger):
        raise ValueError(
            "--ckpt_path last looks in the runs of a TensorBoardLogger or CSVLogger; the first logger is "
            f"{type(logger).__name__ if logger else 'none'}. Name the checkpoint's file."
        )
    if is_url(logger.root_dir):
        raise ValueError(
            f"--ckpt_path last looks on this machine's disks; the runs are in {logger.root_dir}. Name the checkpoint's "
            "file."
        )
    given = version_of(logger)
    version = _newest_fit(Path(logger.root_dir)) if given is None else given
    name = version if isinstance(version, str) else f"version_{version}"
    last = Path(logger.root_dir) / name / "checkpoints" / LAST
    if not last.exists():
        return None
    if go_on:
        give_version(logger, version)
    return str(last)


def _find_last(trainer: Trainer, *, fitting: bool) -> str | None:
    if not trainer.is_global_zero and _FOUND in os.environ:  # what is the last may have changed meanwhile
        return os.environ[_FOUND] or None
    found = find_last(trainer.loggers, go_on=fitting)
    if found is None and not fitting:
        raise ValueError("--ckpt_path last is the newest run's last checkpoint; no run has one yet. Train first.")
    os.environ[_FOUND] = found or ""
    return found


def _newest_fit(home: Path) -> int | None:
    """The highest version that a fit has left; tests and predictions have folders of their own beside them."""
    fits = [*home.glob(f"version_*/{STORE}"), *home.glob(f"version_*/checkpoints/{LAST}")]
    names = {path.relative_to(home).parts[0].removeprefix("version_") for path in fits}
    return max((int(name) for name in names if name.isdigit()), default=None)


def _refuse_foreign(trainer: Trainer) -> None:
    """Refuses to resume from what Lightning has saved for a job of SLURM's, which may be any job's."""
    found = find_requeued(trainer) if SLURMEnvironment.detect() else None
    if found is not None:
        raise ValueError(
            f"A job of SLURM's resumes from its own run's last.ckpt; {found} lies in the working folder, and "
            "Lightning would go on from it whichever job it is of. Move it away, or name it with --ckpt_path."
        )


def _check_network(path: str, model: LightningModule, weights: Mapping[str, torch.Tensor]) -> None:
    """Compares a checkpoint with the network, if that is made already and takes weights as they are."""
    makers = ("configure_model", "setup", "on_load_checkpoint")
    own = not isinstance(model, TokenClassifier) and any(is_overridden(name, model, LightningModule) for name in makers)
    if own or not model.strict_loading or not any(True for _ in model.parameters()):
        return
    wrong = find_mismatch(model, weights)
    if wrong is None:
        return
    with suppress(RuntimeError):  # a layer may know how to read what an older version of it saved
        copy.deepcopy(model).load_state_dict(weights)
        return
    raise ValueError(say_other_network(path, wrong))
