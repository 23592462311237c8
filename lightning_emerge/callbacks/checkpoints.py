"""Checkpoints: weights to look at again, and all that it takes to go on."""

from __future__ import annotations

import os
from math import ceil, inf
from pathlib import Path
from typing import Any, final

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn

from lightning_emerge.capture import find_weights
from lightning_emerge.capture.needs.base import complete
from lightning_emerge.engine.budget import free_space
from lightning_emerge.engine.checkpoint_files import sweep_checkpoints, take_literally
from lightning_emerge.engine.endings import attend, saving
from lightning_emerge.engine.lightning_private import count_logged, restore_logged
from lightning_emerge.engine.random_streams import random_states, restore_random_state
from lightning_emerge.engine.run_folder import run_folder
from lightning_emerge.engine.training_loss import TrainingLoss, listen, loss_of
from lightning_emerge.probe import probes_of
from lightning_emerge.schedules import LogSpaced, Schedule, follows_loss
from lightning_emerge.store.places import is_url, to_local

LAST = "last.ckpt"
_KEY = "lightning_emerge"
_COUNTED = 1_000_000


@final
class Checkpoints(Checkpoint):
    """Saves weights on a schedule, and a checkpoint to go on from.

    In the run's folder `checkpoints/step=000100.ckpt` has the weights after 100 optimizer steps, for
    `lightning replay`; they are kept. `checkpoints/last.ckpt` has everything: weights, optimizer, schedulers, where
    training stands in its data, and the random streams of each process. A run that goes on from it ends with the bits
    of one that was never stopped, if its data come from a data module of this package.

    Files appear whole or not at all. When training begins, their number and size are said.

    Args:
        schedule: at which optimizer steps to keep the weights; `LogSpaced(5)` if none is given. Step 0 and the last
            step always are.
        last_every: optimizer steps from one `last.ckpt` to the next, at least 1. It is also saved at step 0 and at
            the end.

    Raises:
        ValueError: if `last_every` is below 1.
    """

    def __init__(self, schedule: Schedule | None = None, last_every: int = 100) -> None:
        if last_every < 1:
            raise ValueError(f"Checkpoints: last_every is at least 1; got {last_every}.")
        self.schedule, self.last_every = schedule or LogSpaced(5), last_every
        self._folder = ""
        self._loss: TrainingLoss | None = None
        self._step = -1  # the last one that was looked at
        self._last = -1  # that of `last.ckpt`
        self._kept = -1  # the last one whose weights were kept
        self._loaded: dict[str, Any] | None = None
        self._between, self._warned = False, False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        take_literally(trainer)
        if stage == "fit":
            attend(trainer)
            listen(trainer, self.schedule)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._folder = f"{run_folder(trainer)}/checkpoints"  # a collective: every process asks
        batches = trainer.num_training_batches / trainer.accumulate_grad_batches
        self._loss = loss_of(trainer)
        bound = self.schedule.bind(ceil(batches) if batches < inf else batches)
        self._bound = bound if self._loss is None else self._loss.follow(bound)
        # What a run goes on from is saved already.
        self._step = self._kept = trainer.global_step if trainer.ckpt_path else -1
        self._warned, self._last = False, -1
        if trainer.is_global_zero and not _off(trainer):
            if not is_url(self._folder):
                sweep_checkpoints(Path(to_local(self._folder)))
            self._announce(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # Now everything that belongs to the step before is done: validation, schedulers, the end of an epoch.
        self._restore(trainer)
        step = trainer.global_step
        if step == self._step or _off(trainer):
            return
        if self._loss is not None:
            self._loss.advance(step)
        steps = range(self._step + 1, step + 1)
        self._step = step
        if any([0 in steps, *map(self._bound, steps)]):
            self._keep(trainer)
        if any(done % self.last_every == 0 for done in steps):
            self.save_last(trainer)

    def save_last(self, trainer: Trainer) -> None:
        """Saves `last.ckpt` between two batches, unless it is of this step. Every process calls it."""
        if self._last == trainer.global_step or _off(trainer):
            return
        self._last = trainer.global_step
        self._between = True
        self._save(trainer, LAST, weights_only=False)
        self._between = False

    def find_last(self) -> str | None:
        """The path of `last.ckpt`, if there is one."""
        path = f"{self._folder}/{LAST}"
        return path if self._folder and (is_url(path) or os.path.exists(to_local(path))) else None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if _off(trainer):
            return
        if self._kept != trainer.global_step:
            self._keep(trainer)
        self._save(trainer, LAST, weights_only=False)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[_KEY] = {"random": random_states(trainer), "batches_that_stepped": count_logged(trainer)}
        if self._between:
            # Lightning has drawn the next batch; if it is an epoch's last, who goes on must not take it for done.
            checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._loaded = checkpoint.get(_KEY)

    def _restore(self, trainer: Trainer) -> None:
        """Puts back what a checkpoint said, at the last moment before it counts: loaders and hooks draw numbers too."""
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            return
        restore_logged(trainer, loaded["batches_that_stepped"])
        states = loaded["random"]
        if len(states) != trainer.world_size:
            rank_zero_warn(
                f"Random streams go on with as many processes as before; the checkpoint has {len(states)}, this run "
                f"{trainer.world_size}. They begin anew, so dropout, for one, is not what it would have been."
            )
            return
        restore_random_state(states[trainer.global_rank])

    def _keep(self, trainer: Trainer) -> None:
        self._kept = trainer.global_step
        self._save(trainer, f"step={trainer.global_step:06d}.ckpt", weights_only=True)

    def _save(self, trainer: Trainer, name: str, *, weights_only: bool) -> None:
        try:
            with saving():
                trainer.save_checkpoint(f"{self._folder}/{name}", weights_only=weights_only)
        except OSError as error:
            trainer.strategy.barrier("Trainer.save_checkpoint")  # where the other processes wait
            self._give_up(trainer, error)

    def _give_up(self, trainer: Trainer, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            rank_zero_warn(
                f"Checkpoints are saved in {self._folder}, which could not be written at step {trainer.global_step} "
                f"({error.strerror or error}). Training goes on, and what was saved is still there; free space to have "
                "later ones."
            )

    def _announce(self, trainer: Trainer, module: LightningModule) -> None:
        weights = _size(module.state_dict().values())
        # Adam and its kin keep two numbers a weight; plain SGD keeps less.
        whole = weights + 2 * _size(module.parameters()) + _past(trainer, module)
        steps = trainer.estimated_stepping_batches
        if steps > _COUNTED:
            rank_zero_info(f"Checkpoints: weights of {_mb(weights)} each, in {self._folder}")
            return
        count = self._bound.count_looks(int(steps)) + sum(not self._bound(step) for step in {0, int(steps)})
        count, about = min(count, int(steps) + 1), "about " if follows_loss(self.schedule) else ""
        total = count * weights + 2 * whole  # the last one is written before the one before it goes
        free = free_space(self._folder)
        room = "" if free == inf else f"; {_mb(free)} are free"
        rank_zero_info(
            f"Checkpoints: {about}{count} of weights, {_mb(weights)} each, and one to go on from, about {_mb(whole)}: "
            f"{_mb(total)} at most in {self._folder}{room}"
        )
        if total > free:
            rank_zero_warn(
                f"Checkpoints need {_mb(total)}, and {_mb(free)} are free in {self._folder}. Free space, or give "
                "Checkpoints a sparser schedule; training goes on without those that do not fit."
            )


def _off(trainer: Trainer) -> bool:
    return bool(trainer.fast_dev_run)  # pyright: ignore[reportAttributeAccessIssue]


def _past(trainer: Trainer, module: LightningModule) -> int:
    """Size of what probes keep: weights of their first and last two looks, of training batches gradients too."""
    total = 0
    for probe in probes_of(trainer):
        copies = sum(need.remembered(probe.needs) for need in complete(probe.needs))
        if copies:
            weights = find_weights(module, probe.check(module)).values()
            total += copies * _size(weight.read() for weight in weights)
    return total


def _size(tensors: Any) -> int:
    return sum(value.numel() * value.element_size() for value in tensors if isinstance(value, torch.Tensor))


def _mb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
