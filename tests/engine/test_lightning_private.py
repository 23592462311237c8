"""What Lightning has no public name for does what we take it to do: a release that changes it fails here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from lightning_emerge.engine.lightning_private import (
    cluster_of,
    count_logged,
    find_requeued,
    give_version,
    restore_logged,
    version_of,
)


class _Steps(Logger):
    """Notes the step that Lightning gives each metric."""

    name = version = "none"

    def __init__(self) -> None:
        super().__init__()
        self.found: list[int | None] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.found.append(step)

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...


class _Restores(Callback):
    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        restore_logged(trainer, 41)


def test_the_count_of_logged_steps_is_the_one_that_loggers_get(make_data, make_model, make_trainer):
    logger = _Steps()
    trainer = make_trainer([_Restores()], logger=logger, max_steps=3)
    trainer.fit(make_model(), make_data())
    assert sorted(set(logger.found)) == [41, 42, 43]
    assert count_logged(trainer) == 44
    assert trainer.global_step == 3


def test_the_checkpoint_of_a_requeued_job_is_the_one_in_the_working_folder(make_trainer, tmp_path):
    trainer = make_trainer([], default_root_dir=tmp_path)
    assert find_requeued(trainer) is None
    torch.save({}, tmp_path / "hpc_ckpt_2.ckpt")
    assert find_requeued(trainer) == str(tmp_path / "hpc_ckpt_2.ckpt")


def test_the_cluster_is_the_one_that_was_given(make_trainer):
    given = LightningEnvironment()
    assert cluster_of(make_trainer([], plugins=[given])) is given


@pytest.mark.parametrize("kind", [TensorBoardLogger, CSVLogger])
def test_a_logger_has_no_version_until_it_gets_one(kind, tmp_path):
    logger = kind(str(tmp_path), name="runs")
    assert version_of(logger) is None
    assert version_of(kind(str(tmp_path), name="runs", version="mine")) == "mine"
    give_version(logger, 7)
    assert version_of(logger) == logger.version == 7
    assert logger.log_dir == str(tmp_path / "runs" / "version_7")
