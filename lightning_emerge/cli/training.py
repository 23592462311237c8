"""`lightning fit | validate | test | predict`: Lightning's command line, with checks before and a summary after."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from lightning_emerge.analysis.emergence import summarise_run
from lightning_emerge.cli.errors import forgive
from lightning_emerge.cli.parser import Parser
from lightning_emerge.data.datamodule import ExemplarDataModule
from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.models.classifier import TokenClassifier
from lightning_emerge.probe import probes_of
from lightning_emerge.probes.contact import ContactSheet
from lightning_emerge.sinks.predictions import write_predictions
from lightning_emerge.sinks.tensorboard import tensorboard_sinks

_DESCRIPTION = (
    "Train a network and watch how it comes to know what it knows. `lightning board DIR` opens the runs; "
    "`lightning sheet` draws the exemplars, and `lightning data` writes them as an image folder."
)


def run(arguments: Sequence[str]) -> None:
    """Parses and runs one of Lightning's commands.

    Raises:
        UserError: if the arguments, the configuration or the data are not as they have to be.
    """
    _silence_warnings()
    EmergeCLI(
        _hold_messages(),
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        parser_class=Parser,
        parser_kwargs={"description": _DESCRIPTION, "version": version("lightning_emerge")},
        trainer_defaults={"callbacks": [ContactSheet()]},
        # A run that is gone on with in its own folder has its configuration there already.
        save_config_kwargs={"overwrite": True},
        args=list(arguments),
    )


class EmergeCLI(LightningCLI):
    """Lightning's command line, which checks everything that can be checked before anything is written."""

    def __init__(self, held: _Held, *args: Any, **kwargs: Any) -> None:
        self._held = held
        super().__init__(*args, **kwargs)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "LightningCLI's args parameter")
            super().parse_arguments(parser, args)

    def instantiate_classes(self) -> None:
        # A data set of torchvision that is not on disk raises a RuntimeError.
        forgive(super().instantiate_classes, RuntimeError)

    def before_fit(self) -> None:
        self._prepare("fit")
        self._began = time.monotonic()

    def before_validate(self) -> None:
        self._prepare("validate")

    def before_test(self) -> None:
        self._prepare("test")

    def before_predict(self) -> None:
        self._prepare("predict")

    def after_fit(self) -> None:
        if not self.trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            self._summarise(self.trainer.log_dir or self.trainer.default_root_dir, time.monotonic() - self._began)

    def after_predict(self) -> None:
        batches = self.trainer.predict_loop.predictions
        tokens = getattr(self.model, "tokens", ())
        if not batches or not tokens:
            return
        rank = f"_rank{self.trainer.global_rank}" if self.trainer.world_size > 1 else ""
        path = Path(self.trainer.log_dir or self.trainer.default_root_dir) / f"predictions{rank}.csv"
        rows = write_predictions(path, tokens, batches)  # pyright: ignore[reportArgumentType]
        print(f"\n{rows} predictions are in {path}")

    def _prepare(self, stage: str) -> None:
        forgive(lambda: self._check(stage))
        self._held.release()

    def _check(self, stage: str) -> None:
        checkpoint = self._get(self.config_init, "ckpt_path")
        if checkpoint and str(checkpoint) not in ("best", "last", "hpc", "registry") and not Path(checkpoint).exists():
            raise ValueError(f"--ckpt_path names a checkpoint, 'best' or 'last'; there is no file {checkpoint}.")
        if self.datamodule is not None:
            self.datamodule.prepare_data()
            self.datamodule.setup(stage)
        if isinstance(self.datamodule, ExemplarDataModule):
            self.datamodule.check_processes(self.trainer.world_size)
        if isinstance(self.model, TokenClassifier):
            if self.datamodule is not None:
                self.model.check_data(self.datamodule)
            self.model.configure_optimizers()
        for probe in probes_of(self.trainer):
            probe.check(self.model)

    @rank_zero_only
    def _summarise(self, folder: str, seconds: float) -> None:
        accuracy = self.trainer.callback_metrics.get("val/accuracy")
        print(f"\nRun       {folder}")
        print(f"Trained   {self.trainer.global_step} optimizer steps in {seconds / 60:.1f} minutes", end="")
        print(f"; validation accuracy {float(accuracy):.3f}" if accuracy is not None else "")
        lines, picture = summarise_run(folder)
        if picture is not None:
            path = Path(folder) / "emergence.png"
            picture.savefig(path)
            lines.append(f"Picture   {path}")
            for sink in tensorboard_sinks(self.trainer.loggers):
                sink.write(self.trainer.global_step, [], {"emergence": to_pixels(picture)})
                sink.close()
        for line in [*lines, *self._failures()]:
            print(line)
        print(f"Look      lightning board {folder}")

    def _failures(self) -> list[str]:
        failed = [probe for probe in probes_of(self.trainer) if probe.failed_at is not None]
        return [f"Failed    {type(probe).__name__} is off since step {probe.failed_at}" for probe in failed]


class _Held(logging.Filter):
    """Holds Lightning's messages back until the checks are over, so that a mistake is answered by one line alone."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] | None = []

    def filter(self, record: logging.LogRecord) -> bool:
        if "Tip: For seamless cloud" in record.getMessage():  # an advertisement
            return False
        if self._records is not None:
            self._records.append(record)
        return self._records is None

    def release(self) -> None:
        records, self._records = self._records or [], None
        for record in records:
            logging.getLogger(record.name).handle(record)


def _hold_messages() -> _Held:
    held = _Held()
    for name in ("lightning.fabric", "lightning.pytorch"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(held)
    return held


def _silence_warnings() -> None:
    """Keeps warnings that the user can do nothing about off the screen."""
    # Batches are looked up in memory, whole: worker processes would only copy them.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    # Lightning 2.6 calls what torch 2.15 has renamed.
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
