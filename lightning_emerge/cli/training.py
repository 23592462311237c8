"""`lightning fit | validate | test | predict`: Lightning's command line, with checks before and a summary after."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from lightning_emerge.callbacks.contact import ContactSheet
from lightning_emerge.cli.checks import check_budget, check_parts, check_records, check_strategy
from lightning_emerge.cli.errors import forgive
from lightning_emerge.cli.folders import claim, spell_out
from lightning_emerge.cli.parser import ANY_PARTS, Parser
from lightning_emerge.cli.process import keep_memory
from lightning_emerge.cli.quiet import Held, hold_messages, silence_warnings
from lightning_emerge.cli.resuming import check_checkpoint, find_checkpoint
from lightning_emerge.cli.troubles import guard
from lightning_emerge.engine.checkpoint_files import read_checkpoint, take_literally
from lightning_emerge.engine.endings import attach, attend, watching
from lightning_emerge.engine.run_folder import run_folder
from lightning_emerge.store.folder import Folder
from lightning_emerge.store.predictions import write_predictions

_DESCRIPTION = (
    "Train a network and watch how it comes to know what it knows. `lightning board DIR` opens the runs; "
    "`lightning replay` looks at checkpoints; `lightning sheet` draws the exemplars, `lightning data` writes them."
)


def run(arguments: Sequence[str]) -> None:
    """Parses and runs one of Lightning's commands.

    Raises:
        UserError: if the arguments, the configuration or the data are not as they have to be.
    """
    silence_warnings()
    keep_memory()
    with ExitStack() as stack, watching(lambda last: "Resume with the same command and --ckpt_path last."):
        EmergeCLI(
            stack,
            hold_messages(),
            **ANY_PARTS,
            save_config_callback=SaveConfig,
            parser_class=Parser,
            parser_kwargs={"description": _DESCRIPTION, "version": version("lightning_emerge")},
            trainer_defaults={"callbacks": [ContactSheet()]},
            args=list(arguments),
        )


class SaveConfig(SaveConfigCallback):
    """Writes the configuration into the folder that the run has to itself, to the letter of its path."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        folder = run_folder(trainer)  # a collective: every process asks
        if self.already_saved or not trainer.is_global_zero:
            return
        self.already_saved = True
        files = Folder(folder)
        # A test or a prediction in the folder of a fit leaves the fit's own there.
        if stage == "fit" or not files.exists(self.config_filename):
            text = self.parser.dump(self.config, skip_none=False, skip_link_targets=False)
            files.put(self.config_filename, text.encode())


class EmergeCLI(LightningCLI):
    """Lightning's command line, which checks everything that can be checked before anything is written."""

    def __init__(self, stack: ExitStack, held: Held, *args: Any, **kwargs: Any) -> None:
        self._stack, self._held = stack, held
        commands, first = self.subcommands(), kwargs["args"][:1]
        if first and first[0] in commands:  # a parser for each command would take as long as reading a configuration
            self.subcommands = lambda: {first[0]: commands[first[0]]}
        super().__init__(*args, **kwargs)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses, and refuses a checkpoint that cannot be read before Lightning looks for hyperparameters in it."""
        super().parse_arguments(parser, args)
        path = self.config[self.config.subcommand].get("ckpt_path")
        if path and Path(path).is_file():
            forgive(lambda: read_checkpoint(path))

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        # Checkpoints are never loaded in any other way than the safe one, so there is no option.
        return {name: {*skipped, "weights_only"} for name, skipped in LightningCLI.subcommands().items()}

    def instantiate_classes(self) -> None:
        trainer: Any = self.config[self.config.subcommand].trainer
        if self.config.subcommand == "fit":
            forgive(lambda: check_strategy(trainer))
        spell_out(trainer)
        # A data set of torchvision that is not on disk raises a RuntimeError.
        forgive(super().instantiate_classes, RuntimeError)
        take_literally(self.trainer)

    def fit(self, **settings: Any) -> None:
        """Trains."""
        watch = attend(self.trainer).watch
        try:
            self._guard(lambda: self.trainer.fit(**settings, weights_only=True))
        except Exception:
            if not watch.asked:
                raise
            watch.finish()  # what the signal did to others, such as workers of loaders, is no news
            raise watch.ended() from None
        watch.conclude()

    def validate(self, **settings: Any) -> None:
        """Validates."""
        self._guard(lambda: self.trainer.validate(**settings, weights_only=True))

    def test(self, **settings: Any) -> None:
        """Tests."""
        self._guard(lambda: self.trainer.test(**settings, weights_only=True))

    def predict(self, **settings: Any) -> None:
        """Predicts."""
        self._guard(lambda: self.trainer.predict(**settings, weights_only=True))

    def _guard(self, run: Callable[[], object]) -> None:
        guard(run, self.trainer.loggers)

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
        if self.trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            return
        folder = run_folder(self.trainer)  # a collective: every process asks
        if self.trainer.is_global_zero:
            from lightning_emerge.cli.closing import close_fit

            close_fit(self.trainer, folder, time.monotonic() - self._began)

    def after_predict(self) -> None:
        batches = self.trainer.predict_loop.predictions
        tokens = getattr(self.model, "tokens", ())
        if not batches or not tokens:
            return
        rank = f"_rank{self.trainer.global_rank}" if self.trainer.world_size > 1 else ""
        path = Path(run_folder(self.trainer)) / f"predictions{rank}.csv"
        rows = write_predictions(path, tokens, batches)  # pyright: ignore[reportArgumentType]
        print(f"\n{rows} predictions are in {path}")

    def _prepare(self, stage: str) -> None:
        """Checks what is given, and takes the run's folder only then."""
        settings: Any = self.config_init[stage]
        asked = settings["ckpt_path"]
        forgive(lambda: self._check(stage, settings))
        if self.trainer.is_global_zero:
            forgive(lambda: self._guard(lambda: self._claim(stage)))
        attach(self.trainer, fitting=stage == "fit")
        self._held.release()
        if asked == "last" and stage == "fit" and self.trainer.is_global_zero:
            found = settings["ckpt_path"]
            print(f"Going on from {found}" if found else "There is no checkpoint yet; the run begins at step 0")

    def _check(self, stage: str, settings: Any) -> None:
        fitting = stage == "fit"
        settings["ckpt_path"] = checkpoint = find_checkpoint(self.trainer, settings["ckpt_path"], fitting=fitting)
        check_checkpoint(checkpoint, self.model, fitting=fitting)
        check_parts(self.trainer, self.model, self.datamodule, stage)
        if fitting:
            check_records(self.trainer, new=not checkpoint)
            check_budget(self.trainer, self.model, self.datamodule)

    def _claim(self, stage: str) -> None:
        lock = claim(self.trainer.loggers, lock=stage == "fit")
        if lock is not None:
            self._stack.callback(lock.release)
