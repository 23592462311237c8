"""The network of a look, for probes that differentiate it or run it on images of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from lightning_emerge.capture.heads import HEADS
from lightning_emerge.capture.hooks import UNREACHED, first_tensor, hooked, with_first
from lightning_emerge.capture.layers import WHOLE, device_of, dtype_of, find_layers, name_call, owner_of, split_call
from lightning_emerge.capture.layouts import PLAIN, Layout, Layouts, is_placewise
from lightning_emerge.capture.losses import sum_losses
from lightning_emerge.capture.state import looking_at
from lightning_emerge.capture.weights import all_weights
from lightning_emerge.records import ReceptiveField, StimulusBank, Task
from lightning_emerge.records.structures import Structure, call, leaves, move, take


class LiveNetwork:
    """The network of a look, for probes that differentiate it or run it on images of their own.

    Args:
        module: what `open_network` has made ready.
        modules: layer -> module, what `find_layers` finds.
        weights: layer -> what it computes with.
        refused: layer -> why its outputs cannot be looked at.
        layouts: name of a call of a layer -> how what it gives lies.
        bank: the stimuli, which say how the network takes images and what its outputs are.
    """

    def __init__(
        self,
        module: nn.Module,
        modules: Mapping[str, nn.Module],
        weights: Mapping[str, torch.Tensor],
        refused: Mapping[str, str] | None = None,
        layouts: Layouts | None = None,
        bank: StimulusBank | None = None,
    ) -> None:
        self._module, self._modules, self._weights, self._refused = module, modules, weights, refused or {}
        self._layouts, self._bank = layouts or {}, bank

    def __call__(self, inputs: Structure) -> torch.Tensor:
        result = self._run(self._place(inputs))
        return Task().read(result) if self._bank is None else self._bank.read(result)

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        if self._bank is None:
            raise ValueError("The loss is that of stimuli of the bank. Add lightning_emerge.Images() to the needs.")
        inputs = self._place(take(self._bank.inputs, rows))
        result = None if isinstance(self._bank.task.loss, str) else self._run(inputs)
        return sum_losses(self._module, self._bank, rows, inputs, result)

    def _place(self, inputs: Structure) -> Structure:
        """Inputs where the network lies, and as it takes them: a tensor alone may have a name in the bank."""
        bank = self._bank
        if isinstance(inputs, torch.Tensor) and bank is not None and len(leaves(bank.inputs)) == 1:
            inputs = bank.like(inputs)
        return move(inputs, device_of(self._module), dtype_of(self._module))

    def _run(self, inputs: Structure) -> Any:
        return call(self._module, inputs)

    def respond(self, layer: str, inputs: Structure) -> torch.Tensor:
        if not layer:
            return self(inputs)
        name, which = self._call(layer)
        found: list[torch.Tensor] = []
        calls = count(1)

        def stop(_name: str, _module: nn.Module, _given: Any, output: Any) -> None:
            if next(calls) == which:
                found.append(self._layout(layer).take(_tensor_of(layer, output)))
                raise _DeepEnough

        with suppress(_DeepEnough), hooked({layer: self._modules[name]}, stop):
            self._run(self._place(inputs))
        if found:
            return found[0]
        raise ValueError(UNREACHED.format(layer))

    def normalise(self, inputs: Structure, layers: Sequence[str] = ()) -> dict[str, torch.Tensor]:
        calls = {self._call(layer): layer for layer in layers if layer not in self._refused}
        passed: dict[str, int] = {}
        found: dict[str, torch.Tensor] = {}

        def keep(name: str, _module: nn.Module, _given: Any, output: Any) -> None:
            passed[name] = passed.get(name, 0) + 1
            layer, tensor = calls.get((name, passed[name])), first_tensor(output)
            if layer is not None and tensor is not None:
                found[layer] = self._layout(layer).take(tensor).clone()  # a later module may write over it

        norms = {name: part for name, part in self._module.named_modules() if _is_averaging(part)}
        kept = {name: self._modules[name] for name, _ in calls}
        with torch.no_grad(), hooked(norms, _settle), hooked(kept, keep):
            self._run(self._place(inputs))
        return {layer: found[layer] for layer in layers if layer in found}

    def intervene(self, layer: str, change: Callable[[torch.Tensor], torch.Tensor], inputs: Structure) -> torch.Tensor:
        name, which = self._call(layer)
        layout, calls = self._layout(layer), count(1)
        reached: list[bool] = []

        def put(_name: str, _module: nn.Module, _given: Any, output: Any) -> Any:
            if next(calls) != which:
                return None
            tensor = _tensor_of(layer, output)
            before = layout.take(tensor)
            changed = change(before)
            if changed.shape != before.shape:
                raise ValueError(
                    f"What is put in place of a layer's output has its shape; {layer!r} gives {tuple(before.shape)}, "
                    f"got {tuple(changed.shape)}."
                )
            reached.append(True)
            return with_first(output, layout.put(tensor, changed).to(tensor.dtype))

        with hooked({layer: self._modules[name]}, put):
            outputs = self(inputs)
        if not reached:
            raise ValueError(UNREACHED.format(layer))
        return outputs

    def _call(self, layer: str) -> tuple[str, int]:
        """The module of a layer's name, and which call of it is meant."""
        if layer in self._refused:
            raise ValueError(self._refused[layer])
        if layer.endswith(HEADS) and layer not in self._modules:
            raise ValueError(f"A network is run up to layers, and changed there, and not at heads; got {layer!r}.")
        return split_call(layer, self._modules)

    def _layout(self, layer: str) -> Layout:
        return self._layouts.get(layer, PLAIN)

    def parameters(self, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        for layer in layers:
            if layer not in self._weights:
                raise ValueError(WHOLE.format(layer))
        return {layer: self._weights[layer] for layer in layers}

    def receptive_fields(self, layers: Sequence[str], image: torch.Tensor) -> dict[str, ReceptiveField | None]:
        fields: dict[int, ReceptiveField] = {}
        found: dict[str, ReceptiveField | None] = dict.fromkeys(layers)
        calls: dict[str, int] = {}
        kept: list[Any] = []  # so that no other tensor gets the identity of one that was seen

        def follow(name: str, module: nn.Module, given: Any, output: Any) -> None:
            tensors = all(isinstance(one, torch.Tensor) for one in (*given[:1], output))
            if not list(module.children()) and given and tensors:
                if given[0].shape == images.shape and torch.equal(given[0], images):
                    fields[id(given[0])] = whole  # the images as they are, or in another layout of memory
                    kept.append(given[0])
                _follow(module, given[0], output, fields)
            calls[name] = calls.get(name, 0) + 1
            named = name_call(name, calls[name])
            if named in found:
                found[named] = fields.get(id(output))
            kept.append(output)

        inputs = self._place(image[None])
        images = next(iter(leaves(inputs).values()))
        whole = ReceptiveField(1, 1, 0)
        with torch.no_grad(), hooked(self._modules, follow):
            self._run(inputs)
        side = min(image.shape[-2:])
        return {name: one if one and one.size < side else None for name, one in found.items()}


def _is_averaging(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None


def _settle(_name: str, module: Any, given: Any, _output: Any) -> Any:
    """Gives a batch norm the statistics of what it got, and gives what it makes of that then."""
    rows = given[0].float()
    variance, mean = torch.var_mean(rows, dim=[axis for axis in range(rows.dim()) if axis != 1], correction=0)
    module.running_mean.copy_(mean)
    module.running_var.copy_(variance)
    return module.forward(*given)


def _tensor_of(layer: str, output: Any) -> torch.Tensor:
    tensor = first_tensor(output)
    if tensor is None:
        raise ValueError(f"A probe looks at outputs that are tensors; layer {layer!r} gives another thing.")
    return tensor


class _DeepEnough(Exception):  # noqa: N818 - no error: it ends a pass
    """The layer that was asked for has given its output."""


def _follow(module: nn.Module, given: torch.Tensor, output: torch.Tensor, fields: dict[int, ReceptiveField]) -> None:
    """Notes what units of a module's output see, if what those of its input see is known."""
    before = fields.get(id(given))
    if before is None or output.dim() != 4:
        return
    if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        settings = [_square(getattr(module, name, 1)) for name in _GEOMETRY]
        if None not in settings:
            size, stride, padding, dilation = (setting or 0 for setting in settings)
            seen = before.size + (size - 1) * dilation * before.stride
            fields[id(output)] = ReceptiveField(seen, before.stride * stride, before.start - padding * before.stride)
    elif output.shape == given.shape and is_placewise(module):
        fields[id(output)] = before


_GEOMETRY = ("kernel_size", "stride", "padding", "dilation")


def _square(value: Any) -> int | None:
    """A setting that is the same on both axes, as a number."""
    if isinstance(value, tuple):
        return value[0] if len(set(value)) == 1 else None
    return value if isinstance(value, int) else None


@contextmanager
def open_network(
    module: nn.Module,
    layers: Sequence[str],
    refused: Mapping[str, str] | None = None,
    layouts: Layouts | None = None,
    bank: StimulusBank | None = None,
) -> Iterator[LiveNetwork]:
    """Makes a network ready for a probe to run and to differentiate, and puts everything back.

    Args:
        module: the network.
        layers: those with respect to whose weights it may be differentiated, where they hold one, of floating-point
            numbers.
        refused: layer -> why its outputs cannot be looked at.
        layouts: name of a call of a layer -> how what it gives lies.
        bank: the stimuli, if there are any.
    """
    modules = find_layers(module)
    found = {layer: all_weights(modules[owner_of(layer, modules)]) for layer in layers}
    weights = {layer: own[0] for layer, own in found.items() if len(own) == 1 and own[0].differentiable}
    with looking_at(module, list(weights.values())) as tensors, torch.enable_grad():
        yield LiveNetwork(module, modules, dict(zip(weights, tensors, strict=True)), refused, layouts, bank)
