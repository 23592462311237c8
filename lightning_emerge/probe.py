"""The abstract probe: a Lightning callback that says when it looks, what it needs, what it measures, how it is drawn.

Every probe of a trainer is run by the first of them, so that the bank goes through the network once a look, in the
union of the layers that are asked for, and so that all processes do the same in the same order.
"""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from lightning_utilities.core.rank_zero import rank_zero_warn
from matplotlib.figure import Figure

from lightning_emerge import capture as looking
from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.records import Capture, Measurement, Picture, Sink, StimulusBank
from lightning_emerge.schedules import LogSpaced, Schedule
from lightning_emerge.sinks.arrays import STORE, ArraySink
from lightning_emerge.sinks.tensorboard import TensorBoardSink, tensorboard_sinks


@dataclass(frozen=True)
class Needs:
    """What of the network a probe has to see; it gets what it asks for in its `Capture`.

    Attributes:
        activations: outputs of its layers on the stimulus bank.
        outputs: the network's own outputs on the stimulus bank.
        weights: its layers' weights.
        training: gradients of a training batch and the update they led to, by layer. A probe that asks for these looks
            at training batches, at the same steps, and not at the bank.
    """

    activations: bool = False
    outputs: bool = False
    weights: bool = False
    training: bool = False

    @property
    def bank(self) -> bool:
        """Whether the bank has to go through the network."""
        return self.activations or self.outputs


class Probe(Callback, ABC):
    """Looks at a network while it trains, without disturbing it.

    Subclasses set `needs` and write `measure`, and `draw` if there is something to see. A probe's own state is what it
    was given at construction; each look depends on its capture alone.

    Args:
        schedule: when to look; `LogSpaced()` if none is given. The last step is always looked at.
        layers: names or patterns of layers (see `lightning_emerge.capture.match_layers`); all that hold a weight if
            none is given.
        on_error: "report" says what went wrong, switches this probe off and lets training go on; "raise" stops
            training.
    """

    needs: ClassVar[Needs]

    def __init__(
        self,
        schedule: Schedule | None = None,
        layers: Sequence[str] | None = None,
        on_error: Literal["report", "raise"] = "report",
    ) -> None:
        if on_error not in ("report", "raise"):
            raise ValueError(f"{type(self).__name__}: on_error is 'report' or 'raise'; got {on_error!r}.")
        self.schedule = schedule or LogSpaced()
        self.layers = layers
        self.on_error = on_error
        self.failed_at: int | None = None
        self._conductor: _Conductor | None = None

    @abstractmethod
    def measure(self, capture: Capture) -> Iterable[Measurement]:
        """Computes this probe's measurements of one look."""

    def draw(self, measurement: Measurement) -> Figure | None:
        """Draws a measurement, or None if there is nothing to draw of it."""
        return None

    def check(self, module: LightningModule) -> tuple[str, ...]:
        """Finds this probe's layers.

        Raises:
            ValueError: if a pattern matches no layer, or a layer cannot give what the probe needs.
        """
        layers = looking.match_layers(module, self.layers)
        if self.needs.weights or self.needs.training:
            looking.weight_names(module, layers)
        return layers

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if "FSDP" in type(trainer.strategy).__name__:
            raise ValueError("Probes look at whole weights, which FSDP does not keep; use the strategy ddp instead.")
        if stage == "fit":
            self.check(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        probes = probes_of(trainer)
        if probes[0] is self:
            self._conductor = _Conductor(trainer, pl_module, probes)
            self._conductor.look(trainer.global_step)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if self._conductor:
            self._conductor.before_update(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._conductor and trainer.global_step != self._conductor.step:
            self._conductor.after_update()
            self._conductor.look(trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._conductor:
            self._conductor.look(trainer.global_step, last=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._conductor = None


def probes_of(trainer: Trainer) -> list[Probe]:
    """Finds the probes among a trainer's callbacks, in their order."""
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    return [callback for callback in callbacks if isinstance(callback, Probe)]


@dataclass
class _Member:
    """A probe in a run: its layers, and the end of its measurements' names."""

    probe: Probe
    layers: tuple[str, ...]
    suffix: str = ""
    last: int = -1  # step of its last look at the bank or the weights

    @property
    def name(self) -> str:
        return type(self.probe).__name__

    @property
    def on(self) -> bool:
        return self.probe.failed_at is None


@dataclass
class _Before:
    """What the weights and their gradients were when an optimizer's step began."""

    step: int
    members: list[_Member]
    weights: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    gradients: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])


Result = tuple[list[Measurement], dict[str, Picture]]
Taken = tuple[Capture, Exception | None]
"""A capture, and what went wrong if the bank could not be run."""


class _Conductor:
    """Runs the probes of one fit. All processes call its methods alike; only process zero measures and writes."""

    def __init__(self, trainer: Trainer, module: LightningModule, probes: Sequence[Probe]) -> None:
        self.module = module
        self.members = [_Member(probe, probe.check(module), _suffix(probe, probes)) for probe in probes]
        for probe in probes:
            probe.failed_at = None
        self.parameters = dict(module.named_parameters())
        self.order = tuple(looking.find_layers(module))
        self.weight_names = looking.weight_names(module, self._union([m for m in self.members if _weighs(m)]))
        self.bank = _find_bank(trainer) if any(probe.needs.bank for probe in probes) else None
        self.step = trainer.global_step
        self.before: _Before | None = None
        self.owners: dict[str, _Member] = {}
        self.axes: set[str] = {"step"}
        self.sinks = _open_sinks(trainer)
        self.draws = any(isinstance(sink, TensorBoardSink) for sink in self.sinks)

    def look(self, step: int, *, last: bool = False) -> None:
        """Looks at the bank and the weights with every probe that is due."""
        self.step = step
        due = [m for m in self.members if m.on and not m.probe.needs.training]
        due = [m for m in due if m.last != step and (last or m.probe.schedule(step))]
        if not due:
            return
        for member in due:
            member.last = step
        with isolate_rng():
            self._report(step, due, lambda: self._capture(step, due))

    def before_update(self, step: int) -> None:
        """Keeps the training batch's gradients, and the weights they are for, if a probe that is due needs them."""
        due = [m for m in self.members if m.on and m.probe.needs.training and m.probe.schedule(step)]
        if not due:
            return
        self.before = _Before(step, due)
        for layer in self._union(due):
            parameter = self.parameters[self.weight_names[layer]]
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            self.before.weights[layer] = parameter.detach().clone()
            self.before.gradients[layer] = gradient.detach().clone()

    def after_update(self) -> None:
        """Measures the training batch that `before_update` kept, now that its update is known."""
        before, self.before = self.before, None
        if before is None:
            return

        def finish() -> Taken:
            weights = {layer: self.parameters[self.weight_names[layer]].detach() for layer in before.weights}
            updates = {layer: weights[layer] - old for layer, old in before.weights.items()}
            capture = Capture(
                before.step,
                tuple(before.weights),
                weights=before.weights,
                gradients=before.gradients,
                updates=updates,
            )
            return capture, None

        with isolate_rng():
            self._report(before.step, before.members, finish)

    def _capture(self, step: int, due: Sequence[_Member]) -> Taken:
        """Runs the bank through the network once, for all that is asked for. Empty of activations but on rank zero."""
        watched = self._union([m for m in due if m.probe.needs.activations])
        weighed = self._union([m for m in due if m.probe.needs.weights])
        weights = {layer: self.parameters[self.weight_names[layer]].detach().clone() for layer in weighed}
        if not any(m.probe.needs.bank for m in due):
            return Capture(step, self._union(due), weights=weights), None
        assert self.bank is not None
        failure: Exception | None = None
        shares: dict[str, torch.Tensor] = {}
        outputs = torch.empty(0)
        try:
            shares, outputs = looking.run_bank(self.module, self.bank, watched)
        except Exception as error:
            failure = error
        if looking.agree([failure is not None], self.module.device)[0]:
            failure = failure or RuntimeError("another process could not run the stimulus bank")
            return Capture(step, self._union(due), weights=weights), failure
        gathered = {layer: looking.gather(share, len(self.bank)) for layer, share in shares.items()}
        activations = {layer: rows for layer, rows in gathered.items() if rows is not None}
        outputs = looking.gather(outputs, len(self.bank))
        return Capture(step, self._union(due), self.bank, activations, outputs, weights), None

    def _report(self, step: int, due: Sequence[_Member], take: Callable[[], Taken]) -> None:
        """Takes a capture, measures and writes it; what fails anywhere is switched off everywhere."""
        capture, bank_failure = take()
        failures: dict[int, Exception] = {}
        results: list[Result] = []
        for number, member in enumerate(due):
            try:
                if bank_failure and member.probe.needs.bank:
                    raise bank_failure
                if self.module.trainer.is_global_zero:
                    results.append(self._measure(member, capture))
            except Exception as error:
                failures[number] = error
        failed = looking.agree([number in failures for number in range(len(due))], self.module.device)
        self._switch_off(step, due, failed, failures)
        self._write(step, results)

    def _measure(self, member: _Member, capture: Capture) -> Result:
        measurements, pictures = _measure(member, capture, draw=self.draws)
        for measurement in measurements:
            self.axes |= {axis.name for axis in measurement.axes}
            if measurement.name in self.axes:
                raise ValueError(f"A measurement is not named like an axis; got {measurement.name!r}. Rename one.")
            owner = self.owners.setdefault(measurement.name, member)
            if owner is not member:
                raise ValueError(
                    f"Each measurement of a run has a name of its own; {measurement.name!r} comes from {owner.name} "
                    f"and from {member.name}. Rename one."
                )
            for sink in self.sinks:
                sink.check(measurement)
        return measurements, pictures

    def _switch_off(
        self, step: int, due: Sequence[_Member], failed: Sequence[bool], failures: dict[int, Exception]
    ) -> None:
        for number, member in enumerate(due):
            if not failed[number]:
                continue
            error = failures.get(number, RuntimeError("it failed in another process"))
            if member.probe.on_error == "raise":
                raise error
            member.probe.failed_at = step
            where = "".join(traceback.format_tb(error.__traceback__)[-1:]).strip()
            rank_zero_warn(
                f"{member.name} failed at step {step} and is switched off; training goes on. "
                f"{type(error).__name__}: {error} ({where})"
            )

    def _write(self, step: int, results: Sequence[Result]) -> None:
        measurements = [measurement for found, _ in results for measurement in found]
        pictures = {tag: pixels for _, drawn in results for tag, pixels in drawn.items()}
        for sink in list(self.sinks):
            try:
                sink.write(step, measurements, pictures)
            except Exception as error:
                if any(member.probe.on_error == "raise" for member in self.members):
                    raise
                self.sinks.remove(sink)
                rank_zero_warn(
                    f"{type(sink).__name__} could not write step {step}, so nothing more goes there; training goes on. "
                    f"{type(error).__name__}: {error}"
                )

    def _union(self, members: Sequence[_Member]) -> tuple[str, ...]:
        wanted = {layer for member in members for layer in member.layers}
        return tuple(layer for layer in self.order if layer in wanted)


def _weighs(member: _Member) -> bool:
    return member.probe.needs.weights or member.probe.needs.training


def _suffix(probe: Probe, probes: Sequence[Probe]) -> str:
    """Nothing for the first probe of its class, _2 for the second, so that each measurement has a name of its own."""
    number = 1 + [other for other in probes if type(other) is type(probe)].index(probe)
    return f"_{number}" if number > 1 else ""


def _measure(member: _Member, capture: Capture, *, draw: bool) -> Result:
    """Measures what the probe asked for and no more, so that a look does not depend on which other probes look."""
    probe, layers, needs = member.probe, member.layers, member.probe.needs
    own = Capture(
        capture.step,
        layers,
        capture.bank if needs.bank else None,
        {layer: capture.activations[layer] for layer in layers} if needs.activations else {},
        capture.outputs if needs.outputs else None,
        {layer: capture.weights[layer] for layer in layers} if needs.weights or needs.training else {},
        {layer: capture.gradients[layer] for layer in layers} if needs.training else {},
        {layer: capture.updates[layer] for layer in layers} if needs.training else {},
    )
    measurements = list(probe.measure(own))
    drawn = {found.name + member.suffix: probe.draw(found) for found in measurements} if draw else {}
    named = [replace(measurement, name=measurement.name + member.suffix) for measurement in measurements]
    return named, {name: to_pixels(figure) for name, figure in drawn.items() if figure is not None}


def _find_bank(trainer: Trainer) -> StimulusBank:
    data = getattr(trainer, "datamodule", None)
    if not hasattr(data, "stimulus_bank"):
        raise ValueError(
            "A probe of activations looks at a stimulus bank, which the data module's method `stimulus_bank` gives; "
            f"{type(data).__name__} has none. Write it, so that it returns a lightning_emerge.records.StimulusBank."
        )
    return data.stimulus_bank()  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]


def _open_sinks(trainer: Trainer) -> list[Sink]:
    folder = trainer.log_dir  # a collective: every process asks
    if not trainer.is_global_zero or trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
        return []
    boards = tensorboard_sinks(trainer.loggers)
    try:
        return [ArraySink(Path(folder or trainer.default_root_dir) / STORE, trainer.global_step), *boards]
    except (OSError, ValueError) as error:
        rank_zero_warn(f"No records are kept, as their store could not be opened; training goes on. {error}")
        return [*boards]
