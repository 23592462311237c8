"""The conductor: one pass of the bank a look for all probes that are due, the same on all processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import inf
from typing import Any

from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn
from torch.optim import Optimizer

from lightning_emerge.capture import agree, find_layers, find_weights
from lightning_emerge.capture.layers import device_of
from lightning_emerge.capture.needs.base import Look
from lightning_emerge.engine.batches import Batches
from lightning_emerge.engine.costs import Costs
from lightning_emerge.engine.device import full_precision
from lightning_emerge.engine.left_out import leave_out, order_of, settle_layers
from lightning_emerge.engine.looks import Found, find, find_in_bank
from lightning_emerge.engine.members import Looker, Member, enlist, unite
from lightning_emerge.engine.reporting import Reporter, Sinks
from lightning_emerge.engine.training_loss import TrainingLoss
from lightning_emerge.engine.writer import Writer
from lightning_emerge.records import History, PastLook, StimulusBank

PAST = "lightning_emerge_probes"
"""Where a checkpoint has what `Conductor.remember` gave."""

LAYERS = "layers of probes"
"""Where that has the layers that probes chose which named none: a name that no class has."""


class Conductor:
    """Runs probes. All processes call its methods alike; only process zero measures and writes.

    Args:
        module: the network.
        probes: what looks.
        bank: what they look at; None if none of them needs it.
        sinks: where findings go.
        step: optimizer steps taken when it begins.
        steps_per_epoch: for schedules in epochs.
        past: what `remember` gave when the run that resumes was saved.
        loss: for schedules that follow it, which otherwise look at step 0 and the last step.

    Raises:
        ValueError: if a probe's layers or schedule do not fit the run, or the module has not the method that gives the
            loss.
    """

    def __init__(
        self,
        module: nn.Module,
        probes: Sequence[Looker],
        bank: StimulusBank | None,
        sinks: Sinks,
        *,
        step: int,
        steps_per_epoch: float = inf,
        past: Mapping[str, Any] | None = None,
        loss: TrainingLoss | None = None,
    ) -> None:
        self.module, self.bank, self.device = module, bank, device_of(module)
        if bank is not None:
            bank.task.check(module)
        self.members = [enlist(probe, probes, module, steps_per_epoch, loss) for probe in probes]
        for probe in probes:
            probe.failed_at = None
        past = past or {}
        had = past.get(LAYERS, {})
        sketch = settle_layers(module, self.members, bank, had, self.device)
        self.layouts, self.order = sketch.layouts, order_of(find_layers(module), sketch, self.members)
        weights = find_weights(module, unite([member for member in self.members if member.weighs], self.order))
        self.refused = leave_out(module, self.members, bank, weights, had, self.order, sketch, self.device)
        self._recall(past)
        self.began, self.step = step, step - 1
        self.recorded = {done for sink in sinks.records for done in sink.steps}
        self.costs = Costs()
        self._batches = Batches(module, weights, self.order)
        strict = any(probe.on_error == "raise" for probe in probes)
        self.reporter = Reporter(module, sinks, self.costs, self.refused, self.device, strict=strict)

    @property
    def writer(self) -> Writer | None:
        """What writes; None in all processes but zero."""
        return self.reporter.writer

    def begin(self, step: int, again: Sequence[str] = ()) -> None:
        """Looks before the first step, unless the run resumes from a step that was looked at before it stopped.

        Args:
            step: where the run stands.
            again: names of probes whose look at this step was not written yet when the run was saved.
        """
        known = agree([step in self.recorded], self.device)[0]
        if known:
            self.step = step
        else:
            self.look(step, again=again)

    def look(self, step: int, *, last: bool = False, again: Sequence[str] = ()) -> None:
        """Looks at the bank and the weights with every probe that is due since the last look, or with all of them."""
        steps = range(self.step + 1, step + 1)
        self.step = step
        due = [m for m in self.members if m.on and not m.trains and m.last != step]
        due = [m for m in due if last or m.asks(steps) or m.name in again]
        if not due:
            return
        for member in due:
            member.last = step
        more = not last and bool(self._training(step))
        with isolate_rng(), full_precision():
            self.reporter.report(step, due, partial(self._find, step), more=more)

    def _find(self, step: int, due: Sequence[Member]) -> Found:
        look = Look(self.module, self._batches.read, layouts=self.layouts)
        return find_in_bank(step, due, look, self.bank, self.order, self.device)

    def _training(self, step: int) -> list[Member]:
        """The probes that are to look at the batches that a step's update is made from."""
        return [m for m in self.members if m.on and m.trains and m.asks([step])]

    def before_batch(self, step: int) -> None:
        """Watches which units fire in the batches that the next update is made from, if a probe is due then."""
        self._batches.watch(self._training(step))

    def before_update(
        self, step: int, optimizer: Optimizer | None = None, optimizers: Sequence[Optimizer] = ()
    ) -> None:
        """Keeps the training batch's gradients, and the weights they are for, if a probe that is due needs them.

        Args:
            step: optimizer steps taken.
            optimizer: the one that is about to step; if none is given, all weights are taken to be its.
            optimizers: all of the run.
        """
        self.after_update()  # a second optimizer's step in the same batch ends that of the first
        self._batches.keep(step, self._training(step), optimizer, optimizers)
        if len(optimizers) > 1:  # another may step in the same batch
            self.before_batch(step + 1)

    def after_update(self) -> None:
        """Measures the training batch that `before_update` kept, now that its update is known."""
        taken = self._batches.take()
        if taken is None:
            return
        look = self._batches.look(taken.batch)
        with isolate_rng(), full_precision():
            self.reporter.report(taken.step, taken.members, lambda due: find(taken.step, due, look, self.order))

    def drop_update(self) -> None:
        """Lets go of what `before_update` kept: the optimizer has not stepped."""
        self._batches.take()

    def drain(self, step: int) -> None:
        """Waits until all that was found before a step is written; no other process need call it."""
        self.reporter.drain(step)

    def settle(self, step: int | None = None, *, show: bool = False) -> None:
        """Waits until all that was found before a step, or at all if none is given, is written; every process calls it.

        What is found at the step itself is written with what the batch that follows will add to it.
        """
        self.reporter.settle(step, show=show)

    def close(self) -> None:
        """Writes what is left; no other process need call it."""
        self._batches.close()
        self.reporter.close()

    def unwritten(self) -> list[str]:
        """Names of the probes whose last look is not written yet, for a checkpoint."""
        return self.reporter.unwritten()

    def remember(self) -> dict[str, Any]:
        """What the probes' earlier looks left, as tensors and plain values, for a checkpoint."""
        chosen = {m.name: list(m.layers) for m in self.members if m.probe.layers is None and m.layers}
        kept: dict[str, Any] = {LAYERS: chosen}
        for member in self.members:
            looks = member.history.looks()
            if looks:
                kept[member.name] = [{**vars(look)} for look in looks]
        return kept

    def _recall(self, past: Mapping[str, Any]) -> None:
        for member in self.members:
            looks = [PastLook(**kept).on(self.device) for kept in past.get(member.name, ())]
            if looks and set(looks[0].weights) == set(member.layers):  # it may look at others than before
                member.history = History(looks[0], tuple(looks[1:]))
