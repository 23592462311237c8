"""A capture: what one look leaves of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, NoReturn, Protocol, TypeAlias, TypeVar

import torch

from lightning_emerge.records.bank import StimulusBank
from lightning_emerge.records.structures import Structure

_Place = TypeVar("_Place", int, torch.Tensor)
Made = TypeVar("Made")
MadeOnce: TypeAlias = dict[tuple[object, str], tuple[torch.Tensor, int, Any]]
"""What was made of activations at a look: by function and layer the activations, how often they were written to, it."""


@dataclass(frozen=True)
class ReceptiveField:
    """Which square of the image a unit of a layer can see, by its place in the layer's output.

    Attributes:
        size: side of the square, in pixels.
        stride: pixels from the square of one unit to that of the next.
        start: pixel at which the square of the first unit begins; below zero if it reaches into the padding.
    """

    size: int
    stride: int
    start: int

    def span(self, position: _Place) -> tuple[_Place, _Place]:
        """First pixel that a position's unit sees, and the one after the last, along an axis; both may lie outside."""
        low = self.start + position * self.stride
        return low, low + self.size


@dataclass(frozen=True)
class Convolution:
    """What a layer makes of what it gets, apart from its weight: a convolution, a shift or batch norm, a ReLU.

    The layer is the module that was named. A batch norm or ReLU that follows a bare Conv2d is not part of it.

    Attributes:
        stride: places of the input from one of the output to the next, (y, x).
        dilation: places of the input from one tap of a kernel to the next, (y, x).
        padding: zeros that are put around the input: left, right, top, bottom, as `torch.nn.functional.pad` takes them.
        scale: (out,), what the convolution is multiplied by: 1, or what the batch norm does in evaluation mode.
        shift: (out,), what is added then: the bias, and what the batch norm adds.
        rectified: whether a ReLU follows in the layer.
    """

    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]
    scale: torch.Tensor
    shift: torch.Tensor
    rectified: bool


class OpenNetwork(Protocol):
    """The network as it stands at a look: in evaluation mode, eager, without autocasting; calls are differentiable."""

    def __call__(self, inputs: Structure, /) -> torch.Tensor:
        """Maps inputs, of the form of the bank's, to outputs (stimulus, token)."""
        ...

    def respond(self, layer: str, inputs: Structure, /) -> torch.Tensor:
        """A layer's output (stimulus, ...) for inputs; the network is run no deeper."""
        ...

    def normalise(self, inputs: Structure, layers: Sequence[str] = (), /) -> dict[str, torch.Tensor]:
        """Gives batch norms the mean and variance of what they get for inputs, until the look is over.

        Their running averages are 0 and 1 before the first step, and later lag behind the weights.

        Returns:
            The outputs (stimulus, ...) of some layers in that pass, without gradients; those that have none are absent.
        """
        ...

    def intervene(
        self, layer: str, change: Callable[[torch.Tensor], torch.Tensor], inputs: Structure, /
    ) -> torch.Tensor:
        """Outputs for inputs, with what a function makes of a layer's output put in its place on the way."""
        ...

    def loss(self, rows: torch.Tensor, /) -> torch.Tensor:
        """The sum of the losses of some stimuli of the bank, by their positions: what the bank's task says."""
        ...

    def parameters(self, layers: Sequence[str], /) -> dict[str, torch.Tensor]:
        """The weight of each layer, to differentiate with respect to; never to be written to."""
        ...

    def receptive_fields(self, layers: Sequence[str], image: torch.Tensor, /) -> dict[str, ReceptiveField | None]:
        """What units of each layer see, found by passing one image (channel, y, x); None if that is all of it."""
        ...


@dataclass(frozen=True)
class PastLook:
    """What a probe's earlier look saw of its layers.

    Attributes:
        step: of that look.
        weights: layer -> tensor, its weight then.
        gradients: layer -> tensor, the training batch's gradient; empty unless the probe looks at training batches.
        kept: name -> tensor, what the probe kept of it.
    """

    step: int
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    gradients: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    kept: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])

    def copy(self) -> PastLook:
        """The same, with tensors of its own."""
        return self._each(torch.Tensor.clone)

    def on(self, device: torch.device) -> PastLook:
        """The same on a device: checkpoints are read on the CPU."""
        return self._each(lambda kept: kept.to(device))

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> PastLook:
        every = (self.weights, self.gradients, self.kept)
        return PastLook(self.step, *({name: change(one) for name, one in tensors.items()} for tensors in every))


@dataclass(frozen=True, eq=False)
class FirstLook:
    """What a probe's first look saw of its layers, and what the probe kept of it.

    Attributes:
        step: of that look.
        weights: layer -> tensor, its weight then; none at that look itself, where the capture has them.
        kept: name -> tensor, what the probe kept; `of` adds to it at that look.
        now: whether it is this look.
    """

    step: int
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    kept: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    now: bool = True

    def of(self, name: str, now: torch.Tensor) -> torch.Tensor:
        """Gives what had a name at the first look; at that look, what has it now, which is then kept.

        Args:
            name: of what is kept, which checkpoints hold: nothing large.
            now: what has that name now, of the same shape at each look of a run.

        Raises:
            ValueError: if nothing of that name and shape was kept.
        """
        if self.now:
            self.kept[name] = now
        then = self.kept.get(name)
        if then is None or then.shape != now.shape:
            was = "nothing of that name" if then is None else f"{tuple(then.shape)}"
            raise ValueError(
                f"What a probe compares with its first look has one shape all through a run; {name!r} is "
                f"{tuple(now.shape)}, and at step {self.step} there was {was}. Give the probe the settings that the "
                "run began with."
            )
        return then


@dataclass
class History:
    """What a probe's earlier looks left.

    Attributes:
        first: its first look of the run, its weights and what it kept; None before that.
        latest: its last two looks: a run that resumes in another folder takes the last one again.
    """

    first: PastLook | None = None
    latest: tuple[PastLook, ...] = ()

    def before(self, step: int) -> tuple[PastLook, ...]:
        """Its looks before a step."""
        return tuple(look for look in self.latest if look.step < step)

    def add(self, look: PastLook) -> None:
        """Keeps a look in the place of the one before the last."""
        self.latest = (*self.before(look.step)[-1:], look)
        self.first = self.first or PastLook(look.step, look.weights)

    def looks(self) -> list[PastLook]:
        """The first and the latest, for a checkpoint; none if there was no look."""
        return [] if self.first is None else [self.first, *self.latest]


_finders: dict[str, str] = {}
"""Which need finds what, for the words of an error."""


def name_finder(name: str, need: type) -> None:
    """Notes the need by which something of a capture can be asked for."""
    shipped = need.__module__.partition(".")[0] == __name__.partition(".")[0]
    _finders.setdefault(name, f"lightning_emerge.{need.__name__}()" if shipped else f"{need.__qualname__}(...)")


class Capture:
    """What one look leaves of the network: what the probe's needs find, each by its name, as `capture.activations`.

    It does not change. What was not asked for is not there, and an access to it says so.

    Args:
        step: optimizer steps taken when the look began; 0 is before the first update.
        layers: names of the probe's layers, in the network's order.
        bank: the stimuli, or None if the probe does not look at them.
        found: by its name, what needs find: of each layer a mapping from its name.
    """

    step: int
    layers: tuple[str, ...]
    bank: StimulusBank | None
    found: Mapping[str, Any]
    _made: MadeOnce

    def __init__(
        self,
        step: int,
        layers: tuple[str, ...],
        bank: StimulusBank | None = None,
        *,
        _made: MadeOnce | None = None,
        **found: Any,
    ) -> None:
        made = MadeOnce() if _made is None else _made
        vars(self).update(step=step, layers=layers, bank=bank, found=MappingProxyType(found), _made=made)

    def once(self, make: Callable[[torch.Tensor], Made], layer: str) -> Made:
        """Gives what a function makes of a layer's activations, made when the first probe asks for it at a look.

        Args:
            make: gets the activations, a float32 tensor (stimulus, ...). Probes share what it gives, so that none
                writes to it.
            layer: one of those of `activations`, which the probe needs.
        """
        rows: torch.Tensor = self.activations[layer]
        # What was written to since is another thing; tensors of inference mode count nothing.
        version = 0 if rows.is_inference() else rows._version
        known = self._made.get((make, layer))
        if known is None or known[0] is not rows or known[1] != version:
            known = self._made[make, layer] = rows, version, make(rows)
        return known[2]

    def __getattr__(self, name: str) -> Any:
        found: Mapping[str, Any] = vars(self).get("found", {})
        if name in found:
            return found[name]
        if name.startswith("_"):
            raise AttributeError(name)
        near = name if name in _finders else next(iter(get_close_matches(name, [*found, *_finders], 1)), None)
        meant = "" if near in (None, name) else f" Did you mean {near!r}?"
        asking = "" if near is None or near in found else f" Add {_finders[near]} to the probe's `needs`."
        raise AttributeError(
            f"A capture holds what its probe asked for, here {', '.join(found) or 'nothing'}; {name!r} is not among it."
            f"{meant}{asking}"
        )

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"A capture does not change; got {name!r}. Keep it in a variable of your own.")

    def __repr__(self) -> str:
        return f"Capture(step={self.step}, layers={self.layers}, {', '.join(self.found)})"
