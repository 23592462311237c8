"""What is kept of the calls of modules, by hooks that are removed whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy as copy_of
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from lightning_emerge.capture.weights import Weight

UNREACHED = (
    "A probe looks at layers that the images pass; {!r} was not reached: it is not called in evaluation mode, or "
    "another module uses its weight without calling it. Name other layers."
)


_ASIDE = ContextVar("_ASIDE", default=False)


@contextmanager
def passing_aside() -> Iterator[None]:
    """Has hooks pass over what passes meanwhile, but for those that watch it too."""
    token = _ASIDE.set(True)
    try:
        yield
    finally:
        _ASIDE.reset(token)


@contextmanager
def hooked(
    layers: Mapping[str, nn.Module], hook: Callable[..., Any], *, aside: bool = False, named: bool = False
) -> Iterator[None]:
    """Calls a hook with each layer's name after the layer, and removes it whatever happens.

    Args:
        layers: to be hooked.
        hook: gets the name, the layer, what it got and what it gave.
        aside: whether it is called of what passes aside too.
        named: whether it gets what the layer got by name too, before what it gave.
    """

    def watch(name: str, *call: Any) -> Any:
        return hook(name, *call) if aside or not _ASIDE.get() else None

    handles = [layer.register_forward_hook(partial(watch, name), with_kwargs=named) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(output: Any) -> torch.Tensor | None:
    """The first tensor in what a module gives or gets: itself, or one in a tuple, list or mapping; None without any."""
    if isinstance(output, torch.Tensor):
        return output
    found = (first_tensor(part) for part in _values(output))
    return next((tensor for tensor in found if tensor is not None), None)


def with_first(output: Any, tensor: torch.Tensor) -> Any:
    """What a module gives with another tensor in the place of the first."""
    if isinstance(output, torch.Tensor):
        return tensor
    if isinstance(output, Mapping):
        changed: Any = copy_of(cast("Mapping[Any, Any]", output))
        key = next(key for key, part in changed.items() if first_tensor(part) is not None)
        changed[key] = with_first(changed[key], tensor)
        return changed
    rows = list(cast("Sequence[Any]", output))
    number = next(number for number, part in enumerate(rows) if first_tensor(part) is not None)
    rows[number] = with_first(rows[number], tensor)
    return type(output)(*rows) if hasattr(output, "_fields") else type(output)(rows)


def _values(output: Any) -> Sequence[Any]:
    if isinstance(output, Mapping):
        return list(cast("Mapping[Any, Any]", output).values())
    return cast("Sequence[Any]", output) if isinstance(output, tuple | list) else ()


@dataclass
class Seen:
    """What a layer gave or got, how often that had been written to, and how often the layer was called so far."""

    tensor: Any
    version: int
    calls: int


class Output(NamedTuple):
    """What is looked at of a module.

    Attributes:
        part: the module.
        call: which of its calls, from 1.
        read: makes what is looked at of what it got, by place and by name, and of what it gave; None gives the latter.
    """

    part: nn.Module
    call: int
    read: Callable[[Sequence[Any], Mapping[str, Any], Any], torch.Tensor] | None = None


@contextmanager
def watch_outputs(layers: Mapping[str, Output], *, copy: bool) -> Iterator[dict[str, Seen]]:
    """Keeps what each layer gives at its call, the first tensor of several; a copy where a module works in place."""
    seen: dict[str, Seen] = {}

    def keep(name: str, _module: nn.Module, given: Any, named: Mapping[str, Any], output: Any) -> None:
        calls, read = (seen[name].calls + 1 if name in seen else 1), layers[name].read
        if calls == layers[name].call:
            output = output if read is None else _try_read(read, given, named, output)
            tensor = first_tensor(output)
            _keep(seen, name, output if tensor is None else tensor, copy=copy)
        else:
            seen[name] = Seen(seen[name].tensor, seen[name].version, calls) if name in seen else Seen(None, 0, calls)

    with hooked({name: own.part for name, own in layers.items()}, keep, named=True):
        yield seen


def _try_read(read: Callable[..., torch.Tensor], *call: Any) -> Any:
    """What is read of a call; its error in the place of it, which stops no network."""
    try:
        return read(*call)
    except Exception as error:
        return error


@contextmanager
def watch_inputs(layers: Mapping[str, nn.Module], *, copy: bool) -> Iterator[dict[str, Seen]]:
    """Keeps what each layer got, as `watch_outputs` keeps what it gave."""
    seen: dict[str, Seen] = {}

    def keep(name: str, _module: nn.Module, given: Any, _output: Any) -> None:
        _keep(seen, name, given[0] if given else None, copy=copy)  # whoever calls by keyword gives none

    with hooked(layers, keep):
        yield seen


def _keep(seen: dict[str, Seen], name: str, value: Any, *, copy: bool) -> None:
    kept = value.clone() if copy and isinstance(value, torch.Tensor) else value
    calls = seen[name].calls + 1 if name in seen else 1
    seen[name] = Seen(kept, getattr(kept, "_version", 0), calls)


class Call(NamedTuple):
    """One call of a linear map or convolution: what it got, and what it gave."""

    leaf: nn.Module
    given: Any
    output: torch.Tensor


@contextmanager
def watch_calls(leaves: Mapping[str, nn.Module], *, copy: bool) -> Iterator[dict[str, list[Call]]]:
    """Keeps each call of some leaves; what works in place on what they gave gets a copy, so as to lead back."""
    seen: dict[str, list[Call]] = {}

    def keep(name: str, leaf: nn.Module, given: Any, output: torch.Tensor) -> torch.Tensor:
        seen.setdefault(name, []).append(Call(leaf, given[0] if given else None, output))
        return output.clone() if copy else output

    with hooked(leaves, keep, aside=True):
        yield seen


class Map(NamedTuple):
    """The last call of a linear map, with how often what it got and gave had been written to."""

    given: Any
    output: Any
    versions: tuple[int, ...]


def _versions(*tensors: Any) -> tuple[int, ...]:
    return tuple(getattr(tensor, "_version", 0) for tensor in tensors)


@contextmanager
def watch_maps(maps: Mapping[str, nn.Module]) -> Iterator[dict[str, Map]]:
    """Keeps the last call of each linear map."""
    seen: dict[str, Map] = {}

    def keep(name: str, _map: nn.Module, given: Any, output: Any) -> None:
        first = given[0] if given else None
        seen.pop(name, None)  # so that they stay in the order of their calls
        seen[name] = Map(first, output, (*_versions(first), *_versions(output)))

    with hooked(maps, keep):
        yield seen


def find_last(seen: Mapping[str, Map], result: torch.Tensor) -> str | None:
    """The linear map of stimuli whose output a network returned, as it is or in another type of number."""
    for name, (given, output, versions) in reversed(list(seen.items())):
        same = output is result or (output.shape == result.shape and torch.equal(output.to(result), result))
        if same and given is not None and given.dim() == 2 and versions == _versions(given, output):
            return name
    return None


def readout_of(last: nn.Module) -> torch.Tensor:
    """A copy of a linear map's weight."""
    return Weight(last, "weight").read().clone()


def tensor_of(whose: str, output: Any) -> torch.Tensor:
    """An output as float32, without a gradient."""
    if not isinstance(output, torch.Tensor):
        raise ValueError(f"A probe looks at outputs that are one tensor; {whose} gives a {type(output).__name__}.")
    return output.detach().float()


def rows_of(whose: str, output: Any, count: int) -> torch.Tensor:
    """An output with one row for each of so many stimuli."""
    if isinstance(output, torch.Tensor) and (output.is_complex() or output.is_nested or output.is_sparse):
        raise ValueError(f"A probe looks at outputs that are dense and real; {whose} gives others. Name other layers.")
    rows = tensor_of(whose, output)
    if not rows.dim() or len(rows) != count:
        raise ValueError(
            f"A probe looks at outputs with a row for each stimulus; {whose} gives {tuple(rows.shape)} for {count} "
            "stimuli. Name other layers."
        )
    return rows


def reached_call(layer: str, seen: Mapping[str, Seen], call: int) -> Any:
    """What a layer gave at a call."""
    if layer in seen and seen[layer].calls < call:
        raise ValueError(
            f"A probe looks at calls of layers that there are in each pass; {layer!r} is not among the "
            f"{seen[layer].calls} of its layer. Name others."
        )
    return _unchanged(layer, seen)


def reached(layer: str, seen: Mapping[str, Seen]) -> Any:
    """What was seen of a layer that is called once."""
    if layer in seen and seen[layer].calls > 1:
        raise ValueError(
            f"A probe looks at layers that are called once a pass; {layer!r} is called {seen[layer].calls} times."
        )
    return _unchanged(layer, seen)


def _unchanged(layer: str, seen: Mapping[str, Seen]) -> Any:
    if layer not in seen:
        raise ValueError(UNREACHED.format(layer))
    own = seen[layer]
    if isinstance(own.tensor, Exception):
        raise own.tensor
    if getattr(own.tensor, "_version", own.version) != own.version:
        raise ValueError(f"A probe looks at outputs that are not overwritten; {layer!r}'s is, in place.")
    return own.tensor
