"""The training loss of each step, for schedules that follow it: no pass of its own, and a GPU need not wait for it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from copy import deepcopy
from math import nan
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_warn

from lightning_emerge.capture import agree
from lightning_emerge.capture.processes import place
from lightning_emerge.schedules import AnyOf, Schedule, follows_loss

LOSSES = "lightning_emerge_losses"
"""Where a checkpoint has the losses of all steps so far, as float32: (step,)."""


class TrainingLoss:
    """Collects the loss of each optimizer step and tells it to schedules, one step later, in all processes alike.

    One step later as the loss is on its way from the device then. Every process makes one and calls its methods alike.

    Args:
        device: of the network.
        missing: called if no loss has come with the first step, in all processes alike.
        step: optimizer steps taken before.
        past: what `state` gave when the run that resumes was saved.
    """

    def __init__(
        self, device: torch.device, missing: Callable[[], object], step: int = 0, past: torch.Tensor | None = None
    ) -> None:
        heard = [] if past is None else past.tolist()[:step]
        self._heard = array("f", [*heard, *[nan] * (step - len(heard))])
        self._device, self._step, self._began, self._missing = device, step, step, missing
        self._sum: torch.Tensor | None = None
        self._count = 0
        self._waiting: _Reading | None = None
        self._followers: list[_Following] = []

    @property
    def followed(self) -> bool:
        """Whether a schedule follows it."""
        return bool(self._followers)

    def follow(self, schedule: Schedule) -> Schedule:
        """Gives a schedule as it is asked in this run: if it follows the loss, a copy that has heard and will hear."""
        if not follows_loss(schedule):
            return schedule
        following = _Following(schedule)
        for step, loss in enumerate(self._heard, 1):
            following.hear(step, loss)
        self._followers.append(following)
        return following

    def add(self, loss: torch.Tensor | float) -> None:
        """Takes the loss of a batch, or micro-batch, of the step to come."""
        if self._followers:
            value = torch.as_tensor(loss).detach().float().mean()
            self._sum = value if self._sum is None else self._sum + value
            self._count += 1

    def advance(self, step: int) -> None:
        """Says how many optimizer steps were taken, before schedules are asked about the last of them."""
        if step <= self._step or not self._followers:
            return
        if self._step == self._began and agree([not self._count], self._device)[0]:
            self._missing()
        self._settle()
        for _ in range(self._step + 1, step):
            self._tell(nan)
        self._waiting, self._step = _Reading(self._mean()), step
        self._sum, self._count = None, 0

    def amend(self, loss: float) -> None:
        """Says what the loss of the last step was, the same in all processes, where it is known only now."""
        if self._waiting is not None:
            self._waiting = _Reading(torch.tensor(float(loss)))

    def state(self) -> torch.Tensor:
        """The losses of all steps so far, NaN where there was none, for a checkpoint. It waits for no other process."""
        self._settle()
        return torch.from_numpy(np.array(self._heard, dtype=np.float32))

    def _mean(self) -> torch.Tensor:
        own = torch.zeros((), device=self._device) if self._sum is None else self._sum
        if place()[1] == 1:
            return own / self._count if self._count else own + nan
        own = own.to(self._device)
        total = torch.stack([own, torch.full_like(own, self._count)])
        dist.all_reduce(total)
        return total[0] / total[1]

    def _settle(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._tell(waiting.read())

    def _tell(self, loss: float) -> None:
        self._heard.append(loss)
        step, loss = len(self._heard), self._heard[-1]  # as float32, which is what a run that resumes will hear
        for following in self._followers:
            following.hear(step, loss)


class _Reading:
    """A number on its way from the device; nothing waits for it, or for what the device does after it, until `read`."""

    def __init__(self, value: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._value = value
        if value.is_cuda:
            self._value, self._event = value.to("cpu", non_blocking=True), torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(value.device))

    def read(self) -> float:
        if self._event is not None:
            self._event.synchronize()
        return float(self._value)


class _Following(Schedule):
    """A run's own copy of a schedule. What it raises when it hears it raises when it is asked, which is reported."""

    def __init__(self, schedule: Schedule) -> None:
        self._own, self._error = deepcopy(schedule), None

    def __call__(self, step: int) -> bool:
        if self._error is not None:
            raise self._error
        return self._own(step)

    def hear(self, step: int, loss: float) -> None:
        if self._error is None:
            try:
                self._own.hear(step, loss)
            except (Exception, SystemExit) as error:
                self._error = error

    def count_looks(self, steps: int) -> int:
        return self._own.count_looks(steps)


class _Listener(Callback):
    """Tells a `TrainingLoss` what a trainer's backward passes begin with, and keeps what it has heard."""

    def __init__(self) -> None:
        self.name = ""  # of a schedule that follows
        self._loss: TrainingLoss | None = None
        self._past: torch.Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._loss = self._past = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._past = checkpoint.get(LOSSES)

    def open(self, trainer: Trainer) -> TrainingLoss:
        if len(trainer.optimizers) > 1:
            raise ValueError(
                f"{self.name} follows the training loss of one optimizer; this run has {len(trainer.optimizers)}. "
                "Give probes and Checkpoints another schedule, such as LogSpaced."
            )
        if self._loss is None:
            device = trainer.strategy.root_device
            self._loss = TrainingLoss(device, self._warn, trainer.global_step, self._past)
        return self._loss

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        if self._loss is not None:
            self._loss.advance(trainer.global_step)
            self._loss.add(_restore_scale(trainer, loss.detach()))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._loss is None:
            return
        if not trainer.interrupted:  # a process that has failed is alone
            self._loss.advance(trainer.global_step)
        checkpoint[LOSSES] = self._loss.state()

    def _warn(self) -> None:
        rank_zero_warn(
            f"{self.name} follows the training loss; none came with the first step, as training_step gave none, or its "
            "backward pass is not one of self.manual_backward. Without it there are looks at step 0, at the last step "
            "and at what other schedules say."
        )


def listen(trainer: Trainer, schedule: Any) -> None:
    """Adds to a trainer that is set up what hears its loss, if a schedule follows it."""
    if follows_loss(schedule):
        found = _find(trainer)
        if found is None:
            found = _Listener()
            callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
            callbacks.append(found)
        found.name = name_followers([schedule])


def loss_of(trainer: Trainer) -> TrainingLoss | None:
    """The training loss of the fit that begins; None if no schedule follows it.

    Raises:
        ValueError: if there are several optimizers, and so no one loss.
    """
    found = _find(trainer)
    return None if found is None else found.open(trainer)


def name_followers(schedules: Sequence[Any]) -> str:
    """The class of the first schedule that follows the loss; empty if none does."""
    for schedule in filter(follows_loss, schedules):
        if isinstance(schedule, AnyOf):
            return name_followers(schedule.schedules)
        return type(schedule).__name__
    return ""


def _find(trainer: Trainer) -> _Listener | None:
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    return next((callback for callback in callbacks if isinstance(callback, _Listener)), None)


def _restore_scale(trainer: Trainer, loss: torch.Tensor) -> torch.Tensor:
    """The loss of a batch as training_step gave it, without the factors of a scaler and of accumulated batches."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is not None:
        loss = loss / scaler.scale(torch.ones((), device=loss.device))
    return loss * trainer.accumulate_grad_batches
