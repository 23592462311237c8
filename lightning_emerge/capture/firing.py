"""Which channels fire while a network trains."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]

from lightning_emerge.capture.hooks import hooked
from lightning_emerge.capture.layers import device_of, find_layers
from lightning_emerge.capture.processes import agree, place
from lightning_emerge.capture.state import LOOKS
from lightning_emerge.capture.weights import own_weights, parts


class Firing:
    """Watches in training which channels of layers are ever above zero behind their ReLU, until it is closed.

    A layer's ReLU is the first nn.ReLU or nn.ReLU6 that gets what its convolution or linear map gave, through batch
    norms and sums with other branches or straight: in a residual network, that behind the sum.

    Args:
        module: the network. Layers of compiled modules cannot be watched, as they pass new hooks by.
        layers: to watch; those without such a ReLU are left out, once they have been called.
    """

    def __init__(self, module: nn.Module, layers: Sequence[str]) -> None:
        self.fired: dict[str, torch.Tensor] = {}
        self._module, modules = module, find_layers(module)
        compiled = any(hasattr(part, "_orig_mod") or part._compiled_call_impl for part in module.modules())  # pyright: ignore[reportPrivateUsage]
        found = {} if compiled else {layer: _map_of(modules[layer]) for layer in layers}
        maps = {layer: part for layer, part in found.items() if part is not None}
        passed = {str(number): part for number, part in enumerate(parts(module)) if maps and isinstance(part, _PASSING)}
        self._watched = tuple(maps)
        self._waiting: list[_Waiting] = []
        self._hooks = ExitStack()
        self._hooks.enter_context(hooked(maps, self._begin))
        self._hooks.enter_context(hooked(passed, self._pass))

    def _begin(self, layer: str, part: nn.Module, _given: Any, output: Any) -> None:
        trains = torch.is_grad_enabled() and not LOOKS.get()  # else it is validation, or a look, between two batches
        if trains and isinstance(output, torch.Tensor):
            axis = -1 if isinstance(part, nn.Linear) else 1
            self._waiting.append(_Waiting(layer, output.shape, axis % output.dim(), [_way(output)]))

    def _pass(self, _name: str, part: nn.Module, given: Any, output: Any) -> None:
        """Follows what layers gave through a module."""
        if not given or not isinstance(output, torch.Tensor):
            return
        here = [one for one in self._waiting if one.shape == output.shape]
        before = [given[0], *_led_here(output.grad_fn)] if here else []
        here = [one for one in here if any(way is other for way in one.ways for other in before)]
        if not isinstance(part, nn.ReLU | nn.ReLU6):
            for one in here:
                one.ways.append(_way(output))
            return
        self._waiting = [one for one in self._waiting if one not in here]
        for layer, _, axis, _ in here:
            fired = (output.detach() > 0).any(dim=tuple(k for k in range(output.dim()) if k != axis))
            self.fired[layer] = self.fired[layer] | fired if layer in self.fired else fired

    def agree(self) -> dict[str, torch.Tensor]:
        """What fired in any process, of the layers that were reached in all. Every process calls it."""
        if place()[1] == 1 or not self._watched:
            return self.fired
        missing = agree([layer not in self.fired for layer in self._watched], device_of(self._module))
        reached = [layer for layer, lacks in zip(self._watched, missing, strict=True) if not lacks]
        counts = {layer: self.fired[layer].int() for layer in reached}
        for fired in counts.values():
            dist.all_reduce(fired, dist.ReduceOp.MAX)
        return {layer: fired.bool() for layer, fired in counts.items()}

    def close(self) -> None:
        """Removes every hook, and lets go of what was followed."""
        self._hooks.close()
        self._waiting.clear()


_PASSING = (nn.ReLU, nn.ReLU6, _NormBase, _DropoutNd, nn.Identity)
"""What keeps channels apart: behind it a layer's channels are still its own."""


_CARRYING = (
    *("AddBackward", "MulBackward", "NativeDropoutBackward", "ToCopyBackward", "CloneBackward", "AliasBackward"),
    *("NativeBatchNormBackward", "CudnnBatchNormBackward", "MiopenBatchNormBackward", "NativeGroupNormBackward"),
)
"""Steps of the graph of gradients that do so."""


class _Waiting(NamedTuple):
    """A call of a layer whose ReLU has not come yet: its output's shape, the axis of its channels, what leads on."""

    layer: str
    shape: torch.Size
    axis: int
    ways: list[Any]


def _way(output: torch.Tensor) -> Any:
    """What a tensor is known by: its step in the graph of gradients, or itself where it has none, as if frozen."""
    return output if output.grad_fn is None else output.grad_fn


def _map_of(layer: nn.Module) -> nn.Module | None:
    """The convolution or linear map of a layer, if it holds one weight."""
    holders = [part for part in parts(layer) if own_weights(part)]
    return holders[0] if len(holders) == 1 and isinstance(holders[0], _ConvNd | nn.Linear) else None


def _led_here(node: Any) -> list[Any]:
    """The steps of the graph of gradients whose outcome a step got, as it was or with others added to it."""
    found: list[Any] = []
    waiting = [] if node is None else [before for before, _ in node.next_functions]
    while waiting:
        step = waiting.pop()
        if step is None or any(step is known for known in found):
            continue
        found.append(step)
        if step.name().startswith(_CARRYING):
            waiting += [before for before, _ in step.next_functions]
    return found
