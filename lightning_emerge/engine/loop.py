"""A loop that is nobody's Trainer, with probes: it says when a step begins and when one was taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from lightning_emerge.capture import is_process_zero
from lightning_emerge.capture.layers import device_of
from lightning_emerge.capture.needs.base import complete
from lightning_emerge.capture.processes import place
from lightning_emerge.engine.conductor import PAST, Conductor
from lightning_emerge.engine.fitted import keep_fit
from lightning_emerge.engine.members import Looker
from lightning_emerge.engine.opening import closed_on_error, leave_thumbnails, open_sinks
from lightning_emerge.engine.reporting import Sinks
from lightning_emerge.engine.session import UNWRITTEN, check_budget, refuse_sharding
from lightning_emerge.engine.training_loss import LOSSES, TrainingLoss, name_followers
from lightning_emerge.engine.wrapped import unwrap, unwrap_optimizer
from lightning_emerge.records import StimulusBank

STEP = "step"
"""Where `Loop.state_dict` has the optimizer steps taken."""


class Loop:
    """A training loop with probes: a `with` block, in which `step` is called once a step.

    `lightning_emerge.watch` makes it. Every process makes one and calls its methods alike, but for `state_dict`.

    Args:
        network: what is trained; of a wrapped one, as by DDP, Fabric or torch.compile, what is in it.
        probes: what looks.
        bank: what they look at; None if none of them needs it.
        folder: of the run, or an fsspec URL.
        optimizers: those of the network, for probes that look at updates.
        shown: where findings go besides, in process zero.
        steps_per_epoch: for schedules in epochs.
        conclude: called on process zero when the loop has ended, with what was given as `shown`.

    Attributes:
        folder: of the run.
        steps: optimizer steps taken.
        metrics: numbers that `fit.json` is to keep at the end, such as `{"val/accuracy": 0.9}`, by name.
    """

    def __init__(
        self,
        network: nn.Module,
        probes: Sequence[Looker],
        bank: StimulusBank | None,
        folder: str,
        *,
        optimizers: Iterable[Any] = (),
        shown: Sinks | None = None,
        steps_per_epoch: float = inf,
        conclude: Callable[[Sinks], object] = lambda _: None,
    ) -> None:
        self.folder, self.steps, self.metrics = folder, 0, dict[str, float]()
        self._network, self._probes, self._bank = unwrap(network), list(probes), bank
        self._optimizers = [unwrap_optimizer(one) for one in optimizers]
        self._shown, self._steps_per_epoch, self._conclude = shown or Sinks(), steps_per_epoch, conclude
        self._loaded: dict[str, Any] = {}
        self._left: dict[str, Any] = {}
        self._conductor: Conductor | None = None
        self._loss: TrainingLoss | None = None
        self._hooks: list[RemovableHandle] = []
        self._kept: Optimizer | None = None
        self._said = set[str]()
        self._called = False
        refuse_sharding(type(part).__name__ for part in self._network.modules())
        _check_optimizers(self._network, self._probes, self._optimizers)

    def __enter__(self) -> Loop:
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.end()
        finally:
            self.close()

    def begin(self) -> None:
        """Looks before the first step, unless the loop resumes from one that was looked at. `with` calls it.

        Raises:
            ValueError: if the folder has the records of another run, a probe does not fit, or a look needs more memory
                than there is.
            RuntimeError: if it has begun already.
        """
        if self._conductor is not None or self._left:
            raise RuntimeError("A loop is watched once; this one has begun already. Call lightning_emerge.watch again.")
        for probe in self._probes:
            probe.check(self._network)  # before anything is written
        sinks = open_sinks(self.folder, self._shown, self.steps, self._network, new=not self._loaded)
        leave_thumbnails(self.folder, self._bank)
        self._loss = TrainingLoss(device_of(self._network), self._miss_loss, self.steps, self._loaded.get(LOSSES))
        with closed_on_error(sinks):
            self._conductor = Conductor(
                self._network,
                self._probes,
                self._bank,
                sinks,
                step=self.steps,
                steps_per_epoch=self._steps_per_epoch,
                past=self._loaded.get(PAST),
                loss=self._loss,
            )
        try:
            check_budget(self._conductor, place()[1])
            self._conductor.begin(self.steps, self._loaded.get(UNWRITTEN, []))
            self._follow()
        except BaseException:
            self.close()
            raise

    def before_step(self, optimizer: Any = None) -> None:
        """Says that gradients are as probes are to see them: call it before they are clipped, if they are.

        Otherwise they are seen as the optimizer gets them. What is said is dropped if the optimizer does not step.

        Args:
            optimizer: the one that is about to step; the only one if none is given.

        Raises:
            ValueError: if it is none of those that were given to `watch`.
        """
        given = self._optimizers if optimizer is None else [unwrap_optimizer(optimizer)]
        if len(given) != 1 or not any(given[0] is other for other in self._optimizers):
            raise ValueError(
                f"before_step gets one of the optimizers that watch was given, which has {len(self._optimizers)}; got "
                f"{'none' if optimizer is None else 'another one'}."
            )
        self._keep(given[0])

    def step(self, step: int | None = None, *, loss: torch.Tensor | float | None = None) -> None:
        """Looks with the probes that are due, if the optimizer has stepped since the last call. Call it once a batch.

        Args:
            step: optimizer steps taken, for a loop that counts them itself. If none are given, they are counted: of
                the optimizers that were given to `watch`, else each call is one.
            loss: of this process' batch, for schedules that follow it, such as `LossMoved`. A step has the mean of its
                batches and processes. A tensor is best left on its device.

        Raises:
            RuntimeError: if it is called before the loop has begun, or after it has ended.
            ValueError: if steps are taken back, or a schedule follows the loss and the first step comes without.
        """
        conductor, self._called = self._running(), True
        count = self._count(step)
        if self._loss is not None:
            if loss is not None:
                self._loss.add(loss)
            self._loss.advance(count)
        self.steps = count
        if self.steps != conductor.step:
            conductor.after_update()
            conductor.look(self.steps)
        elif self._kept is not None:  # a scaler has left the step out
            conductor.drop_update()
        self._kept = None
        self._expect_batch()

    def amend_loss(self, loss: float) -> None:
        """Says what the loss of the last step was, the mean over processes, where it is known only after `step`."""
        if self._loss is not None:
            self._loss.amend(loss)

    def state_dict(self) -> dict[str, Any]:
        """Gives what a checkpoint is to keep, tensors and plain values; what was found before is on disk then.

        Call it between two steps, in process zero at least: it waits for no other process.

        Raises:
            RuntimeError: if the optimizer has stepped and `step` was not called since.
        """
        conductor = self._conductor
        if conductor is None:
            return dict(self._left or self._loaded)
        if self.steps != conductor.step:
            raise RuntimeError(
                "The state of a loop is taken between two steps; the optimizer has stepped, and was not looked at "
                "since. Call step() of the watch before."
            )
        conductor.drain(self.steps)
        return self._remember(conductor)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave, before the loop begins: it then resumes the records in its folder.

        Args:
            state: `{"step": 1200}` is enough, for a run whose checkpoint has no other.

        Raises:
            RuntimeError: if the loop has begun.
            ValueError: if it is no such state.
        """
        if self._conductor is not None:
            raise RuntimeError("A loop resumes before it begins: call load_state_dict before the with block.")
        step = state.get(STEP)
        if not isinstance(step, int) or step < 0:
            raise ValueError(f"The state of a loop is what its state_dict gave, with a step; got the keys {[*state]}.")
        self._loaded, self.steps = dict(state), step

    def look_last(self) -> None:
        """Looks with all probes that have not looked at this step, as it is the last one."""
        conductor = self._running()
        conductor.after_update()
        conductor.look(self.steps, last=True)

    def end(self, *, look: bool = True) -> None:
        """Looks at the last step, and leaves what the probes cost. `with` calls it when its block has ended.

        Args:
            look: whether to look; not if the weights are no longer those of the last step.

        Raises:
            RuntimeError: if the loop has not begun, or has ended.
        """
        conductor = self._running()
        if self.steps > conductor.began and not self._called:
            rank_zero_warn("Steps are looked at when step() of the watch is called, once a batch; it never was.")
        if look:
            self.look_last()
        conductor.settle()
        rank_zero_info("\n".join(["What the probes cost:", *conductor.costs.table()]))
        if is_process_zero():
            self._keep_fit(conductor)
            self._conclude(self._shown)

    def close(self) -> None:
        """Writes what is left and lets go of network and optimizers. `with` calls it, whatever has happened."""
        conductor, self._conductor = self._conductor, None
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if conductor is not None:
            conductor.close()
            self._left = self._remember(conductor)

    def _running(self) -> Conductor:
        if self._conductor is None:
            raise RuntimeError(
                "A loop is watched in a with block: with lightning_emerge.watch(...) as watch; step was called outside."
            )
        return self._conductor

    def _remember(self, conductor: Conductor) -> dict[str, Any]:
        left = {STEP: self.steps, PAST: conductor.remember(), UNWRITTEN: conductor.unwritten()}
        return {**left, LOSSES: self._loss.state()} if self._loss is not None and self._loss.followed else left

    def _miss_loss(self) -> None:
        name = name_followers([probe.schedule for probe in self._probes])
        raise ValueError(
            f"{name} follows the training loss; watch.step was not told that of the first step. Call "
            "watch.step(loss=loss) with each batch's, in every process, or give probes another schedule."
        )

    def _count(self, step: int | None) -> int:
        if step is None:
            return self.steps if self._optimizers else self.steps + 1
        if step < self.steps:
            raise ValueError(f"Steps are counted upwards; got {step} after {self.steps}.")
        return step

    def _follow(self) -> None:
        for optimizer in self._optimizers:
            self._hooks.append(optimizer.register_step_pre_hook(self._before))
            self._hooks.append(optimizer.register_step_post_hook(self._after))
        self._expect_batch()

    def _expect_batch(self) -> None:
        if self._optimizers:
            self._running().before_batch(self.steps)

    def _before(self, optimizer: Optimizer, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        if self._kept is optimizer:
            return
        why = _unseen(optimizer, [*given, *named.values()])
        if why is None:
            self._keep(optimizer)
        elif why not in self._said and any(map(_trains, self._probes)):
            self._said.add(why)
            rank_zero_warn(f"Gradients are seen when the optimizer's step begins, unscaled; {why}")

    def _keep(self, optimizer: Optimizer) -> None:
        self._running().before_update(self.steps, optimizer, self._optimizers)
        self._kept = optimizer

    def _after(self, optimizer: Optimizer, *_: Any) -> None:
        left_out = getattr(optimizer, "found_inf", None)  # a scaler leaves it to some optimizers not to step
        if left_out is None or not float(left_out):
            self.steps += 1
            self._kept = None

    def _keep_fit(self, conductor: Conductor) -> None:
        steps = conductor.began, self.steps
        try:
            metrics = {name: float(value) for name, value in self.metrics.items()}
            keep_fit(self.folder, self._network, conductor.costs, steps, place()[1], metrics)
        except (OSError, TypeError, ValueError) as error:
            rank_zero_warn(f"What the run cost was not kept in {self.folder} ({type(error).__name__}: {error}).")


def _trains(probe: Looker) -> bool:
    return any(need.training for need in complete(probe.needs))


def _unseen(optimizer: Optimizer, given: Sequence[Any]) -> str | None:
    """Why the gradients that a step begins with are not those of the loss, if they are not."""
    name = type(optimizer).__name__
    if any(callable(one) for one in given):
        return f"{name} gets a closure that computes them later, so that no update is recorded."
    if getattr(optimizer, "grad_scale", None) is not None:
        return f"{name} unscales them by itself. Call scaler.unscale_(optimizer) before, or no update is recorded."
    return None


def _check_optimizers(network: nn.Module, probes: Sequence[Looker], optimizers: Sequence[Optimizer]) -> None:
    """Compares what probes need with the optimizers that are given."""
    training = [probe for probe in probes if _trains(probe)]
    if training and not optimizers:
        raise ValueError(
            f"{type(training[0]).__name__} looks at the update that an optimizer makes; none was given. "
            "Give optimizers=optimizer, or leave the probe out."
        )
    own = {id(parameter) for parameter in network.parameters()}
    for optimizer in optimizers:
        if not any(id(one) in own for group in optimizer.param_groups for one in group["params"]):
            raise ValueError(
                f"optimizers hold parameters of the network that is watched; this {type(optimizer).__name__} holds "
                "none of them. Give the one that trains it, made of the parameters that it has now."
            )
