"""RecordsArtifact: the records of a run, uploaded to where its metrics are."""

from __future__ import annotations

from pathlib import Path
from typing import final

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_warn

from lightning_emerge.engine.run_folder import run_folder
from lightning_emerge.probe import probes_of
from lightning_emerge.sinks.loggers import LoggerSink, logger_sinks
from lightning_emerge.store.layout import CONFIG, FIT, STORE, THUMBNAIL_TABLE, THUMBNAILS
from lightning_emerge.store.places import is_url, to_local

_KEPT = (STORE, CONFIG, FIT, THUMBNAILS, THUMBNAIL_TABLE)


@final
class RecordsArtifact(Callback):
    """Uploads a run's records when its fit ends: to W&B as the artifact `records-<run's id>`, to MLflow as artifacts.

    What is uploaded is a folder that `open_run`, `lightning report` and the board read: the records and, where they are
    there, `config.yaml`, `fit.json` and the pictures of the stimuli. Of a run that was interrupted nothing is uploaded;
    it is when the run resumes and ends. An upload that fails costs a warning.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and not _off(trainer) and not _takers(trainer):
            names = ", ".join(type(logger).__name__ for logger in trainer.loggers) or "none"
            raise ValueError(
                f"RecordsArtifact uploads records by a WandbLogger or an MLFlowLogger; the trainer's loggers are "
                f"{names}. Add one to trainer.logger, or take RecordsArtifact out of trainer.callbacks."
            )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit" or _off(trainer):
            return
        folder = run_folder(trainer)  # a collective: every process asks
        if not trainer.is_global_zero:
            return
        for probe in probes_of(trainer):
            probe.teardown(trainer, pl_module, stage)  # whose turn may come later, and who closes the records but once
        for sink in _takers(trainer):
            try:
                _upload(sink, folder)
            except Exception as error:
                rank_zero_warn(f"{sink.name} did not take {folder}/{STORE}. {type(error).__name__}: {error}")


def _takers(trainer: Trainer) -> list[LoggerSink]:
    return [sink for sink in logger_sinks(trainer.loggers) if sink.shows]


def _upload(sink: LoggerSink, folder: str) -> None:
    if is_url(folder):
        raise ValueError("A run is uploaded from a folder on this machine's disks; it is there already")
    home = Path(to_local(folder))
    sink.keep(home, [name for name in _KEPT if (home / name).exists()])


def _off(trainer: Trainer) -> bool:
    return bool(trainer.fast_dev_run)  # pyright: ignore[reportAttributeAccessIssue]
