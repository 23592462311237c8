"""The abstract probe: a Lightning callback that says when it looks, what it needs, what it measures, how it is drawn.

Every probe of a trainer is run by the first of them, so that the bank goes through the network once a look, in the
union of the layers that are asked for, and so that all processes do the same in the same order.
"""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_warn
from matplotlib.figure import Figure
from torch import nn

from lightning_emerge.capture import match_layers
from lightning_emerge.capture.layers import evenly
from lightning_emerge.capture.needs import Need
from lightning_emerge.capture.needs.base import check_needs, complete
from lightning_emerge.engine.bank import bank_of_fit
from lightning_emerge.engine.conductor import PAST
from lightning_emerge.engine.endings import attend
from lightning_emerge.engine.session import UNWRITTEN, Session, refuse_sharding
from lightning_emerge.engine.training_loss import listen
from lightning_emerge.records import Capture, Measurement, Record
from lightning_emerge.records.declared import check_records
from lightning_emerge.schedules import LogSpaced, Schedule


class Probe(Callback, ABC):
    """Looks at a network while it trains, without disturbing it.

    Subclasses set `needs` and `records` and write `measure`, and `draw` if there is something to see. A probe's own
    state is what it was given at construction; each look depends on its capture alone.

    Args:
        schedule: when to look; `LogSpaced()` if none is given. The last step is always looked at.
        layers: names or patterns of layers (see `lightning_emerge.capture.match_layers`). If none is given, those that
            hold one weight and give what the probe needs when stimuli pass the network. Where there are more than 20,
            a probe of weights looks at 20 of them, evenly over depth, and all others at the network's blocks.
        on_error: "report" says what went wrong, switches this probe off and lets training go on; "raise" stops
            training.
    """

    needs: ClassVar[tuple[Need, ...]]
    """What it has to see of the network, in the order in which it is said what is missing."""

    records: ClassVar[tuple[Record, ...]] = ()
    """What it records; `measure` yields what `of` of each gives."""

    _given: dict[str, Any]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "needs" in vars(cls):
            check_needs(cls.__name__, cls.needs)
        check_records(cls.__name__, cls.records)

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
        self._session: Session | None = None
        self._loaded: dict[str, Any] = {}
        self._left: dict[str, Any] = {}

    @abstractmethod
    def measure(self, capture: Capture) -> Iterable[Measurement]:
        """Computes this probe's measurements of one look, on process zero, while training waits.

        It yields what `of` of its `records` gives, in any order; one that cannot be had at a look may be left out.
        """

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
        check_needs(type(self).__name__, getattr(self, "needs", None))
        layers = self.find_layers(module)
        named = () if self.layers is None else layers  # of the others, those that do not fit are left out
        for need in complete(self.needs):
            need.check(module, layers, named)
        return layers

    def choose(self, module: nn.Module, layers: tuple[str, ...]) -> tuple[str, ...]:
        """Chooses among the layers that give what is needed: here all that were named, else 20 at most, evenly."""
        return evenly(layers) if self.layers is None else layers

    def note(self, record: str, text: str) -> None:
        """Says, once a fit for each record, of what it cannot be measured, and why."""
        if record not in self._noted:
            self._noted.add(record)
            rank_zero_warn(f"{type(self).__name__} has no {record} {text}")

    def forget_notes(self) -> None:
        """Says again in the fit that begins what `note` has said in an earlier one."""
        self._noted.clear()

    def find_layers(self, module: nn.Module) -> tuple[str, ...]:
        """Finds the layers that are named, or else those of the network."""
        return match_layers(module, self.layers)

    def describe(self) -> str:
        """This probe's class path and arguments, as JSON; what JSON has no words for is named by its class."""
        return json.dumps(_plain(self))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            refuse_sharding(kind.__name__ for kind in type(trainer.strategy).__mro__)
            attend(trainer)
            listen(trainer, self.schedule)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not in setup: a module may make its layers in setup or in configure_model.
        self.check(pl_module)
        self._left = {}
        self.forget_notes()
        if self._leads(trainer):
            bank_of_fit(trainer, probes_of(trainer))

    def _leads(self, trainer: Trainer) -> bool:
        return probes_of(trainer)[0] is self

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._leads(trainer):
            self._session = Session(trainer, pl_module, probes_of(trainer), self._loaded)
            self._session.begin()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._session:
            self._session.before_batch()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if self._session:
            self._session.before_update(optimizer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._session:
            self._session.look()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._session:
            self._left = self._session.save()
        checkpoint.update(self._left)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._loaded = {key: checkpoint[key] for key in (PAST, UNWRITTEN) if key in checkpoint}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._session:
            self._session.end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._close()

    def _close(self) -> None:
        session, self._session = self._session, None
        if session:
            self._left = session.close()


def probes_of(trainer: Trainer) -> list[Probe]:
    """Finds the probes among a trainer's callbacks, in their order."""
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    return [callback for callback in callbacks if isinstance(callback, Probe)]


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
