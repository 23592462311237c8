"""The conductor: one pass of the bank a look for all probes that are due, the same on all processes."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from typing import Any, ClassVar, Literal, Protocol

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from lightning_utilities.core.rank_zero import rank_zero_warn
from matplotlib.figure import Figure
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lightning_emerge.capture import (
    Firing,
    add_up,
    agree,
    find_layers,
    find_weights,
    gather,
    is_process_zero,
    open_network,
)
from lightning_emerge.capture.weights import Weight
from lightning_emerge.engine.budget import drawable
from lightning_emerge.engine.costs import CAPTURE, WAIT, Costs
from lightning_emerge.engine.device import full_precision, wait_for
from lightning_emerge.engine.lent import Backup, ChangedError, is_foreign, same_streams, unchanged
from lightning_emerge.engine.passes import Kinds, ask, ask_all, pass_bank, trouble_of, try_layers
from lightning_emerge.engine.writer import Findings, Writer
from lightning_emerge.records import Capture, Measurement, Needs, Past, Record, StimulusBank, check_declared
from lightning_emerge.schedules import Schedule
from lightning_emerge.sinks.tensorboard import TensorBoardSink
from lightning_emerge.store.checks import Known
from lightning_emerge.store.write import ArraySink

PAST = "lightning_emerge_probes"
"""Where a checkpoint has what `Conductor.remember` gave."""

LAYERS = "layers of probes"
"""Where that has the layers that probes chose which named none: a name that no class has."""


class Looker(Protocol):
    """A probe, as the conductor sees it."""

    needs: ClassVar[Needs]
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
class Sinks:
    """Where a run's findings go; only process zero has any."""

    records: list[ArraySink] = field(default_factory=list[ArraySink])
    boards: list[TensorBoardSink] = field(default_factory=list[TensorBoardSink])


@dataclass
class _Member:
    """A probe in a run: its layers, its schedule in steps, and the end of its measurements' names."""

    probe: Looker
    layers: tuple[str, ...]
    schedule: Schedule
    suffix: str
    settings: str
    last: int = -1  # step of its last look at the bank or the weights
    first: Past | None = None
    latest: tuple[Past, ...] = ()  # its last two looks: a run that goes on in another folder takes the last one again
    broken: BaseException | None = None  # what its schedule raised, or why it cannot look at its layers
    lacking: Exception | None = None  # why no layer is left for it, if it has other things to look at
    size: int = 0  # bytes of the records of its last look
    drawn: set[str] = field(default_factory=set[str])  # measurements that were drawn once under guard

    @property
    def name(self) -> str:
        return type(self.probe).__name__ + self.suffix

    def before(self, step: int) -> tuple[Past, ...]:
        """Its looks before a step."""
        return tuple(past for past in self.latest if past.step < step)

    @property
    def on(self) -> bool:
        return self.probe.failed_at is None

    def asks(self, steps: Iterable[int]) -> bool:
        """Whether it is to look at one of these steps; a schedule that fails is reported by the look."""
        try:
            return any(list(map(self.schedule, steps)))  # all of them, so that the same ones fail in every process
        except _FAILURES as error:
            self.broken = error
            return True


@dataclass
class _Before:
    """What the weights and their gradients were when an optimizer's step began."""

    step: int
    members: list[_Member]
    weights: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    gradients: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    still: set[str] = field(default_factory=set[str])
    fired: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])


_Taken = tuple[Capture, dict[int, Exception]]
"""A capture, and what kept probes from what they asked for, by their position among those that are due."""

_FAILURES = (Exception, SystemExit)
"""What a probe's own code may raise; it may call sys.exit."""


@dataclass
class _Held:
    """What was found at a step whose training batch is still to be looked at: a step is committed at once."""

    step: int
    findings: list[Findings]
    probes: list[str]


class Conductor:
    """Runs probes. All processes call its methods alike; only process zero measures and writes.

    Args:
        module: the network.
        probes: what looks.
        bank: what they look at; None if none of them needs it.
        sinks: where findings go.
        step: optimizer steps taken when it begins.
        steps_per_epoch: for schedules in epochs.
        past: what `remember` gave when the run that goes on was saved.

    Raises:
        ValueError: if a probe's layers or schedule do not fit the run.
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
    ) -> None:
        self.module, self.bank = module, bank
        self.device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
        self.members = [_enlist(probe, probes, module, steps_per_epoch) for probe in probes]
        for probe in probes:
            probe.failed_at = None
        self.order = tuple(find_layers(module))
        self.weights = find_weights(module, self._union([m for m in self.members if m.probe.needs.of_weights]))
        self.refused, self.unfiltered = dict[str, str](), dict[str, str]()
        self.told: set[str] = set()
        self._leave_out((past or {}).get(LAYERS, {}))
        self._recall(past or {})
        self.began, self.step = step, step - 1
        self.recorded = {done for sink in sinks.records for done in sink.steps}
        self.firing: Firing | None = None
        self.before: _Before | None = None
        self.held: _Held | None = None
        self.owners: dict[str, _Member] = {}
        self.known = Known()
        self.finite = True
        self.costs = Costs()
        strict = any(probe.on_error == "raise" for probe in probes)
        self.writer = Writer(sinks.records, sinks.boards, self.costs, strict=strict) if is_process_zero() else None

    def _leave_out(self, before: Mapping[str, Sequence[str]]) -> None:
        """Tries the layers on some stimuli: what a probe cannot measure is left out, or refused if it was named.

        A run that goes on keeps to the layers that it had: where weights decide what is reached, they may now decide
        otherwise.
        """
        found, bank = dict[tuple[str, str], str](), self.bank
        asked = ask_all([_tried(m) for m in self.members] + [_watched(m) for m in self.members], self.order)
        if bank is not None and len(bank) and not any(map(is_lazy, self.module.parameters())):
            found = try_layers(self.module, bank, asked, self.device)
        self.refused = {layer: why for (kind, layer), why in found.items() if kind == "activations"}
        self.unfiltered = {layer: why for (kind, layer), why in found.items() if kind == "filters"}
        for member in self.members:
            keys = [(kind, layer) for kind, layers in _tried(member).items() for layer in layers]
            why = {layer: found[kind, layer] for kind, layer in reversed(keys) if (kind, layer) in found}
            why |= self._twins(member, why)
            kept = tuple(before.get(member.name, ())) if member.probe.layers is None else ()
            kept = kept if {*kept} <= {*member.layers} else ()
            if kept:
                why = {layer: text for layer, text in why.items() if layer not in kept}
                self.refused = {layer: text for layer, text in self.refused.items() if layer not in kept}
            self._leave(member, why, kept)

    def _twins(self, member: _Member, out: Collection[str]) -> dict[str, str]:
        """Layers that share their weight with an earlier one, if all weights of a probe are taken together."""
        needs, known, found = member.probe.needs, dict[int, str](), dict[str, str]()
        together = needs.gradient_squares or (needs.network and needs.weights)
        for layer in [layer for layer in member.layers if together and layer not in out]:
            for source in self.weights[layer].sources:
                other = known.setdefault(id(source), layer)
                if other != layer:
                    found[layer] = f"Weights that are taken together count once; {layer!r} has that of {other!r}."
        return found

    def _leave(self, member: _Member, why: Mapping[str, str], kept: tuple[str, ...]) -> None:
        probe, found = member.probe, member.layers
        left = kept or probe.choose(self.module, tuple(layer for layer in found if layer not in why))
        out = [layer for layer in probe.choose(self.module, found) if layer in why]
        member.layers = left
        if not out:
            return
        names, reasons = ", ".join(out), " ".join(dict.fromkeys(why[layer] for layer in out))
        error = ValueError(
            f"{member.name} looks at layers that give what it needs when images pass; none of {names} does. {reasons}"
        )
        if probe.layers is not None:
            member.layers, member.broken = (), ValueError(reasons)  # its next look says so, and switches it off
        elif not left and not (probe.needs.outputs or probe.needs.features):
            member.broken = error
        else:
            member.lacking = None if left else error
            rank_zero_warn(f"{member.name} leaves out {names}. {reasons}")

    def begin(self, step: int, again: Sequence[str] = ()) -> None:
        """Looks before the first step, unless the run goes on from a step that was looked at before it stopped.

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
        due = [m for m in self.members if m.on and not m.probe.needs.training and m.last != step]
        due = [m for m in due if last or m.asks(steps) or m.name in again]
        if not due:
            return
        for member in due:
            member.last = step
        more = not last and bool(self._training(step))
        with isolate_rng(), full_precision():
            self._report(step, due, lambda waiting: self._capture(step, waiting), more=more)

    def _training(self, step: int) -> list[_Member]:
        """The probes that are to look at the batches that a step's update is made from."""
        return [m for m in self.members if m.on and m.probe.needs.training and m.asks([step])]

    def before_batch(self, step: int) -> None:
        """Watches which units fire in the batches that the next update is made from, if a probe is due then."""
        due = self._training(step)
        if due and self.firing is None:
            self.firing = Firing(self.module, self._union(due))

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
        due = self._training(step)
        if due:
            own = None if optimizer is None else _learned([optimizer])
            layers = self._union(due)
            still = set() if own is None else _learned(optimizers) - own
            self.before = _Before(step, due, still={layer for layer in layers if _any(self.weights[layer], still)})
            for layer in layers:
                weight = self.weights[layer]
                self.before.weights[layer] = _read(weight)
                self.before.gradients[layer] = _gradient(weight, self.before.weights[layer], own)
            self._say_derived(due)
        firing, self.firing = self.firing, None
        if firing is not None:
            firing.close()
            if self.before is not None:
                self.before.fired = firing.agree()
        if len(optimizers) > 1:  # another may step in the same batch
            self.before_batch(step + 1)

    def _say_derived(self, due: Sequence[_Member]) -> None:
        made = [layer for layer in self._union(due) if layer not in self.told and self.weights[layer].derived]
        if made:
            self.told |= {*made}
            rank_zero_warn(
                f"Gradients of training batches are taken of weights that are parameters; those of {', '.join(made)} "
                "are made of others, by a normalisation or a pruning, so that their gradients are NaN. Their updates "
                "are those of the weights in use."
            )

    def after_update(self) -> None:
        """Measures the training batch that `before_update` kept, now that its update is known."""
        before, self.before = self.before, None
        if before is None:
            return

        def finish(waiting: Sequence[_Member]) -> _Taken:
            layers = self._union(waiting)
            kept = {layer: before.weights[layer].clone() for layer in layers}
            updates = {layer: _read(self.weights[layer]) - kept[layer] for layer in layers}
            capture = Capture(
                before.step,
                layers,
                weights=kept,
                gradients={layer: before.gradients[layer].clone() for layer in layers},
                updates={
                    layer: torch.full_like(update, torch.nan) if layer in before.still else update
                    for layer, update in updates.items()
                },
                fired={layer: fired.clone() for layer, fired in before.fired.items()},
            )
            return capture, {}

        with isolate_rng(), full_precision():
            self._report(before.step, before.members, finish)

    def settle(self, step: int | None = None, *, show: bool = False) -> None:
        """Waits until all that was found before a step, or at all if none is given, is written; every process calls it.

        What is found at the step itself is written with what the batch that follows will add to it.
        """
        if self.writer is not None:
            if self.held is not None and (step is None or self.held.step < step):
                self._let_go(self.writer)
            with self.costs.spend(WAIT):
                self.writer.drain(show=show)
        self._agree_on([])
        self._say()

    def close(self) -> None:
        """Writes what is left; no other process need call it."""
        if self.firing is not None:
            self.firing.close()
        if self.writer is not None:
            self._let_go(self.writer)
            self.writer.close()
            self._say()

    def unwritten(self) -> list[str]:
        """Names of the probes whose last look is not written yet, for a checkpoint."""
        return [] if self.held is None else self.held.probes

    def remember(self) -> dict[str, Any]:
        """What the probes' earlier looks left, as tensors and plain values, for a checkpoint."""
        chosen = {m.name: list(m.layers) for m in self.members if m.probe.layers is None and m.layers}
        kept: dict[str, Any] = {LAYERS: chosen}
        for member in self.members:
            if member.first is not None:
                kept[member.name] = [{**vars(past)} for past in (member.first, *member.latest)]
        return kept

    def _recall(self, past: Mapping[str, Any]) -> None:
        for member in self.members:
            looks = [_on(self.device, Past(**kept)) for kept in past.get(member.name, ())]
            if looks and set(looks[0].weights) == set(member.layers):  # it may look at others than before
                member.first, member.latest = looks[0], tuple(looks[1:])

    def _capture(self, step: int, due: Sequence[_Member]) -> _Taken:
        """Runs the bank through the network once, for all that is asked for. Empty of activations but on rank zero."""
        weighed = self._union([m for m in due if m.probe.needs.weights or m.probe.needs.past])
        weights = {layer: _read(self.weights[layer]) for layer in weighed}
        capture = Capture(step, self._union(due), self._lend(due), weights=weights, unfiltered=self.unfiltered)
        if not any(m.probe.needs.passes for m in due):
            return capture, {}
        assert self.bank is not None
        asked, total = [ask(m.probe.needs, m.layers) for m in due], len(self.bank)
        seen, convolutions, troubles = pass_bank(self.module, self.bank, ask_all(asked, self.order), self.device)
        failed = {number: error for number, one in enumerate(asked) if (error := trouble_of(one, troubles))}

        def gathered(rows: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor | None]:
            return {layer: gather(own, total) for layer, own in rows.items()}

        def added(shares: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor | None]:
            return {layer: add_up(share) for layer, share in shares.items()}

        found: dict[str, Any] = {
            "activations": gathered(seen.activations),
            "pooled": gathered(seen.pooled),
            "inputs": gathered(seen.inputs),
            "convolutions": convolutions,
            "bank_gradients": added(seen.gradients),
            "token_gradients": added(seen.token_gradients),
            "gradient_squares": added(seen.squares),
        }
        outputs = None if trouble_of({"outputs": ("",)}, troubles) else gather(seen.outputs, total)
        if not agree([seen.features is None], self.device)[0]:
            assert seen.features is not None
            found["features"], found["readout"] = gather(seen.features, total), seen.readout
        if not is_process_zero():
            return capture, failed
        return replace(capture, outputs=outputs, **found), failed

    def _lend(self, due: Sequence[_Member]) -> StimulusBank | None:
        """The stimuli, or a copy of them if somebody's own probe is to see them, which later passes are not to show."""
        bank = self.bank
        if bank is None or not any(m.probe.needs.bank and is_foreign(m.probe.measure) for m in due):
            return bank
        latents = None if bank.latents is None else bank.latents.copy()
        return replace(bank, images=bank.images.clone(), labels=bank.labels.clone(), latents=latents)

    def _report(
        self, step: int, due: Sequence[_Member], take: Callable[[Sequence[_Member]], _Taken], *, more: bool = False
    ) -> None:
        """Takes a capture, measures it and leaves it to the writer; what fails anywhere is switched off everywhere.

        If a probe changes what it is lent, those after it get another capture.
        """
        waiting, findings = list(due), list[Findings]()
        while waiting:
            wait_for(self.device)
            with self.costs.spend(CAPTURE):
                capture, troubles = take(waiting)
                wait_for(self.device)
            found, failures = self._measure_all(waiting, capture, troubles)
            findings += found
            count = len(waiting)
            spoiled = [isinstance(failures.get(number), ChangedError) for number in range(count)]
            flags = self._agree_on([*(number in failures for number in range(count)), *spoiled])
            self._switch_off(step, waiting, flags[:count], failures)
            waiting = waiting[flags[count:].index(True) + 1 :] if any(flags[count:]) else []
            if self.writer is not None:
                self._look_for_nan(capture)
        wait_for(self.device)
        if self.writer is not None:
            self._hand_over(self.writer, step, findings, [m.name for m in due], more=more)
        self._say()

    def _measure_all(
        self, due: Sequence[_Member], capture: Capture, troubles: Mapping[int, Exception]
    ) -> tuple[list[Findings], dict[int, BaseException]]:
        """Measures with one probe after the other, up to one that changes what it is lent."""
        found, failures, backup = list[Findings](), dict[int, BaseException](), Backup(self.module)
        for number, member in enumerate(due):
            trouble = member.broken or troubles.get(number)
            try:
                if trouble is not None:
                    raise trouble
                if self.writer is not None:
                    with self.costs.spend(member.name):
                        found.append(self._measure(member, capture, backup, self.writer))
            except ChangedError as error:
                failures[number] = error
                break
            except _FAILURES as error:
                failures[number] = trouble or member.lacking or error
        return found, failures

    def _hand_over(
        self, writer: Writer, step: int, findings: Sequence[Findings], probes: list[str], *, more: bool
    ) -> None:
        """Leaves all that was found at a step to the writer at once, so that no reader sees a part of it."""
        held = self.held
        if held is not None and held.step == step:
            held.findings.extend(findings)
            held.probes.extend(probes)
        else:
            self._let_go(writer)
            self.held = _Held(step, list(findings), probes)
        if not more:
            self._let_go(writer)

    def _let_go(self, writer: Writer) -> None:
        held, self.held = self.held, None
        if held is not None:
            writer.put(held.step, held.findings)

    def _agree_on(self, failed: Sequence[bool]) -> list[bool]:
        """Tells all processes what failed on one of them, and stops them all if the writer met what is to stop them."""
        late = self.writer.error if self.writer is not None else None
        *agreed, stop = agree([*failed, late is not None], self.device)
        if stop:
            raise late or RuntimeError("process zero could not write what the probes found")
        return agreed

    def _measure(self, member: _Member, capture: Capture, backup: Backup, writer: Writer) -> Findings:
        """Measures what the probe asked for and no more, so that a look does not depend on which other probes look."""
        own = _own(member, capture)
        with ExitStack() as stack:
            if member.probe.needs.network:
                opened = open_network(self.module, member.layers, self.refused)
                own = replace(own, network=stack.enter_context(opened))
            stack.enter_context(unchanged(self.module, own, backup if is_foreign(member.probe.measure) else None))
            measurements = [self._stamp(member, found, own.step) for found in member.probe.measure(own)]
        if member.probe.needs.past:
            member.latest = (*member.before(own.step)[-1:], Past(own.step, own.weights, own.gradients))
            member.first = member.first or Past(own.step, own.weights)
        suffix = member.suffix
        named = [replace(found, name=found.name + suffix) if suffix else found for found in measurements]
        for measurement in named:
            self._check(member, measurement, writer)
        member.size = sum(measurement.values.nbytes for measurement in named)
        pairs = [(new, old) for new, old in zip(named, measurements, strict=True) if drawable(old)]
        drawings: dict[str, Callable[[], Figure | None]]
        drawings = {new.name: partial(member.probe.draw, old) for new, old in pairs}
        if writer.boards and is_foreign(member.probe.draw):
            self._try_out(member, drawings, backup, writer)
        return Findings(member.name, named, drawings, member.probe.on_error == "raise")

    def _stamp(self, member: _Member, found: Measurement, step: int) -> Measurement:
        """What a probe has measured, with when and by whom, if it has declared it."""
        source = type(member.probe).__name__
        check_declared(found, member.probe.records, source)
        return replace(found, step=step, source=source, probe=member.settings)

    def _try_out(
        self, member: _Member, drawings: dict[str, Callable[[], Figure | None]], backup: Backup, writer: Writer
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

    def _check(self, member: _Member, measurement: Measurement, writer: Writer) -> None:
        owner = self.owners.setdefault(measurement.name, member)
        if owner is not member:
            raise ValueError(
                f"Each measurement of a run has a name of its own; {measurement.name!r} comes from {owner.name} "
                f"and from {member.name}. Rename one."
            )
        for known in list(writer.records) or [self.known]:
            known.check(measurement)

    def _switch_off(
        self, step: int, due: Sequence[_Member], failed: Sequence[bool], failures: Mapping[int, BaseException]
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

    def _look_for_nan(self, capture: Capture) -> None:
        # Not gradients: in half precision some overflow, and the scaler leaves out their step.
        learned = [update for update in capture.updates.values() if not bool(update.isnan().all())]
        seen: list[Any] = [capture.outputs, *capture.weights.values(), *learned]
        if not self.finite or all(values is None or bool(values.isfinite().all()) for values in seen):
            return
        self.finite = False
        rank_zero_warn(
            f"Outputs, weights and updates are finite while a network learns; at step {capture.step} some are NaN or "
            "infinite. Records go on, with NaN where nothing can be measured. Lower the learning rate, or find where "
            "it begins with trainer.detect_anomaly."
        )

    def _say(self) -> None:
        for report in self.writer.reports() if self.writer is not None else ():
            rank_zero_warn(report)

    def _union(self, members: Sequence[_Member]) -> tuple[str, ...]:
        wanted = {layer for member in members for layer in member.layers}
        return tuple(layer for layer in self.order if layer in wanted)


def _sees(needs: Needs) -> bool:
    """Whether a probe looks at what its layers give."""
    return needs.activations or needs.pooled or needs.filters


def _read(weight: Weight) -> torch.Tensor:
    """A copy of a weight as it is used, its filters first; of whole numbers as float32."""
    value = weight.by_filter(weight.read())
    return value.clone() if value.is_floating_point() or value.is_complex() else value.float()


def _learned(optimizers: Iterable[Optimizer]) -> set[int]:
    return {id(one) for optimizer in optimizers for group in optimizer.param_groups for one in group["params"]}


def _any(weight: Weight, known: Collection[int]) -> bool:
    return any(id(source) in known for source in weight.sources)


def _gradient(weight: Weight, value: torch.Tensor, own: Collection[int] | None) -> torch.Tensor:
    """The gradient from which an optimizer is about to update a weight; NaN if it makes no use of one."""
    sources = weight.sources
    learns = own is None or _any(weight, own)
    if weight.derived or not learns or not all(source.requires_grad for source in sources):
        return torch.full_like(value, torch.nan)
    gradient = sources[0].grad
    return torch.zeros_like(value) if gradient is None else weight.by_filter(gradient.detach()).clone()


def _tried(member: _Member) -> Kinds:
    """What a probe's layers have to give, so that it can look at them; of named ones, a look says what they lack."""
    needs, default = member.probe.needs, member.probe.layers is None
    differentiates = needs.bank_gradients or needs.token_gradients or (needs.network and needs.weights)
    kinds = {
        "activations": _sees(needs) or (default and needs.network and not needs.weights),
        "filters": needs.filters,
        "inputs": needs.inputs,
        "gradients": default and differentiates,
        "squares": needs.gradient_squares,
    }
    return {kind: member.layers for kind, wanted in kinds.items() if wanted}


def _watched(member: _Member) -> Kinds:
    """What is refused to a probe that runs the network, where it asks for what these layers give."""
    return {"activations": member.layers} if member.probe.needs.network else {}


def _own(member: _Member, capture: Capture) -> Capture:
    layers, needs, earlier = member.layers, member.probe.needs, member.before(capture.step)

    def of(wanted: bool, values: Any) -> dict[str, Any]:
        return {layer: values[layer] for layer in layers} if wanted else {}

    return Capture(
        capture.step,
        layers,
        capture.bank if needs.bank else None,
        activations=of(needs.activations, capture.activations),
        pooled=of(needs.pooled, capture.pooled),
        inputs=of(needs.inputs, capture.inputs),
        convolutions=of(needs.inputs, capture.convolutions),
        outputs=capture.outputs if needs.outputs else None,
        features=capture.features if needs.features else None,
        readout=capture.readout if needs.features else None,
        unfiltered={layer: why for layer, why in capture.unfiltered.items() if layer in layers},
        weights=of(needs.weights or needs.training or needs.past, capture.weights),
        bank_gradients=of(needs.bank_gradients, capture.bank_gradients),
        token_gradients=of(needs.token_gradients, capture.token_gradients),
        gradient_squares=of(needs.gradient_squares, capture.gradient_squares),
        gradients=of(needs.training, capture.gradients),
        updates=of(needs.training, capture.updates),
        fired={layer: capture.fired[layer] for layer in layers if layer in capture.fired},
        first=_lent(member, member.first) if earlier else None,
        previous=_lent(member, earlier[-1]) if earlier else None,
    )


def _lent(member: _Member, past: Past | None) -> Past | None:
    """An earlier look, whose weights other probes and checkpoints share; somebody's own probe gets copies."""
    if past is None or not is_foreign(member.probe.measure):
        return past
    weights, gradients = (
        {layer: kept.clone() for layer, kept in tensors.items()} for tensors in (past.weights, past.gradients)
    )
    return Past(past.step, weights, gradients)


def _on(device: torch.device, past: Past) -> Past:
    """A look as it was saved, on the network's device: checkpoints are read on the CPU."""
    weights, gradients = (
        {layer: kept.to(device) for layer, kept in tensors.items()} for tensors in (past.weights, past.gradients)
    )
    return Past(past.step, weights, gradients)


def _enlist(probe: Looker, probes: Sequence[Looker], module: nn.Module, steps_per_epoch: float) -> _Member:
    schedule = _bind(probe.schedule, steps_per_epoch)
    return _Member(probe, probe.check(module), schedule, _suffix(probe, probes), probe.describe())


def _bind(schedule: Schedule, steps_per_epoch: float) -> Schedule:
    # Any function of the step will do as a schedule.
    return schedule.bind(steps_per_epoch) if isinstance(schedule, Schedule) else schedule


def _suffix(probe: Looker, probes: Sequence[Looker]) -> str:
    """Nothing for the first probe of its class, _2 for the second, so that each measurement has a name of its own."""
    number = 1 + [other for other in probes if type(other) is type(probe)].index(probe)
    return f"_{number}" if number > 1 else ""
