"""`lightning fit | validate | test | predict`: Lightning's command line, with checks before and a summary after."""

from __future__ import annotations

import copy
import logging
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from errno import EACCES, EDQUOT, EIO, ENOENT, ENOSPC, ENOTDIR, EROFS
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.model_helpers import is_overridden

from lightning_emerge.callbacks.checkpoints import LAST
from lightning_emerge.callbacks.contact import ContactSheet
from lightning_emerge.callbacks.frozen import FrozenLayers
from lightning_emerge.cli.errors import UserError, forgive
from lightning_emerge.cli.folders import claim_version, lock_run
from lightning_emerge.cli.parser import Parser
from lightning_emerge.cli.process import keep_memory
from lightning_emerge.data.datamodule import ExemplarDataModule
from lightning_emerge.engine.budget import memory_of, refuse
from lightning_emerge.engine.checkpoints import find_mismatch, read_checkpoint, take_literally
from lightning_emerge.engine.endings import attach, attend, watching
from lightning_emerge.engine.session import find_bank, find_budget, refuse_sharding
from lightning_emerge.models.classifier import TokenClassifier
from lightning_emerge.probe import Probe, probes_of
from lightning_emerge.sinks.arrays import STORE, check_store
from lightning_emerge.sinks.places import is_url, to_local
from lightning_emerge.sinks.predictions import write_predictions
from lightning_emerge.sinks.storage import Folder, Lock

_LAST = "LIGHTNING_EMERGE_LAST"
"""Where a process tells those that it starts from which checkpoint all resume."""

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
            LightningModule,
            LightningDataModule,
            save_config_callback=SaveConfig,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            parser_class=Parser,
            parser_kwargs={"description": _DESCRIPTION, "version": version("lightning_emerge")},
            trainer_defaults={"callbacks": [ContactSheet()]},
            args=list(arguments),
        )


class SaveConfig(SaveConfigCallback):
    """Writes the configuration into the folder that the run has to itself, to the letter of its path."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        folder = trainer.log_dir  # a collective: every process asks
        if self.already_saved or not folder or not trainer.is_global_zero:
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

    def _parse_ckpt_path(self) -> None:
        # Lightning looks for hyperparameters in the checkpoint before anything else.
        path = self.config[self.config.subcommand].get("ckpt_path")
        if path and Path(path).is_file():
            forgive(lambda: read_checkpoint(path))
        super()._parse_ckpt_path()

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        # Checkpoints are never loaded in any other way than the safe one, so there is no option.
        return {name: {*skipped, "weights_only"} for name, skipped in LightningCLI.subcommands().items()}

    def instantiate_classes(self) -> None:
        forgive(self._check_strategy)
        _spell_out(self._get(self.config, "trainer"))
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
        watch.settle()

    def validate(self, **settings: Any) -> None:
        """Validates."""
        self._guard(lambda: self.trainer.validate(**settings, weights_only=True))

    def test(self, **settings: Any) -> None:
        """Tests."""
        self._guard(lambda: self.trainer.test(**settings, weights_only=True))

    def predict(self, **settings: Any) -> None:
        """Predicts."""
        self._guard(lambda: self.trainer.predict(**settings, weights_only=True))

    def _claim(self, stage: str) -> None:
        lock = claim(self.trainer.loggers, lock=stage == "fit")
        if lock is not None:
            self._stack.callback(lock.release)

    def _guard(self, run: Callable[[], object]) -> None:
        """Says of a disk that fails, and of a network that is not the checkpoint's, what can be done."""
        try:
            run()
        except OSError as error:
            said = _explain_disk(error, self.trainer.loggers)
            if said is None:
                raise
            raise UserError(said) from error
        except RuntimeError as error:
            if "Error(s) in loading state_dict" not in str(error):
                raise
            raise UserError(_other_network("the one given", str(error).strip().splitlines()[-1].strip())) from error

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
        folder = self.trainer.log_dir or self.trainer.default_root_dir  # a collective: every process asks
        if self.trainer.is_global_zero:
            from lightning_emerge.cli.closing import close_fit

            close_fit(self.trainer, folder, time.monotonic() - self._began)

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
        asked = self._get(self.config_init, "ckpt_path")
        forgive(lambda: self._check(stage))
        if self.trainer.is_global_zero:
            forgive(lambda: self._guard(lambda: self._claim(stage)))
        attach(self.trainer, fitting=stage == "fit")
        self._held.release()
        if asked == "last" and stage == "fit" and self.trainer.is_global_zero:
            found: Any = self._get(self.config_init, "ckpt_path")
            print(f"Going on from {found}" if found else "There is no checkpoint yet; the run begins at step 0")

    def _check(self, stage: str) -> None:
        self._check_checkpoint(stage)
        if self.datamodule is not None:
            self.datamodule.prepare_data()
            self.datamodule.setup(stage)
        if isinstance(self.datamodule, ExemplarDataModule):
            self.datamodule.check_processes(self.trainer.world_size)
        if isinstance(self.model, TokenClassifier):
            if self.datamodule is not None:
                self.model.check_data(self.datamodule)
            self.model.configure_optimizers()
        self._check_layers()
        if stage == "fit":
            self._check_records()
            self._check_budget()

    def _check_strategy(self) -> None:
        """Refuses what probes cannot look at before Lightning asks for what that would need."""
        settings: Any = self._get(self.config, "trainer")
        given = settings.callbacks or []
        callbacks = given if isinstance(given, list) else [given]  # one may be named by itself
        named = [getattr(callback, "class_path", "") for callback in callbacks]
        if self.config.subcommand == "fit" and any(issubclass(_find(path), Probe) for path in named):
            strategy = settings.strategy
            refuse_sharding([getattr(strategy, "class_path", str(strategy)).rpartition(".")[2]])

    def _check_budget(self) -> None:
        probes = probes_of(self.trainer)
        if not any(True for _ in self.model.parameters()):  # a module may make its layers later
            return
        self.trainer.datamodule = self.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        found = find_budget(self.model, probes, find_bank(self.trainer, probes), self.trainer.world_size)
        if found is not None:
            refuse(found, memory_of(self.trainer.strategy.root_device))

    def _check_layers(self) -> None:
        if any(True for _ in self.model.parameters()):  # a module may make its layers later
            for callback in self.trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
                if isinstance(callback, Probe | FrozenLayers):
                    callback.check(self.model)

    def _check_records(self) -> None:
        logger = self.trainer.loggers[0] if self.trainer.loggers else None
        if (
            self.trainer.is_global_zero
            and probes_of(self.trainer)
            and isinstance(logger, TensorBoardLogger | CSVLogger)
            and logger._version is not None  # otherwise it gets a folder of its own
        ):
            check_store(f"{logger.log_dir}/{STORE}", new=not self._get(self.config_init, "ckpt_path"))

    def _check_checkpoint(self, stage: str) -> None:
        given = self._get(self.config_init, "ckpt_path")
        settings: Any = self.config_init[stage]
        if given == "last":
            given = settings["ckpt_path"] = self._find_last(stage)
        if given is None:
            self._refuse_foreign()
        if not given or str(given) in ("best", "hpc", "registry") or is_url(given):
            return
        if not Path(given).exists():
            raise ValueError(f"--ckpt_path names a checkpoint, 'best' or 'last'; there is no file {given}.")
        checkpoint = read_checkpoint(given)
        if stage == "fit" and "optimizer_states" not in checkpoint:
            raise ValueError(
                f"A fit goes on from a whole checkpoint, such as last.ckpt; {given} holds weights alone. "
                "Look at them with `lightning replay`, or test them with `lightning test`."
            )
        self._check_network(given, checkpoint["state_dict"])

    def _find_last(self, stage: str) -> str | None:
        if not self.trainer.is_global_zero and _LAST in os.environ:  # what is the last may have changed meanwhile
            return os.environ[_LAST] or None
        found = find_last(self.trainer.loggers, go_on=stage == "fit")
        if found is None and stage != "fit":
            raise ValueError("--ckpt_path last is the newest run's last checkpoint; no run has one yet. Train first.")
        os.environ[_LAST] = found or ""
        return found

    def _refuse_foreign(self) -> None:
        """Refuses to go on from what Lightning has saved for a job of SLURM's, which may be any job's."""
        found = self.trainer._checkpoint_connector._hpc_resume_path if SLURMEnvironment.detect() else None
        if found is not None:
            raise ValueError(
                f"A job of SLURM's resumes from its own run's last.ckpt; {found} lies in the working folder, and "
                "Lightning would go on from it whichever job it is of. Move it away, or name it with --ckpt_path."
            )

    def _check_network(self, path: str, weights: Mapping[str, torch.Tensor]) -> None:
        """Compares a checkpoint with the network, if that is made already and takes weights as they are."""
        makers = ("configure_model", "setup", "on_load_checkpoint")
        own = not isinstance(self.model, TokenClassifier) and any(
            is_overridden(name, self.model, LightningModule) for name in makers
        )
        if own or not self.model.strict_loading or not any(True for _ in self.model.parameters()):
            return
        wrong = find_mismatch(self.model, weights)
        if wrong is None:
            return
        with suppress(RuntimeError):  # a layer may know how to read what an older version of it saved
            copy.deepcopy(self.model).load_state_dict(weights)
            return
        raise ValueError(_other_network(path, wrong))


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
    version = _newest_fit(Path(logger.root_dir)) if logger._version is None else logger._version
    name = version if isinstance(version, str) else f"version_{version}"
    last = Path(logger.root_dir) / name / "checkpoints" / LAST
    if not last.exists():
        return None
    if go_on:
        logger._version = version
    return str(last)


def _find(class_path: str) -> type:
    """The class that a path names, which the parser has imported already."""
    module, _, name = class_path.rpartition(".")
    found = getattr(import_module(module), name, object) if module else object
    return found if isinstance(found, type) else object


def _newest_fit(home: Path) -> int | None:
    """The highest version that a fit has left; tests and predictions have folders of their own beside them."""
    fits = [*home.glob(f"version_*/{STORE}"), *home.glob(f"version_*/checkpoints/{LAST}")]
    names = {path.relative_to(home).parts[0].removeprefix("version_") for path in fits}
    return max((int(name) for name in names if name.isdigit()), default=None)


def claim(loggers: Sequence[Logger], *, lock: bool) -> Lock | None:
    """Makes the folders of a run its own, before anything is written there.

    Args:
        loggers: of the trainer; those that have no version yet get one.
        lock: whether to keep other fits out of the first one's folder until it is released.

    Raises:
        ValueError: if another fit is writing there.
        OSError: if the folder cannot be made.
    """
    for logger in filter(_is_local, loggers):
        if logger._version is None:  # pyright: ignore[reportAttributeAccessIssue]
            claim_version(logger)  # pyright: ignore[reportArgumentType]
    first = loggers[0] if loggers else None
    return lock_run(str(first.log_dir)) if lock and first and _is_local(first) else None


def _spell_out(settings: Any) -> None:
    """Gives folders with a colon from the root on: Lightning takes `exp::a`, `data:x` and `file:x` for protocols."""
    loggers = settings.logger if isinstance(settings.logger, list) else [settings.logger]
    places = [(logger.init_args, "save_dir") for logger in loggers if hasattr(logger, "init_args")]
    for place, key in [(settings, "default_root_dir"), *places]:
        folder = place.get(key)
        if folder and ":" in str(folder) and not is_url(folder):
            place[key] = to_local(folder)


def _is_local(logger: Logger) -> bool:
    """Whether a logger gives each run a folder on this machine's disks."""
    return isinstance(logger, TensorBoardLogger | CSVLogger) and not is_url(logger.root_dir)


def _explain_disk(error: OSError, loggers: Sequence[Logger]) -> str | None:
    """Says of a disk that fails what can be done; None of other errors of the system."""
    gone = [found.log_dir for found in loggers if _is_local(found) and not os.path.isdir(to_local(str(found.log_dir)))]
    if gone and error.errno in (ENOENT, ENOTDIR):
        return (
            f"A run writes to its folder until it ends; {gone[0]} is not there any more ({error}). If it was renamed, "
            "what was written before is there, and --ckpt_path goes on from its checkpoints/last.ckpt."
        )
    if error.errno not in (ENOSPC, EROFS, EDQUOT, EACCES, EIO):
        return None
    full = error.errno in (ENOSPC, EDQUOT)
    mend = "Free space, and go on with --ckpt_path last." if full else "Give the run a folder that can be written."
    return (
        f"A run writes to its folder, which the disk refused ({error}). What was written before is still there. {mend}"
    )


def _other_network(path: str, wrong: str) -> str:
    return (
        f"A checkpoint is of the network that the configuration makes; {path} is not: {wrong}. Give the configuration "
        "of its own run, which is config.yaml in that run's folder, or begin a new run without --ckpt_path."
    )


class Held(logging.Filter):
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


def hold_messages() -> Held:
    """Holds Lightning's messages back until they are released."""
    held = Held()
    for name in ("lightning.fabric", "lightning.pytorch"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(held)
    return held


def silence_warnings() -> None:
    """Keeps warnings that the user can do nothing about off the screen."""
    warnings.filterwarnings("ignore", "LightningCLI's args parameter")
    # Batches are looked up in memory, whole: worker processes would only copy them.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    # Lightning 2.6 calls what torch 2.15 has renamed.
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
