"""Loggers: scalars by `log_metrics`, which every logger has; pictures and records by W&B's and MLflow's own ways.

A logger is called only in the thread that trains: Lightning calls it there too, and few bear two threads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from lightning_emerge.records import Measurement, Pixels
from lightning_emerge.sinks.scalars import scalars, text

_MOST, _LONGEST = 1000, 240
"""How many metrics MLflow takes at once, and how many characters of a name, with room for a number behind it."""


def logger_sinks(loggers: Iterable[Logger]) -> list[LoggerSink]:
    """Makes a sink for each of the loggers but TensorBoard's, which has its own."""
    return [_sink(logger) for logger in loggers if not isinstance(logger, TensorBoardLogger)]


def _sink(logger: Logger) -> LoggerSink:
    if isinstance(logger, WandbLogger):
        return WandbSink(logger)
    return MLflowSink(logger) if isinstance(logger, MLFlowLogger) else LoggerSink(logger)


class LoggerSink:
    """Gives any logger scalars: of measurements with no axis or one, each at its optimizer step.

    Args:
        logger: of the trainer.

    Attributes:
        shows: whether it takes pictures and files too.
    """

    shows: ClassVar[bool] = False

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    @property
    def name(self) -> str:
        """What the logger is called in messages."""
        return type(self._logger).__name__

    def write(self, step: int, measurements: Sequence[Measurement]) -> None:
        """Logs the scalars of one step."""
        metrics = scalars(measurements)
        if metrics:
            self._log(metrics, step)
            self._logger.save()

    def show(self, step: int, pictures: Mapping[str, Pixels]) -> None:
        """Logs pictures of one step, by name, where `shows` says so."""

    def keep(self, folder: Path, names: Sequence[str]) -> None:
        """Uploads files and folders that lie in a run's folder, where `shows` says so."""

    def _log(self, metrics: Mapping[str, float], step: int) -> None:
        self._logger.log_metrics(dict(metrics), step)


class WandbSink(LoggerSink):
    """Gives W&B scalars, pictures as `wandb.Image` and records as an artifact.

    W&B's own counter of steps only rises; Lightning logs the optimizer step beside it, as `trainer/global_step`, which
    is the axis of its charts, so that it does not matter what is logged first.
    """

    shows = True
    _logger: WandbLogger

    def show(self, step: int, pictures: Mapping[str, Pixels]) -> None:
        for name, pixels in pictures.items():
            self._logger.log_image(text(name), [pixels], step=step, caption=[f"Step {step}"])

    def keep(self, folder: Path, names: Sequence[str]) -> None:
        from wandb import Artifact

        run = self._logger.experiment
        artifact = Artifact(f"records-{run.id}", type="records")
        for name in names:
            add = artifact.add_dir if (folder / name).is_dir() else artifact.add_file
            add(str(folder / name), name=name)
        run.log_artifact(artifact)


class MLflowSink(LoggerSink):
    """Gives MLflow scalars, pictures with their step, and records as artifacts of its run."""

    shows = True
    _logger: MLFlowLogger

    def __init__(self, logger: MLFlowLogger) -> None:
        super().__init__(logger)
        self._names: dict[str, str] = {}

    def show(self, step: int, pictures: Mapping[str, Pixels]) -> None:
        for name, pixels in pictures.items():
            self._logger.experiment.log_image(self._run, pixels, key=self._name(name), step=step)

    def keep(self, folder: Path, names: Sequence[str]) -> None:
        client = self._logger.experiment
        for name in names:
            if (folder / name).is_dir():
                client.log_artifacts(self._run, str(folder / name), name)
            else:
                client.log_artifact(self._run, str(folder / name))

    def _log(self, metrics: Mapping[str, float], step: int) -> None:
        named = [(self._name(name), value) for name, value in metrics.items()]
        for first in range(0, len(named), _MOST):
            super()._log(dict(named[first : first + _MOST]), step)

    @property
    def _run(self) -> str:
        run = self._logger.run_id
        assert run is not None
        return run

    def _name(self, name: str) -> str:
        """The same in letters that MLflow takes, and as a path that is a plain one; no two become one."""
        if name not in self._names:
            parts = re.sub(r"[^a-zA-Z0-9_/. -]", "_", name).split("/")
            plain = "/".join(part for part in parts if part not in ("", ".", ".."))[:_LONGEST] or "_"
            taken, number, own = set(self._names.values()), 1, plain
            while own in taken:
                number += 1
                own = f"{plain}_{number}"
            self._names[name] = own
        return self._names[name]
