"""What can be checked of a configuration before anything is written."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from lightning_emerge.callbacks.frozen import FrozenLayers
from lightning_emerge.data.datamodule import ExemplarDataModule
from lightning_emerge.engine.bank import find_bank
from lightning_emerge.engine.budget import memory_of, refuse
from lightning_emerge.engine.lightning_private import version_of
from lightning_emerge.engine.session import find_budget, refuse_sharding
from lightning_emerge.models.classifier import TokenClassifier
from lightning_emerge.probe import Probe, probes_of
from lightning_emerge.store.claim import check_store
from lightning_emerge.store.layout import STORE


def check_strategy(settings: Any) -> None:
    """Refuses what probes cannot look at before Lightning asks for what that would need.

    Args:
        settings: of the trainer of a fit, of which nothing is made yet.

    Raises:
        ValueError: if the strategy splits weights between processes, and a probe is among the callbacks.
    """
    given = settings.callbacks or []
    callbacks = given if isinstance(given, list) else [given]  # one may be named by itself
    named = [getattr(callback, "class_path", "") for callback in callbacks]
    if any(issubclass(_find(path), Probe) for path in named):
        strategy = settings.strategy
        refuse_sharding([getattr(strategy, "class_path", str(strategy)).rpartition(".")[2]])


def check_parts(trainer: Trainer, model: LightningModule, data: LightningDataModule | None, stage: str) -> None:
    """Prepares the data, and checks that trainer, model and data fit each other.

    Raises:
        ValueError: if they do not.
    """
    if data is not None:
        data.prepare_data()
        data.setup(stage)
    if isinstance(data, ExemplarDataModule):
        data.check_processes(trainer.world_size)
    if isinstance(model, TokenClassifier):
        if data is not None:
            model.check_data(data)
        model.configure_optimizers()
    if _is_made(model):
        for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
            if isinstance(callback, Probe | FrozenLayers):
                callback.check(model)


def check_records(trainer: Trainer, *, new: bool) -> None:
    """Checks that a fit may write its records into the folder that its first logger was given.

    Args:
        trainer: of the fit.
        new: whether the run begins, so that nothing may be there.

    Raises:
        ValueError: if other records are there.
    """
    logger = trainer.loggers[0] if trainer.loggers else None
    if not trainer.is_global_zero or not probes_of(trainer):
        return
    # Without a version it gets a folder of its own.
    if isinstance(logger, TensorBoardLogger | CSVLogger) and version_of(logger) is not None:
        check_store(f"{logger.log_dir}/{STORE}", new=new)


def check_budget(trainer: Trainer, model: LightningModule, data: LightningDataModule | None) -> None:
    """Checks that a look fits into memory.

    Raises:
        ValueError: if it does not, or there is no bank to look at.
    """
    if not _is_made(model):
        return
    trainer.datamodule = data  # pyright: ignore[reportAttributeAccessIssue]
    probes = probes_of(trainer)
    found = find_budget(model, probes, find_bank(trainer, probes), trainer.world_size)
    if found is not None:
        refuse(found, memory_of(trainer.strategy.root_device))


def _is_made(model: LightningModule) -> bool:
    """Whether a module has layers; it may make them later."""
    return any(True for _ in model.parameters())


def _find(class_path: str) -> type:
    """The class that a path names, which the parser has imported already."""
    module, _, name = class_path.rpartition(".")
    found = getattr(import_module(module), name, object) if module else object
    return found if isinstance(found, type) else object
