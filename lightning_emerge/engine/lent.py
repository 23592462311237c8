"""What a probe is lent and may not change: the network, the stimuli, what was captured, the random streams."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lightning_emerge.records import Capture, PastLook
from lightning_emerge.records.structures import leaves

_SEEN = "what was captured of the bank"
"""What rows of stimuli are called: they lie in one piece of memory, which counts what is written anywhere in it."""

_PACKAGE = __name__.partition(".")[0]


class ChangedError(RuntimeError):
    """A probe has changed what others see too."""


def is_foreign(method: Callable[..., Any]) -> bool:
    """Whether a probe's method is not of this package, whose own are tested to change nothing."""
    return method.__module__.partition(".")[0] != _PACKAGE


class Backup:
    """Copies of a network's weights, gradients and buffers, made once, when they are first asked for.

    Args:
        module: the network.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._copies: list[tuple[torch.Tensor, torch.Tensor]] = []

    def take(self) -> None:
        """Makes the copies, unless there are some."""
        if not self._copies:
            gradients = (one.grad for one in self._module.parameters() if one.grad is not None)
            tensors = (*self._module.parameters(), *self._module.buffers(), *gradients)
            self._copies = [(tensor, tensor.detach().clone()) for tensor in tensors]

    def put_back(self) -> None:
        """Writes them where they were taken from: all, as batch norm writes its statistics past a tensor's count."""
        with torch.no_grad():
            for tensor, copy in self._copies:
                tensor.copy_(copy)


@contextmanager
def unchanged(
    module: nn.Module, capture: Capture, backup: Backup | None, *, rows: Collection[str] = (), buffers: bool = True
) -> Iterator[None]:
    """Compares the network and a capture before and after.

    A tensor counts how often it was written to, so this costs no copy; writing past it, as into the memory of
    `tensor.numpy()`, is not seen.

    Args:
        module: the network.
        capture: what a probe is given.
        backup: of the network, to put back what was changed.
        rows: names of what in the capture has a row for each stimulus.
        buffers: whether the network's buffers are compared too: while a probe has the network, `open_network` puts
            those back that its passes write to.

    Raises:
        ChangedError: if anything was changed. The network's modes and gradients are put back, and its weights if there
            is a backup.
    """
    state = dict(_state(module) if buffers else module.named_parameters())
    gradients = [(f"gradient of {name}", one, one.grad) for name, one in module.named_parameters()]
    lent = [*state.items(), *_tensors(capture, rows), *((name, old) for name, _, old in gradients if old is not None)]
    versions = [_version(tensor) for _, tensor in lent]
    modes = [(name, layer, layer.training) for name, layer in module.named_modules()]
    if backup is not None:
        backup.take()
    try:
        yield
    finally:
        now = zip(lent, versions, strict=True)
        changed = list(dict.fromkeys(name for (name, tensor), version in now if _version(tensor) != version))
        turned = [name or type(module).__name__ for name, layer, mode in modes if layer.training != mode]
        changed += [name for name, weight, old in gradients if weight.grad is not old]
        for _, layer, mode in modes:
            layer.training = mode
        for _, weight, old in gradients:
            weight.grad = old
        if changed or turned:
            if backup is not None:
                backup.put_back()
            raise ChangedError(_say(changed, turned, [name for name in changed if name in state and not backup]))


def _say(changed: list[str], turned: list[str], lost: list[str]) -> str:
    what = [*changed, *(f"the mode of {name}" for name in turned)]
    more = f" and {len(what) - 3} more" if len(what) > 3 else ""
    end = f" {lost[0]} and the like stay as it left them." if lost else ""
    return f"a probe changes nothing that it is lent; it changed {', '.join(what[:3])}{more}.{end}"


@contextmanager
def same_streams() -> Iterator[None]:
    """Compares the random streams before and after, and puts them back; nothing else may draw from them meanwhile.

    Raises:
        ChangedError: if any was drawn from or seeded.
    """
    before = _streams()
    try:
        yield
    finally:
        if not _are_same(before, _streams()):
            _restore(before)
            raise ChangedError("a drawing leaves random streams alone; it drew from one, or seeded it.")


def _state(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _tensors(capture: Capture, rows: Collection[str]) -> Iterator[tuple[str, torch.Tensor]]:
    if capture.bank is not None:
        what = "the bank's images" if capture.bank.pictured else "the bank's inputs"
        yield from ((what, tensor) for tensor in leaves(capture.bank.inputs).values())
        yield "the bank's labels", capture.bank.labels
        targets = capture.bank.task.given
        yield from (("the bank's targets", one) for one in ([] if targets is None else leaves(targets).values()))
    for name, value in capture.found.items():
        yield from _inside(_SEEN if name in rows else name, value)


def _inside(what: str, value: Any, layer: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in what a need has found, each with what it is called."""
    if isinstance(value, torch.Tensor):
        yield (f"{what} of {layer}" if layer and what != _SEEN else what), value
    elif isinstance(value, Mapping):
        for key, own in value.items():
            yield from _inside(what, own, str(key))
    elif isinstance(value, list | tuple):
        for own in value:
            yield from _inside(what, own, layer)
    elif is_dataclass(value) and not isinstance(value, type):
        look = f" of the {what} look" if isinstance(value, PastLook) else ""
        for field in fields(value):
            yield from _inside(f"{field.name}{look}", getattr(value, field.name), layer)


def _version(tensor: torch.Tensor) -> int:
    with suppress(RuntimeError):  # tensors of inference mode count nothing
        return tensor._version
    return 0


def _streams() -> list[Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *cuda, np.random.get_state(legacy=True), random.getstate()]  # noqa: NPY002


def _are_same(before: list[Any], after: list[Any]) -> bool:
    if len(before) != len(after):
        return False
    *tensors, numpy, python = zip(before, after, strict=True)
    same = all(torch.equal(old, new) for old, new in tensors)
    return same and python[0] == python[1] and all(map(np.array_equal, *numpy))


def _restore(streams: list[Any]) -> None:
    cpu, *cuda, numpy, python = streams
    torch.set_rng_state(cpu)
    for device, state in enumerate(cuda):
        torch.cuda.set_rng_state(state, device)
    np.random.set_state(numpy)  # noqa: NPY002
    random.setstate(python)
