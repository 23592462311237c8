"""The probes of a run: their layers, their schedules in steps, and what they keep between looks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from matplotlib.figure import Figure
from torch import nn

from lightning_emerge.capture.needs import Need
from lightning_emerge.capture.needs.base import complete
from lightning_emerge.engine.training_loss import TrainingLoss
from lightning_emerge.records import Capture, History, Measurement, Record
from lightning_emerge.schedules import Schedule

FAILURES = (Exception, SystemExit)
"""What a probe's own code may raise; it may call sys.exit."""


class Looker(Protocol):
    """A probe, as the conductor sees it."""

    needs: ClassVar[tuple[Need, ...]]
    records: ClassVar[tuple[Record, ...]]
    schedule: Schedule
    layers: Sequence[str] | None
    on_error: Literal["report", "raise"]
    failed_at: int | None

    def check(self, module: nn.Module, /) -> tuple[str, ...]: ...
    def choose(self, module: nn.Module, layers: tuple[str, ...], /) -> tuple[str, ...]: ...
    def measure(self, capture: Capture, /) -> Iterable[Measurement]: ...
    def draw(self, measurement: Measurement, /) -> Figure | None: ...
    def describe(self) -> str: ...


@dataclass
class Member:
    """A probe in a run.

    Attributes:
        probe: looks.
        layers: at which it looks.
        schedule: says when, in steps.
        suffix: ends the names of its measurements.
        settings: its class path and arguments, as JSON.
        last: step of its last look at the bank or the weights; -1 before that.
        history: what its earlier looks left.
        broken: what its schedule raised, or why it cannot look at its layers.
        lacking: why no layer is left for it, if it has other things to look at.
        size: bytes of the records of its last look.
        drawn: names of measurements that were drawn once under guard.
    """

    probe: Looker
    layers: tuple[str, ...]
    schedule: Schedule
    suffix: str
    settings: str
    last: int = -1
    history: History = field(default_factory=History)
    broken: BaseException | None = None
    lacking: Exception | None = None
    size: int = 0
    drawn: set[str] = field(default_factory=set[str])

    @property
    def name(self) -> str:
        """Its class' name, with a number from the second of its class on."""
        return type(self.probe).__name__ + self.suffix

    @property
    def on(self) -> bool:
        """Whether it is not switched off."""
        return self.probe.failed_at is None

    @property
    def trains(self) -> bool:
        """Whether it looks at training batches."""
        return any(need.training for need in complete(self.probe.needs))

    @property
    def weighs(self) -> bool:
        """Whether each of its layers has to hold a weight."""
        return any(need.weighs for need in complete(self.probe.needs))

    def asks(self, steps: Iterable[int]) -> bool:
        """Whether it is to look at one of these steps; a schedule that fails is reported by the look."""
        try:
            return any(list(map(self.schedule, steps)))  # all of them, so that the same ones fail in every process
        except FAILURES as error:
            self.broken = error
            return True


def enlist(
    probe: Looker,
    probes: Sequence[Looker],
    module: nn.Module,
    steps_per_epoch: float,
    loss: TrainingLoss | None = None,
) -> Member:
    """Makes a probe a member of a run.

    Args:
        probe: to be enlisted.
        probes: all of the run.
        module: the network.
        steps_per_epoch: for schedules in epochs.
        loss: for schedules that follow it.

    Raises:
        ValueError: if its layers or schedule do not fit the run.
    """
    schedule = _bind(probe.schedule, steps_per_epoch, loss)
    return Member(probe, probe.check(module), schedule, _suffix(probe, probes), probe.describe())


def unite(members: Iterable[Member], order: Sequence[str]) -> tuple[str, ...]:
    """The layers of several members, in the network's order."""
    wanted = {layer for member in members for layer in member.layers}
    return tuple(layer for layer in order if layer in wanted)


def _bind(schedule: Schedule, steps_per_epoch: float, loss: TrainingLoss | None) -> Schedule:
    if not isinstance(schedule, Schedule):  # any function of the step will do
        return schedule
    bound = schedule.bind(steps_per_epoch)
    return bound if loss is None else loss.follow(bound)


def _suffix(probe: Looker, probes: Sequence[Looker]) -> str:
    """Nothing for the first probe of its class, _2 for the second, so that each measurement has a name of its own."""
    number = 1 + [other for other in probes if type(other) is type(probe)].index(probe)
    return f"_{number}" if number > 1 else ""
