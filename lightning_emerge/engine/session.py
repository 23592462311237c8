"""The session: the Trainer's side of the probes of a fit, from its first look to what is left behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lightning_emerge.capture import agree, is_process_zero
from lightning_emerge.capture.layouts import Layouts
from lightning_emerge.engine import budget
from lightning_emerge.engine.bank import find_bank
from lightning_emerge.engine.conductor import PAST, Conductor
from lightning_emerge.engine.fitted import keep_fit
from lightning_emerge.engine.members import Looker
from lightning_emerge.engine.opening import closed_on_error, leave_thumbnails, open_sinks
from lightning_emerge.engine.reporting import Sinks
from lightning_emerge.engine.run_folder import run_folder
from lightning_emerge.engine.training_loss import TrainingLoss, loss_of
from lightning_emerge.records import StimulusBank
from lightning_emerge.schedules import Schedule
from lightning_emerge.sinks.loggers import logger_sinks
from lightning_emerge.sinks.notebook import notebook_sinks
from lightning_emerge.sinks.tensorboard import tensorboard_sinks

UNWRITTEN = "lightning_emerge_unwritten"
"""Where a checkpoint has the names of probes whose look at its step is not in the records yet."""

_SHARDED = ("fsdp", "deepspeed", "modelparallel")
_COUNTED = 100_000
"""Steps in which looks are counted."""


class Session:
    """A fit with probes, as its trainer tells of it. Every process makes one, begins it, and calls its methods alike.

    Args:
        trainer: of the fit, which is about to take its first step.
        module: what it trains.
        probes: what looks, in their order.
        loaded: what an earlier session left in the checkpoint from which the fit resumes.

    Raises:
        ValueError: if the records in the run's folder are not this run's, or a probe does not fit.
    """

    def __init__(
        self, trainer: Trainer, module: LightningModule, probes: Sequence[Looker], loaded: Mapping[str, Any]
    ) -> None:
        self._trainer, self._module, self._loaded = trainer, module, loaded
        self._loss = loss_of(trainer)
        self._conductor = _make_conductor(trainer, module, probes, loaded.get(PAST), self._loss)

    def begin(self) -> None:
        """Looks before the first step, unless the run resumes from one that was looked at.

        Raises:
            ValueError: if a look needs more memory than there is.
        """
        check_budget(self._conductor, self._trainer.world_size)
        self._conductor.begin(self._trainer.global_step, self._loaded.get(UNWRITTEN, []))
        _check_records(self._trainer, self._conductor)

    def before_batch(self) -> None:
        """Says that a batch begins."""
        self._conductor.before_batch(self._trainer.global_step)

    def before_update(self, optimizer: Optimizer) -> None:
        """Says that an optimizer is about to step."""
        self._conductor.before_update(self._trainer.global_step, optimizer, self._trainer.optimizers)

    def look(self) -> None:
        """Looks, if a step was taken since the last look."""
        if self._trainer.global_step != self._conductor.step:
            if self._loss is not None:
                self._loss.advance(self._trainer.global_step)
            self._conductor.after_update()
            self._conductor.look(self._trainer.global_step)

    def save(self) -> dict[str, Any]:
        """Gives what a checkpoint keeps. What was found before it is on disk before it."""
        self.look()  # whoever saves may do so before the probes' turn
        self._conductor.settle(self._trainer.global_step)
        return self._left()

    def end(self) -> None:
        """Looks at the last step, and leaves what the probes cost."""
        trainer, conductor = self._trainer, self._conductor
        conductor.look(trainer.global_step, last=True)
        conductor.settle(show=_shows_progress(trainer))
        rank_zero_info("\n".join(["What the probes cost:", *conductor.costs.table()]))
        _keep_fit(trainer, self._module, conductor)

    def close(self) -> dict[str, Any]:
        """Writes what is left, and gives what a checkpoint keeps: one may be saved of a run that failed."""
        self._conductor.close()
        return self._left()

    def _left(self) -> dict[str, Any]:
        return {PAST: self._conductor.remember(), UNWRITTEN: self._conductor.unwritten()}


def _shows_progress(trainer: Trainer) -> bool:
    bar = trainer.progress_bar_callback
    return bar is not None and bool(getattr(bar, "is_enabled", True))


def refuse_sharding(strategies: Iterable[str]) -> None:
    """Compares names of a strategy, or of its classes, with those that give no process whole weights.

    Raises:
        ValueError: if it is one of them.
    """
    for name in strategies:
        if any(word in name.lower() for word in _SHARDED):
            raise ValueError(
                f"Probes look at whole weights, which each process has with one device or with ddp; {name} splits them "
                "between processes. Use --trainer.strategy ddp (as --config ddp does), or train without probes."
            )


def find_budget(
    module: nn.Module,
    probes: Sequence[Looker],
    bank: StimulusBank | None,
    processes: int,
    layers: Sequence[tuple[str, ...]] | None = None,
    layouts: Layouts | None = None,
) -> budget.Budget | None:
    """Works out what a look needs; None if no probe needs the bank, or if that cannot be told before the first look.

    Args:
        module: the network.
        probes: what looks.
        bank: what they look at.
        processes: that share the bank.
        layers: of each probe, if it is known which of them are left out.
        layouts: name of a call of a layer -> how what it gives lies, if that is known.
    """
    if bank is None or any(is_lazy(parameter) for parameter in module.parameters()):
        return None
    found = layers if layers is not None else [probe.choose(module, probe.check(module)) for probe in probes]
    asked = [budget.Asked(type(probe).__name__, probe.needs, own) for probe, own in zip(probes, found, strict=True)]
    try:
        with isolate_rng():
            return budget.plan_look(module, asked, bank, processes, layouts)
    except Exception:  # the look will say what is wrong, and with which probe
        return None


def _make_conductor(
    trainer: Trainer,
    module: LightningModule,
    probes: Sequence[Looker],
    past: Mapping[str, Any] | None,
    loss: TrainingLoss | None,
) -> Conductor:
    batches = trainer.num_training_batches / trainer.accumulate_grad_batches
    bank, sinks = find_bank(trainer, probes), _open_sinks(trainer, module)
    _leave_thumbnails(trainer, bank)
    with closed_on_error(sinks):
        return Conductor(
            module,
            probes,
            bank,
            sinks,
            step=trainer.global_step,
            steps_per_epoch=ceil(batches) if batches < float("inf") else batches,
            past=past,
            loss=loss,
        )


def check_budget(conductor: Conductor, processes: int) -> None:
    """Says what looks will need, and stops all processes if process zero has not enough memory for it.

    Args:
        conductor: whose probes look.
        processes: that share the bank.

    Raises:
        ValueError: if there is not enough memory.
    """
    looking_on = [member for member in conductor.members if member.broken is None]
    probes, layers = [member.probe for member in looking_on], [member.layers for member in looking_on]
    found = find_budget(conductor.module, probes, conductor.bank, processes, layers, conductor.layouts)
    failure = None
    if found is not None and is_process_zero():
        room = budget.memory_of(conductor.device)
        try:
            budget.refuse(found, room)
        except ValueError as error:
            failure = error
        for line in budget.warn(found, room) if failure is None else ():
            rank_zero_warn(line)
    if agree([failure is not None], conductor.device)[0]:
        raise failure or ValueError("process zero has not enough memory for a look")


def _check_records(trainer: Trainer, conductor: Conductor) -> None:
    """Says how large the records of the run will be, now that those of one look are known."""
    folder = run_folder(trainer)  # a collective: every process asks
    if conductor.writer is None or not conductor.writer.records:
        return
    sizes = {member.name: member.size for member in conductor.members if member.size}
    steps, disk = _steps(trainer), budget.free_space(folder)
    if sum(sizes.values()) * (steps + 1) <= min(disk, budget.LARGE_RECORDS):  # even if they looked at every step
        return
    looks = {member.name: _count_looks(member.schedule, steps) for member in conductor.members}
    for line in budget.warn_of_records(sizes, looks, disk):
        rank_zero_warn(line)


def _steps(trainer: Trainer) -> int:
    """How many optimizer steps a fit will take, as far as looks are counted."""
    try:
        steps = trainer.estimated_stepping_batches
    except MisconfigurationException:  # batches of more than one size
        return _COUNTED
    return int(min(steps, _COUNTED)) if steps >= 0 else _COUNTED


def _count_looks(schedule: Schedule, steps: int) -> int:
    try:
        if isinstance(schedule, Schedule):
            return schedule.count_looks(steps)
        return sum(bool(schedule(step)) for step in range(steps + 1))  # any function of the step will do
    except Exception:  # the look at that step will say so
        return 0


def _open_sinks(trainer: Trainer, module: LightningModule) -> Sinks:
    folder = run_folder(trainer)  # a collective: every process asks
    if trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
        return Sinks()
    shown = Sinks()
    if trainer.is_global_zero:
        shown.boards = [*tensorboard_sinks(trainer.loggers), *notebook_sinks()]
        shown.loggers = logger_sinks(trainer.loggers)
    new = not (trainer.global_step or trainer.ckpt_path)
    return open_sinks(folder, shown, trainer.global_step, module, new=new)


def _leave_thumbnails(trainer: Trainer, bank: StimulusBank | None) -> None:
    folder = run_folder(trainer)  # a collective: every process asks
    if not trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
        leave_thumbnails(folder, bank)


def _keep_fit(trainer: Trainer, module: LightningModule, conductor: Conductor) -> None:
    """Leaves in the run's folder what a report says of the fit and no probe records."""
    folder = run_folder(trainer)  # a collective, as metrics may be: every process asks
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if not trainer.is_global_zero or trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
        return
    try:
        keep_fit(folder, module, conductor.costs, (conductor.began, trainer.global_step), trainer.world_size, metrics)
    except OSError as error:
        rank_zero_warn(f"What the fit cost was not kept: {folder} could not be written ({error}).")
