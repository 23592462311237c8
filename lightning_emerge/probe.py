"""The abstract probe: a Lightning callback that says when it looks, what it needs, what it measures, how it is drawn.

Every probe of a trainer is run by the first of them, so that the bank goes through the network once a look, in the
union of the layers that are asked for, and so that all processes do the same in the same order.
"""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any, ClassVar, Literal

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from matplotlib.figure import Figure
from torch import nn
from torch.nn.parameter import is_lazy

from lightning_emerge import capture as looking
from lightning_emerge.data.stimuli import Stimuli
from lightning_emerge.engine import budget
from lightning_emerge.engine.conductor import PAST, Conductor, Sinks
from lightning_emerge.engine.endings import attend
from lightning_emerge.engine.fitted import keep_fit
from lightning_emerge.engine.thumbnails import keep_thumbnails
from lightning_emerge.records import Capture, Measurement, Needs, StimulusBank
from lightning_emerge.schedules import LogSpaced, Schedule
from lightning_emerge.sinks.arrays import STORE, ArraySink
from lightning_emerge.sinks.tensorboard import tensorboard_sinks

_UNWRITTEN = "lightning_emerge_unwritten"
"""Where it has the names of probes whose look at its step is not in the records yet."""

_SHARDED = ("fsdp", "deepspeed", "modelparallel")
_COUNTED = 100_000
"""Steps in which looks are counted."""


class Probe(Callback, ABC):
    """Looks at a network while it trains, without disturbing it.

    Subclasses set `needs` and write `measure`, and `draw` if there is something to see. A probe's own state is what it
    was given at construction; each look depends on its capture alone.

    Args:
        schedule: when to look; `LogSpaced()` if none is given. The last step is always looked at.
        layers: names or patterns of layers (see `lightning_emerge.capture.match_layers`); if none is given, all that
            hold a weight and give what the probe needs when stimuli pass the network.
        on_error: "report" says what went wrong, switches this probe off and lets training go on; "raise" stops
            training.
    """

    needs: ClassVar[Needs]
    _given: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Probe:
        # What a probe was made with goes into its records, whatever its subclass keeps of it.
        probe = super().__new__(cls)
        probe._given = _arguments(cls, args, kwargs)
        return probe

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
        self.on_error: Literal["report", "raise"] = on_error
        self.failed_at: int | None = None
        self._noted: set[str] = set()
        self._conductor: Conductor | None = None
        self._past: dict[str, Any] | None = None
        self._unwritten: list[str] = []
        self._left: dict[str, Any] = {}

    @abstractmethod
    def measure(self, capture: Capture) -> Iterable[Measurement]:
        """Computes this probe's measurements of one look, on process zero, while training waits."""

    def draw(self, measurement: Measurement) -> Figure | None:
        """Draws a measurement, or None if there is nothing to draw of it.

        It is called in a thread beside training: it draws no random numbers and does not touch the network.
        """
        return None

    def check(self, module: nn.Module) -> tuple[str, ...]:
        """Finds this probe's layers.

        Raises:
            ValueError: if a pattern matches no layer, or a layer cannot give what the probe needs.
        """
        layers = self.find_layers(module)
        if self.needs.of_weights:
            looking.find_weights(module, layers)
        named = () if self.layers is None else layers  # of the others, those that do not fit are left out
        if self.needs.inputs:
            for layer in named:
                looking.find_convolution(module, layer)
        if self.needs.gradient_squares:
            for layer in named:
                looking.find_leaves(module, layer)
        return layers

    def choose(self, module: nn.Module, layers: tuple[str, ...]) -> tuple[str, ...]:
        """Chooses among the layers that `check` has found and that give what is needed: here all of them."""
        return layers

    def note(self, record: str, text: str) -> None:
        """Says, once a fit for each record, of what it cannot be measured, and why."""
        if record not in self._noted:
            self._noted.add(record)
            rank_zero_warn(f"{type(self).__name__} has no {record} {text}")

    def find_layers(self, module: nn.Module) -> tuple[str, ...]:
        """Finds the layers that are named, or else those of the network."""
        return looking.match_layers(module, self.layers)

    def describe(self) -> str:
        """This probe's class path and arguments, as JSON; what JSON has no words for is named by its class."""
        return json.dumps(_plain(self))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            refuse_sharding(kind.__name__ for kind in type(trainer.strategy).__mro__)
            attend(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not in setup: a module may make its layers in setup or in configure_model.
        self.check(pl_module)
        self._left = {}
        self._noted.clear()
        probes = probes_of(trainer)
        if probes[0] is self:
            find_bank(trainer, probes)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        probes = probes_of(trainer)
        if probes[0] is self:
            self._conductor = _make_conductor(trainer, pl_module, probes, self._past)
            _check_budget(trainer, self._conductor)
            self._conductor.begin(trainer.global_step, self._unwritten)
            _check_records(trainer, self._conductor)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._conductor:
            self._conductor.before_batch(trainer.global_step)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if self._conductor:
            self._conductor.before_update(trainer.global_step, optimizer, trainer.optimizers)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        if self._conductor and trainer.global_step != self._conductor.step:
            self._conductor.after_update()
            self._conductor.look(trainer.global_step)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # What was found before a checkpoint is on disk before it, so that who goes on from there misses nothing.
        if self._conductor:
            self._look(trainer)  # whoever saves may do so before this probe's turn
            self._conductor.settle(trainer.global_step)
            self._left = _leave(self._conductor)
        checkpoint.update(self._left)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._past = checkpoint.get(PAST)
        self._unwritten = checkpoint.get(_UNWRITTEN, [])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._conductor:
            self._conductor.look(trainer.global_step, last=True)
            self._conductor.settle(show=_shows_progress(trainer))
            rank_zero_info("\n".join(["What the probes cost:", *self._conductor.costs.table()]))
            _keep_fit(trainer, pl_module, self._conductor)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._close()

    def _close(self) -> None:
        conductor, self._conductor = self._conductor, None
        if conductor:
            conductor.close()
            self._left = _leave(conductor)  # a callback may save a checkpoint of a run that failed


def _shows_progress(trainer: Trainer) -> bool:
    bar = trainer.progress_bar_callback
    return bar is not None and bool(getattr(bar, "is_enabled", True))


def _leave(conductor: Conductor) -> dict[str, Any]:
    """What a checkpoint keeps of the probes' looks."""
    return {PAST: conductor.remember(), _UNWRITTEN: conductor.unwritten()}


def probes_of(trainer: Trainer) -> list[Probe]:
    """Finds the probes among a trainer's callbacks, in their order."""
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    return [callback for callback in callbacks if isinstance(callback, Probe)]


def refuse_sharding(strategies: Iterable[str]) -> None:
    """Compares names of a strategy, or of its classes, with those that give no process whole weights.

    Raises:
        ValueError: if it is one of them.
    """
    for name in strategies:
        if any(word in name.lower() for word in _SHARDED):
            raise ValueError(
                f"Probes look at whole weights, which each process has with one device or with ddp; {name} splits them "
                "between processes. Use --trainer.strategy ddp (see configs/ddp.yaml), or train without probes."
            )


def find_budget(
    module: nn.Module,
    probes: Sequence[Probe],
    bank: StimulusBank | None,
    processes: int,
    layers: Sequence[tuple[str, ...]] | None = None,
) -> budget.Budget | None:
    """Works out what a look needs; None if no probe needs the bank, or if that cannot be told before the first look.

    Args:
        module: the network.
        probes: what looks.
        bank: what they look at.
        processes: that share the bank.
        layers: of each probe, if it is known which of them are left out.
    """
    if bank is None or any(is_lazy(parameter) for parameter in module.parameters()):
        return None
    found = layers if layers is not None else [probe.choose(module, probe.check(module)) for probe in probes]
    asked = [budget.Asked(type(probe).__name__, probe.needs, own) for probe, own in zip(probes, found, strict=True)]
    try:
        with isolate_rng():
            return budget.plan_look(module, asked, bank, processes)
    except Exception:  # the look will say what is wrong, and with which probe
        return None


def find_bank(trainer: Trainer, probes: Sequence[Probe]) -> StimulusBank | None:
    """Finds the stimulus bank of a trainer: that of a `Stimuli` among its callbacks, or else the data module's.

    Returns:
        The bank, or None if no probe needs it.

    Raises:
        ValueError: if there is no bank, or a probe needs latents and the bank has none.
    """
    asking = [probe for probe in probes if probe.needs.bank]
    if not asking:
        return None
    given = [callback for callback in trainer.callbacks if isinstance(callback, Stimuli)]  # pyright: ignore[reportAttributeAccessIssue]
    data = getattr(trainer, "datamodule", None)
    if len(given) > 1:
        raise ValueError(f"A run has one stimulus bank; got {len(given)} Stimuli among its callbacks. Keep one.")
    if not given and not hasattr(data, "stimulus_bank"):
        what = "there is no data module" if data is None else f"{type(data).__name__} has no method stimulus_bank"
        raise ValueError(
            f"{type(asking[0]).__name__} looks at a stimulus bank; {what}. Add lightning_emerge.Stimuli(...) to the "
            "trainer's callbacks, with a tensor, a folder or a data module, or write the method, so that it returns a "
            "lightning_emerge.StimulusBank."
        )
    bank = given[0].bank() if given else data.stimulus_bank()  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    for probe in asking:
        if probe.needs.latents and bank.latents is None:
            raise ValueError(
                f"{type(probe).__name__} needs the latents of each stimulus, which rendered tokens have; this bank has "
                "none. Use a TokenDataModule, or give StimulusBank a table of latents."
            )
    return bank


def _make_conductor(
    trainer: Trainer, module: LightningModule, probes: Sequence[Probe], past: Mapping[str, Any] | None
) -> Conductor:
    batches = trainer.num_training_batches / trainer.accumulate_grad_batches
    bank, sinks = find_bank(trainer, probes), _open_sinks(trainer, module)
    if bank is not None:
        _keep_thumbnails(trainer, bank)
    return Conductor(
        module,
        probes,
        bank,
        sinks,
        step=trainer.global_step,
        steps_per_epoch=ceil(batches) if batches < float("inf") else batches,
        past=past,
    )


def _check_budget(trainer: Trainer, conductor: Conductor) -> None:
    """Says what looks will need, and stops all processes if process zero has not enough memory for it."""
    looking_on = [member for member in conductor.members if member.broken is None]
    probes, layers = [member.probe for member in looking_on], [member.layers for member in looking_on]
    found, failure = find_budget(conductor.module, probes, conductor.bank, trainer.world_size, layers), None  # pyright: ignore[reportArgumentType]
    if found is not None and trainer.is_global_zero:
        room = budget.memory_of(conductor.device)
        try:
            budget.refuse(found, room)
        except ValueError as error:
            failure = error
        for line in budget.warn(found, room) if failure is None else ():
            rank_zero_warn(line)
    if looking.agree([failure is not None], conductor.device)[0]:
        raise failure or ValueError("process zero has not enough memory for a look")


def _check_records(trainer: Trainer, conductor: Conductor) -> None:
    """Says how large the records of the run will be, now that those of one look are known."""
    folder = trainer.log_dir or trainer.default_root_dir  # a collective: every process asks
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
        return sum(bool(schedule(step)) for step in range(steps + 1))
    except Exception:  # the look at that step will say so
        return 0


def _open_sinks(trainer: Trainer, module: LightningModule) -> Sinks:
    """Opens where findings go. A store that is not this run's stops all processes; a disk that fails stops none."""
    folder = trainer.log_dir  # a collective: every process asks
    if trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
        return Sinks()
    sinks, failure = Sinks(), None
    if trainer.is_global_zero:
        sinks.boards = tensorboard_sinks(trainer.loggers)
        try:
            step = trainer.global_step if trainer.global_step or trainer.ckpt_path else None
            sinks.records = [ArraySink(f"{folder or trainer.default_root_dir}/{STORE}", step)]
        except OSError as error:
            rank_zero_warn(f"No records are kept, as their store could not be opened; training goes on. {error}")
        except ValueError as error:
            failure = error
    if looking.agree([failure is not None], module.device)[0]:
        raise failure or ValueError("process zero could not open the records of this run")
    for board in sinks.boards:
        board.go_on(trainer.global_step)
        if sinks.records:
            board.announce(trainer.global_step)
    return sinks


def _keep_thumbnails(trainer: Trainer, bank: StimulusBank) -> None:
    """Leaves pictures of the stimuli in the run's folder, for the board."""
    folder = trainer.log_dir or trainer.default_root_dir  # a collective: every process asks
    if not trainer.is_global_zero or trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
        return
    try:
        keep_thumbnails(folder, bank)
    except Exception as error:  # what only draws stops no run
        rank_zero_warn(f"Pictures of the stimuli were not kept in {folder} ({type(error).__name__}: {error}).")


def _keep_fit(trainer: Trainer, module: LightningModule, conductor: Conductor) -> None:
    """Leaves in the run's folder what a report says of the fit and no probe records."""
    folder = trainer.log_dir or trainer.default_root_dir  # a collective, as metrics may be: every process asks
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if not trainer.is_global_zero or trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
        return
    try:
        keep_fit(folder, module, conductor.costs, (conductor.began, trainer.global_step), trainer.world_size, metrics)
    except OSError as error:
        rank_zero_warn(f"What the fit cost was not kept: {folder} could not be written ({error}).")


def _arguments(kind: type, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    try:
        bound = inspect.signature(kind.__init__).bind_partial(None, *args, **kwargs)
    except TypeError:  # __init__ is about to say what is wrong
        return {}
    bound.apply_defaults()
    return dict(list(bound.arguments.items())[1:])


def _plain(value: Any) -> Any:
    """Gives a value in JSON's words."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value))
    if isinstance(value, Sequence | range):
        return [_plain(item) for item in value]
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, torch.Tensor) or not hasattr(value, "__dict__"):
        return name
    given = value._given if isinstance(value, Probe) else vars(value)
    return {
        "class_path": name,
        "init_args": {key: _plain(item) for key, item in given.items() if not key.startswith("_")},
    }
