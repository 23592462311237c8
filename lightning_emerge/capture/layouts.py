"""How a layer's output lies: on which axes its stimuli and its channels are, found from what the layer is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.pooling import (
    _AdaptiveAvgPoolNd,  # pyright: ignore[reportPrivateUsage]
    _AdaptiveMaxPoolNd,  # pyright: ignore[reportPrivateUsage]
    _AvgPoolNd,  # pyright: ignore[reportPrivateUsage]
    _MaxPoolNd,  # pyright: ignore[reportPrivateUsage]
)

from lightning_emerge.capture.hooks import first_tensor
from lightning_emerge.capture.layers import match_layers, name_call
from lightning_emerge.capture.weights import own_weights, parts
from lightning_emerge.records.task import Task


@dataclass(frozen=True)
class Layout:
    """How a layer's output lies.

    Attributes:
        axes: how many the output has.
        channels: which of them are the channels; None if what the layer is does not say.
        stimuli: which of them are the stimuli.
        positions: which of its positions are taken, where it is (stimulus, position, channel): "all"; their "mean"; the
            "first", as the class token is; or the "last".
        shape: of an output of the trial, the stimuli first.
    """

    axes: int
    channels: int | None
    stimuli: int = 0
    positions: str = "all"
    shape: tuple[int, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether the output is (stimulus, channel, ...) as it is, or is left as it is."""
        return self.stimuli == 0 and self.channels in (1, None)

    def take(self, output: torch.Tensor) -> torch.Tensor:
        """An output as (stimulus, channel, ...), of the positions that are taken."""
        if self.plain or output.dim() != self.axes:
            return output
        rows = self._moved(output)
        if self.positions == "all":
            return rows
        return rows.mean(dim=2) if self.positions == "mean" else rows[:, :, self._position]

    def put(self, output: torch.Tensor, changed: torch.Tensor) -> torch.Tensor:
        """An output with what has been made of what `take` gives in its place; the mean of positions moves them all."""
        if self.plain or output.dim() != self.axes:
            return changed
        rows = self._moved(output)
        if self.positions == "mean":
            rows = rows + (changed - rows.mean(dim=2))[:, :, None]
        elif self.positions != "all":
            rows = rows.clone()
            rows[:, :, self._position] = changed.to(rows.dtype)
        else:
            rows = changed
        return rows.movedim(*reversed(self._move))

    @property
    def _position(self) -> int:
        return 0 if self.positions == "first" else -1

    @property
    def _move(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return ((self.stimuli,), (0,)) if self.channels is None else ((self.stimuli, self.channels), (0, 1))

    def _moved(self, output: torch.Tensor) -> torch.Tensor:
        return output.movedim(*self._move)


PLAIN = Layout(2, 1)
"""That of what is (stimulus, channel)."""


class _Known(NamedTuple):
    """What a module gave: the tensor while there is one, its shape, and how it lies."""

    part: nn.Module
    tensor: ref[torch.Tensor]
    shape: torch.Size
    layout: Layout

    @property
    def size(self) -> int:
        """How many channels it has."""
        return self.shape[self.layout.channels or 0]

    @property
    def places(self) -> list[int]:
        """How many places there are along each other axis."""
        return [size for axis, size in enumerate(self.shape) if axis != self.layout.channels]


class Trail:
    """Follows stimuli through a network, by forward hooks, and finds how what its modules give lies.

    Channels are second in what convolutions, their norms and pools give, and last in what linear maps, layer norms,
    embeddings, attention and recurrent layers give. A module that holds others has them where these have them in a
    tensor like its own, or on the one axis that is as long; so has what works place by place where what came before has
    them.

    Args:
        module: the network.
        count: of the stimuli that pass, if that is known.
        task: says which positions are taken, and where channels are of which that is given.

    Attributes:
        layouts: name of a call -> how the first tensor lies that it gave.
        calls: name of a module -> how often it was called.
    """

    def __init__(self, module: nn.Module, count: int | None = None, task: Task | None = None) -> None:
        self.layouts: dict[str, Layout] = {}
        self.calls: dict[str, int] = {}
        self._count, self._task = count, task or Task()
        self._given = {
            layer: axis for pattern, axis in self._task.channels.items() for layer in match_layers(module, [pattern])
        }
        self._sequences = any(getattr(part, "batch_first", None) is False for part in module.modules())
        self._known: list[_Known] = []
        self._by_tensor: dict[int, _Known] = {}

    def follow(self, name: str, part: nn.Module, given: Any, output: Any) -> None:
        """Notes a call: a hook for `hooked`."""
        self.calls[name] = self.calls.get(name, 0) + 1
        tensor = first_tensor(output)
        if tensor is None:
            return
        layout = self._find(part, first_tensor(given), tensor)
        if name in self._given:
            axis, axes = self._given[name], tensor.dim()
            there = -axes <= axis < axes and axis % axes != layout.stimuli
            layout = replace(layout, channels=axis % axes if there else None)
        layout = replace(layout, positions=self._taken(layout), shape=tuple(tensor.shape))
        self.layouts[name_call(name, self.calls[name])] = layout
        if layout.channels is not None:
            known = _Known(part, ref(tensor), tensor.shape, layout)
            self._known.append(known)
            self._by_tensor[id(tensor)] = known

    def _find(self, part: nn.Module, given: torch.Tensor | None, output: torch.Tensor) -> Layout:
        same, before = self._same(output), self._before(given)
        if same is not None and _by_kind(part, output) is None:
            return same.layout
        stimuli = self._stimuli(part, before, output)
        channels = 1 if output.dim() <= 2 else _by_kind(part, output)
        if channels is None:
            channels = self._by_others(part, before, output, stimuli)
        return Layout(output.dim(), channels, stimuli)

    def _taken(self, layout: Layout) -> str:
        return self._task.positions if (layout.axes, layout.channels) == (3, 2) else "all"

    def _same(self, tensor: torch.Tensor | None) -> _Known | None:
        known = self._by_tensor.get(id(tensor))
        return known if known is not None and tensor is not None and known.tensor() is tensor else None

    def _before(self, given: torch.Tensor | None) -> _Known | None:
        """What is known of what a module got: of the tensor itself, or of the last one of its shape."""
        if given is None:
            return None
        return self._same(given) or next((known for known in reversed(self._known) if known.shape == given.shape), None)

    def _stimuli(self, part: nn.Module, before: _Known | None, output: torch.Tensor) -> int:
        """The axis of the stimuli: the first, but for sequences whose positions come first."""
        if output.dim() == 3 and getattr(part, "batch_first", None) is False:
            return 1
        if before is not None:
            return before.layout.stimuli if before.layout.axes == output.dim() else 0
        shape, count = output.shape, self._count
        return int(self._sequences and output.dim() == 3 and count not in (None, shape[0]) and shape[1] == count)

    def _by_others(self, part: nn.Module, before: _Known | None, output: torch.Tensor, stimuli: int) -> int | None:
        """Where modules that say nothing of themselves have their channels."""
        inner = {id(one) for one in parts(part)[1:]}
        inside = [known for known in self._known if id(known.part) in inner]
        alike = {known.layout.channels for known in inside if known.shape == output.shape}
        if len(alike) == 1:
            return alike.pop()
        if alike:
            return None  # there are as many channels as places, and modules on both sides of a turn of the axes
        if before is not None and before.shape == output.shape and not inside and is_placewise(part):
            return before.layout.channels
        return _by_size(inside[-1] if inside else before, output, stimuli)


def _by_size(known: _Known | None, output: torch.Tensor, stimuli: int) -> int | None:
    """The one axis that is as long as there were channels before, or that alone has another length than before."""
    if known is None:
        return None
    axes = [axis for axis, size in enumerate(output.shape) if axis != stimuli and size == known.size]
    if axes or known.layout.axes != output.dim():
        return axes[0] if len(axes) == 1 else None
    channels = known.layout.channels
    places = [size for axis, size in enumerate(output.shape) if axis != channels]
    return channels if places == known.places else None


def _by_kind(part: nn.Module, output: torch.Tensor) -> int | None:
    """Where a module has its channels that says so by what it is."""
    last = output.dim() - 1
    if isinstance(part, _ConvNd):
        return 1 if output.dim() > 2 and output.shape[1] == part.out_channels else None
    if isinstance(part, _SECOND):
        return 1
    if isinstance(part, _LAST):
        return last
    return _by_norm(part, output) if isinstance(part, nn.LayerNorm | nn.RMSNorm) else _by_weight(part, output)


def _by_weight(part: nn.Module, output: torch.Tensor) -> int | None:
    """Where a module of its own kind has them that computes with one weight, by the weight's shape."""
    weights = [] if list(part.children()) else own_weights(part)
    if len(weights) != 1 or output.dim() < 2:
        return None
    shape = weights[0].read().shape
    if len(shape) == 2:
        second = output.dim() > 2 and output.shape[1] in shape
        return output.dim() - 1 if output.shape[-1] in shape and not second else None
    return 1 if output.shape[1] == shape[0] and output.shape[-1] != shape[0] else None


def _by_norm(part: nn.LayerNorm | nn.RMSNorm, output: torch.Tensor) -> int | None:
    """Where a layer norm over one axis has them: last, unless it turns axes itself; then by the axis' length."""
    if len(part.normalized_shape) != 1:
        return None
    if type(part).forward in (nn.LayerNorm.forward, nn.RMSNorm.forward):
        return output.dim() - 1
    axes = [axis for axis in range(1, output.dim()) if output.shape[axis] == part.normalized_shape[0]]
    return axes[0] if len(axes) == 1 else None


def is_placewise(part: nn.Module) -> bool:
    """Whether a module works place by place, or normalises."""
    ends = [end for end in parts(part) if not list(end.children())]
    return all(isinstance(end, (*_PLACEWISE, *_NORMS)) for end in ends)


_LAST = (nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, nn.MultiheadAttention, nn.RNNBase)


_SECOND = (
    *(_NormBase, nn.GroupNorm, _MaxPoolNd, _AvgPoolNd, _AdaptiveMaxPoolNd, _AdaptiveAvgPoolNd),
    *(nn.Upsample, nn.LocalResponseNorm, nn.PixelShuffle, nn.PixelUnshuffle),
)


_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm)


_PLACEWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
    *(nn.Hardtanh, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Softplus, _DropoutNd, nn.Identity),
)


Layouts = Mapping[str, Layout]
"""How what layers give lies, by the names of their calls."""
