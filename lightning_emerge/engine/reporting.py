"""Measures what a look found, switches off what fails, and leaves the rest to the writer."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from matplotlib.figure import Figure
from torch import nn

from lightning_emerge.capture import agree, is_process_zero
from lightning_emerge.capture.layouts import Layouts
from lightning_emerge.capture.needs import Rows
from lightning_emerge.capture.needs.base import complete
from lightning_emerge.capture.troubles import Key
from lightning_emerge.engine.budget import drawable
from lightning_emerge.engine.costs import CAPTURE, WAIT, Costs
from lightning_emerge.engine.device import wait_for
from lightning_emerge.engine.lent import Backup, ChangedError, is_foreign, same_streams, unchanged
from lightning_emerge.engine.looks import Found, open_capture, refused_layers
from lightning_emerge.engine.members import FAILURES, Member
from lightning_emerge.engine.writer import Findings, Writer
from lightning_emerge.records import Axis, Capture, Measurement, check_declared
from lightning_emerge.sinks.boards import Board
from lightning_emerge.sinks.loggers import LoggerSink
from lightning_emerge.store.checks import Known
from lightning_emerge.store.write import ArraySink


@dataclass
class Sinks:
    """Where a run's findings go; only process zero has any."""

    records: list[ArraySink] = field(default_factory=list[ArraySink])
    boards: list[Board] = field(default_factory=list[Board])
    loggers: list[LoggerSink] = field(default_factory=list[LoggerSink])


@dataclass
class _Held:
    """What was found at a step whose training batch is still to be looked at: a step is committed at once."""

    step: int
    findings: list[Findings]
    probes: list[str]


class Reporter:
    """Has probes measure. All processes call its methods alike; only process zero measures and writes.

    Args:
        module: the network.
        sinks: where findings go.
        costs: what it took.
        refused: what a trial has shown that layers do not give.
        device: of the network.
        strict: whether what the writer meets stops training.
    """

    def __init__(
        self,
        module: nn.Module,
        sinks: Sinks,
        costs: Costs,
        refused: Mapping[Key, str],
        device: torch.device,
        *,
        strict: bool,
    ) -> None:
        self.module, self.device, self.costs, self._refused = module, device, costs, refused
        self.writer = None
        if is_process_zero():
            self.writer = Writer(sinks.records, sinks.boards, costs, loggers=sinks.loggers, strict=strict)
        self._held: _Held | None = None
        self._owners: dict[str, Member] = {}
        self._known = Known()
        self._finite = True

    def report(
        self, step: int, due: Sequence[Member], take: Callable[[Sequence[Member]], Found], *, more: bool = False
    ) -> None:
        """Takes a capture, measures it and leaves it to the writer; what fails anywhere is switched off everywhere.

        If a probe changes what it is lent, those after it get another capture.

        Args:
            step: of the look.
            due: the probes that look.
            take: finds what some of them need.
            more: whether something else will be found at this step.
        """
        waiting, findings = list(due), list[Findings]()
        while waiting:
            wait_for(self.device)
            with self.costs.spend(CAPTURE):
                found = take(waiting)
                wait_for(self.device)
            measured, failures = self._measure_all(waiting, found)
            findings += measured
            count = len(waiting)
            spoiled = [isinstance(failures.get(number), ChangedError) for number in range(count)]
            flags = self._agree_on([*(number in failures for number in range(count)), *spoiled])
            _switch_off(step, waiting, flags[:count], failures)
            waiting = waiting[flags[count:].index(True) + 1 :] if any(flags[count:]) else []
            if self.writer is not None:
                self._look_for_nan(found)
        wait_for(self.device)
        if self.writer is not None:
            self._hand_over(self.writer, step, findings, [m.name for m in due], more=more)
        self._say()

    def settle(self, step: int | None = None, *, show: bool = False) -> None:
        """Waits until all that was found before a step, or at all if none is given, is written in all processes."""
        self.drain(step, show=show)
        self._agree_on([])
        self._say()

    def drain(self, step: int | None = None, *, show: bool = False) -> None:
        """Waits for what this process has to write; what cannot be written is told to all at the next look."""
        if self.writer is not None:
            if self._held is not None and (step is None or self._held.step < step):
                self._let_go(self.writer)
            with self.costs.spend(WAIT):
                self.writer.drain(show=show)

    def close(self) -> None:
        """Writes what is left; no other process need call it."""
        if self.writer is not None:
            self._let_go(self.writer)
            self.writer.close()
            self._say()

    def unwritten(self) -> list[str]:
        """Names of the probes whose last look is not written yet, for a checkpoint."""
        return [] if self._held is None else self._held.probes

    def _measure_all(self, due: Sequence[Member], found: Found) -> tuple[list[Findings], dict[int, BaseException]]:
        """Measures with one probe after the other, up to one that changes what it is lent."""
        measured, failures, backup = list[Findings](), dict[int, BaseException](), Backup(self.module)
        for number, member in enumerate(due):
            trouble = member.broken or found.troubles.get(number)
            try:
                if trouble is not None:
                    raise trouble
                if self.writer is not None:
                    with self.costs.spend(member.name):
                        measured.append(self._measure(member, found, backup, self.writer))
            except ChangedError as error:
                failures[number] = error
                break
            except FAILURES as error:
                failures[number] = trouble or member.lacking or error
        return measured, failures

    def _measure(self, member: Member, found: Found, backup: Backup, writer: Writer) -> Findings:
        probe, guard = member.probe, backup if is_foreign(member.probe.measure) else None
        needs = complete(probe.needs)
        rows = [name for need in needs if isinstance(need, Rows) for name in need.finds]
        buffers = not any(need.runs for need in needs)
        with (
            open_capture(found, member, self.module, partial(refused_layers, self._refused)) as capture,
            unchanged(self.module, capture, guard, rows=rows, buffers=buffers),
        ):
            measurements = [_stamp(member, one, found) for one in probe.measure(capture)]
        for need in needs:
            need.remember(member.history, capture)
        suffix = member.suffix
        named = [replace(one, name=one.name + suffix) if suffix else one for one in measurements]
        for measurement in named:
            self._check(member, measurement, writer)
        member.size = sum(measurement.values.nbytes for measurement in named)
        pairs = [(new, old) for new, old in zip(named, measurements, strict=True) if drawable(old)]
        drawings: dict[str, Callable[[], Figure | None]]
        drawings = {new.name: partial(probe.draw, old) for new, old in pairs}
        if writer.draws and is_foreign(probe.draw):
            self._try_out(member, drawings, backup, writer)
        return Findings(member.name, named, drawings, probe.on_error == "raise")

    def _try_out(
        self, member: Member, drawings: dict[str, Callable[[], Figure | None]], backup: Backup, writer: Writer
    ) -> None:
        """Has each kind of somebody's own drawings made once while training waits, so that it is seen what it touches.

        Later ones are made beside training, where nobody could tell its random numbers from theirs.
        """
        for name in [name for name in drawings if name not in member.drawn]:
            if writer.artist.stuck:  # another's drawing is no fault of this probe, which has its turn at a later look
                del drawings[name]
                continue
            member.drawn.add(name)
            try:
                with same_streams(), unchanged(self.module, Capture(0, ()), backup):
                    figure = writer.artist.make(drawings[name])
                drawings[name] = lambda figure=figure: figure
            except Exception as error:
                writer.undraw(member.name, name, error, raises=member.probe.on_error == "raise")
                return

    def _check(self, member: Member, measurement: Measurement, writer: Writer) -> None:
        owner = self._owners.setdefault(measurement.name, member)
        if owner is not member:
            raise ValueError(
                f"Each measurement of a run has a name of its own; {measurement.name!r} comes from {owner.name} "
                f"and from {member.name}. Rename one."
            )
        for known in list(writer.records) or [self._known]:
            known.check(measurement)

    def _look_for_nan(self, found: Found) -> None:
        try:
            if not self._finite or found.finite():
                return
        except Exception as error:
            self._finite = False
            rank_zero_warn(
                "What needs find is looked through for NaN by what their `finite` gives; one of a need failed, so that "
                f"NaN is said no more. {type(error).__name__}: {error}. Mend it, or leave it out."
            )
            return
        self._finite = False
        rank_zero_warn(
            f"Outputs, weights and updates are finite while a network learns; at step {found.step} some are NaN or "
            "infinite. Records go on, with NaN where nothing can be measured. Lower the learning rate, or find where "
            "it begins with trainer.detect_anomaly."
        )

    def _hand_over(
        self, writer: Writer, step: int, findings: Sequence[Findings], probes: list[str], *, more: bool
    ) -> None:
        """Leaves all that was found at a step to the writer at once, so that no reader sees a part of it."""
        held = self._held
        if held is not None and held.step == step:
            held.findings.extend(findings)
            held.probes.extend(probes)
        else:
            self._let_go(writer)
            self._held = _Held(step, list(findings), probes)
        if not more:
            self._let_go(writer)

    def _let_go(self, writer: Writer) -> None:
        held, self._held = self._held, None
        if held is not None:
            writer.put(held.step, held.findings)

    def _agree_on(self, failed: Sequence[bool]) -> list[bool]:
        """Tells all processes what failed on one of them, and stops them all if the writer met what is to stop them."""
        late = self.writer.error if self.writer is not None else None
        *agreed, stop = agree([*failed, late is not None], self.device)
        if stop:
            raise late or RuntimeError("process zero could not write what the probes found")
        return agreed

    def _say(self) -> None:
        for report in self.writer.reports() if self.writer is not None else ():
            rank_zero_warn(report)


def _stamp(member: Member, measured: Measurement, found: Found) -> Measurement:
    """What a probe has measured, with when and by whom, if it has declared it."""
    source = type(member.probe).__name__
    check_declared(measured, member.probe.records, source)
    rows = any(need.passes or need.runs for need in complete(member.probe.needs)) and not member.weighs
    axes = tuple(_note(axis, found.layouts) for axis in measured.axes) if rows else measured.axes
    return replace(measured, axes=axes, step=found.step, source=source, probe=member.settings)


def _note(axis: Axis, layouts: Layouts) -> Axis:
    """An axis of layers with which axes of their outputs their channels are, if they are others than the second."""
    known = [layouts.get(str(layer)) for layer in axis.labels] if axis.name == "layer" else []
    if all(layout is None or layout.plain for layout in known):
        return axis
    notes = {**axis.notes, "channels": [-1 if one is None or one.channels is None else one.channels for one in known]}
    if any(one is not None and one.positions != "all" for one in known):
        notes["positions"] = ["" if one is None or one.axes != 3 else one.positions for one in known]
    return replace(axis, notes=notes)


def _switch_off(
    step: int, due: Sequence[Member], failed: Sequence[bool], failures: Mapping[int, BaseException]
) -> None:
    for number, member in enumerate(due):
        if not failed[number]:
            continue
        error = failures.get(number, RuntimeError("it failed in another process"))
        if member.probe.on_error == "raise":
            raise error
        member.probe.failed_at = step
        where = "".join(f"{at.filename}:{at.lineno}" for at in traceback.extract_tb(error.__traceback__)[-1:])
        rank_zero_warn(
            f"{member.name} failed at step {step} and is switched off; training goes on. "
            f"{type(error).__name__}: {error} ({where})"
        )
