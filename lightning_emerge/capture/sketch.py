"""What one dry pass tells of a network: what it reaches, how often, and how what its modules give lies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lightning_emerge.capture.heads import HEADS
from lightning_emerge.capture.hooks import first_tensor, hooked, rows_of
from lightning_emerge.capture.layers import MOST, default_layers, evenly, find_layers, name_call, split_call
from lightning_emerge.capture.layouts import Layout, Trail
from lightning_emerge.capture.weights import all_weights
from lightning_emerge.records.task import Task


@dataclass
class Sketch:
    """What one dry pass tells of a network.

    Attributes:
        calls: layer -> how often it was called; without those that were not.
        layouts: name of a call -> how what it gives lies, of calls that give a tensor with a row for each stimulus.
    """

    calls: dict[str, int] = field(default_factory=dict[str, int])
    layouts: dict[str, Layout] = field(default_factory=dict[str, Layout])

    def all_calls(self, layers: Sequence[str]) -> tuple[str, ...]:
        """The names of all calls of some layers; those of single calls stay what they are."""
        found = dict[str, None]()
        for name in layers:
            if name.endswith(HEADS):
                found[name] = None
                continue
            layer, call = split_call(name, self.calls)
            single = layer != name or name not in self.calls
            calls = [call] if single else range(1, self.calls[name] + 1)
            found |= dict.fromkeys(name_call(layer, one) for one in calls)
        return tuple(found)

    def order(self, layers: Iterable[str]) -> tuple[str, ...]:
        """Layers, each with all its calls behind it."""
        return tuple(
            name_call(layer, call) for layer in layers for call in range(1, max(1, self.calls.get(layer, 1)) + 1)
        )


@contextmanager
def sketching(module: nn.Module, count: int, task: Task | None = None) -> Iterator[Sketch]:
    """Watches so many stimuli pass the network once.

    Args:
        module: the network.
        count: of the stimuli.
        task: says which positions are taken, and where channels are of which that is given.

    Raises:
        ValueError: if it names layers that there are not.
    """
    sketch, trail = Sketch(), Trail(module, count, task)

    def follow(name: str, part: nn.Module, given: Any, output: Any) -> None:
        trail.follow(name, part, given, output)
        call = name_call(name, trail.calls[name])
        layout, tensor = trail.layouts.get(call), first_tensor(output)
        if layout is not None and tensor is not None and _has_rows(layout, tensor, count):
            sketch.layouts[call] = layout

    with hooked(find_layers(module), follow):
        yield sketch
    sketch.calls |= trail.calls


def _has_rows(layout: Layout, tensor: torch.Tensor, count: int) -> bool:
    try:
        rows_of("", layout.take(tensor), count)
    except ValueError:
        return False
    return True


def reached_layers(module: nn.Module, sketch: Sketch) -> tuple[str, ...]:
    """The layers that probes look at by default, among those that a dry pass reaches: 20 at most.

    These are the network's outermost modules that hold exactly one weight. Where they are not called, what holds them
    is in their place, as attention is. Where there are more than 20, blocks are: containers are opened level by level,
    all of one class together, as long as there are at most 20 layers. What is called several times counts as often. If
    there are still more, they are taken evenly over their order.

    Args:
        module: the network.
        sketch: of the dry pass.
    """
    tree = _Tree(find_layers(module), sketch)
    layers = [end for name in tree.tops for end in tree.ends(name)]
    if len(tree.all_calls(layers)) > MOST:
        layers = tree.blocks()
    return evenly(tree.all_calls(layers))


def unreached_layers(module: nn.Module, sketch: Sketch, layers: Sequence[str]) -> tuple[str, ...]:
    """Of the layers with one weight, those that a dry pass does not reach so that they can be looked at.

    Without those in others that are looked at; where a module is passed by with all that is in it, it alone is named.
    """
    lacking = [
        layer
        for layer in default_layers(module)
        if layer not in sketch.layouts and not any(layer.startswith(f"{own}.") for own in layers)
    ]
    modules, found = find_layers(module), dict[str, None]()
    for layer in lacking:
        ways = layer.split(".")
        above = [".".join(ways[:depth]) for depth in range(1, len(ways))]
        idle = [
            name
            for name in above
            if name in modules and not any(f"{call}.".startswith(f"{name}.") for call in sketch.calls)
        ]
        found[idle[0] if idle else layer] = None
    return tuple(found)


class _Tree:
    """A network's modules by their names."""

    def __init__(self, modules: Mapping[str, nn.Module], sketch: Sketch) -> None:
        self._modules, self._sketch = modules, sketch
        self._weights = {name: len(all_weights(part)) for name, part in modules.items()}
        self._children: dict[str, list[str]] = {name: [] for name in modules}
        self.tops: list[str] = []
        for name in modules:
            before = name.rpartition(".")[0]
            if self._weights[name]:
                self._children.get(before, self.tops).append(name)

    def all_calls(self, layers: Sequence[str]) -> tuple[str, ...]:
        return self._sketch.all_calls(layers)

    def ends(self, name: str) -> list[str]:
        """The innermost layers of a module: those with one weight, or that call no others that have one."""
        given = name in self._sketch.layouts
        if given and self._weights[name] == 1:
            return [name]
        inside = [end for child in self._children[name] for end in self.ends(child)]
        return inside or [name] * given

    def blocks(self) -> list[str]:
        """Layers as far inside as there are at most 20."""
        layers, closed = self._given(self.tops), set[type]()
        while True:
            kinds = sorted({kind: depth for depth, kind in self._containers(layers, closed)}.items(), key=_second)
            if not kinds:
                return layers
            kind, count = kinds[0][0], len(self.all_calls(layers))
            ways = ([inner for name in layers for inner in self._opened(name, kind, far)] for far in (False, True))
            finer = [way for way in ways if count < len(self.all_calls(way)) <= MOST]
            if finer:
                layers = finer[0]
            else:
                closed.add(kind)

    def _containers(self, layers: Sequence[str], closed: set[type]) -> list[tuple[int, type]]:
        """What can be opened, with how deep it lies: the deepest first, so that the shallowest counts."""
        kinds = [(name.count("."), type(self._modules[name])) for name in layers if self.ends(name) != [name]]
        return sorted([one for one in kinds if one[1] not in closed], key=_first, reverse=True)

    def _opened(self, name: str, kind: type, far: bool) -> list[str]:
        """What is in a module of a class; with `far` also in what only wraps another."""
        if type(self._modules[name]) is not kind or self.ends(name) == [name]:
            return [name]
        inside = self._given(self._children[name])
        while far and len(inside) == 1 and self.ends(inside[0]) != inside:
            inside = self._given(self._children[inside[0]])
        return inside

    def _given(self, names: Sequence[str]) -> list[str]:
        """Modules, or what is in them where they are not called, without what is not reached at all."""
        found: list[str] = []
        for name in names:
            found += [name] if name in self._sketch.layouts else self._given(self._children[name])
        return found


def _first(pair: tuple[int, type]) -> int:
    return pair[0]


def _second(pair: tuple[type, int]) -> int:
    return pair[1]
