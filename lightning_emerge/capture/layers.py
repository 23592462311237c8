"""A network's layers by name, and the weight of each."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.loss import _Loss  # pyright: ignore[reportPrivateUsage]
from torchmetrics import Metric, MetricCollection

from lightning_emerge.capture.heads import HEADS, heads_of
from lightning_emerge.capture.weights import Weight, all_weights, own_weights, parts

_Any = TypeVar("_Any")

MOST = 20
"""Layers that probes look at by default."""


def find_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Names every module that a pattern can pick, in the network's order.

    Names are those of `named_modules` without what all layers with weights begin with: `network.conv3_2` is `conv3_2`
    when all the weights lie under `network`. Losses and metrics are left out, with what is in them, and so is what only
    makes weights of parameters.
    """
    kept = {id(layer) for layer in parts(module)}
    modules = {_plain(name): layer for name, layer in module.named_modules() if id(layer) in kept}
    aside = [name for name, layer in modules.items() if isinstance(layer, _Loss | Metric | MetricCollection)]
    layers = {
        name: layer
        for name, layer in modules.items()
        if name and not any(name == other or name.startswith(f"{other}.") for other in aside)
    }
    prefix = _shared_prefix([name for name, layer in layers.items() if own_weights(layer)])
    return {name.removeprefix(prefix): layer for name, layer in layers.items() if not prefix.startswith(f"{name}.")}


def default_layers(module: nn.Module) -> tuple[str, ...]:
    """The layers of a network: its outermost modules that hold exactly one weight.

    A weight is a parameter with two or more dimensions, or what a normalisation or pruning makes of some, so a
    convolution with its batch norm and its ReLU in a block of their own are one layer, whose output is what the next
    layer gets.
    """
    chosen: list[str] = []
    for name, layer in find_layers(module).items():
        inside = any(name.startswith(f"{outer}.") for outer in chosen)
        if not inside and len(all_weights(layer)) == 1:
            chosen.append(name)
    return tuple(chosen)


def name_call(layer: str, call: int) -> str:
    """The name of a call of a layer: the layer's own for the first, `rec#2` for the second of `rec`."""
    return layer if call == 1 else f"{layer}#{call}"


def split_call(name: str, modules: Container[str]) -> tuple[str, int]:
    """The layer of a name, and which call of it is meant, from 1."""
    layer, mark, call = name.rpartition("#")
    if name in modules or not (mark and call.isdecimal() and int(call) and layer in modules):
        return name, 1
    return layer, int(call)


def owner_of(name: str, modules: Container[str]) -> str:
    """The layer of a name, also where that names a call of it, or its heads."""
    return split_call(name if name in modules else name.removesuffix(HEADS), modules)[0]


def evenly(layers: Sequence[_Any], most: int = MOST) -> tuple[_Any, ...]:
    """So many of some things at most, evenly over their order; the first and the last are among them."""
    if len(layers) <= most:
        return tuple(layers)
    return tuple(layers[round(number * (len(layers) - 1) / (most - 1))] for number in range(most))


def spaced_convolutions(module: nn.Module, layers: Sequence[str], every: int, count: int) -> tuple[str, ...]:
    """Some of a network's convolutions, in its order: the last and every so many before it.

    A block that holds a convolution is one too. In a network with hardly any, they are chosen among its layers but the
    last. In a VGG-16, every third are the last of each of its last three stages.

    Args:
        module: the network.
        layers: among which to choose.
        every: how many to go back.
        count: how many layers, at most.
    """
    modules = find_layers(module)
    owners = {layer: modules[owner_of(layer, modules)] for layer in layers}
    convolutions = [layer for layer, part in owners.items() if any(isinstance(one, _ConvNd) for one in parts(part))]
    if 4 * len(convolutions) < len(layers) - 1 or not convolutions:  # as where a convolution only embeds patches
        convolutions = list(layers[:-1])
    return tuple(reversed(convolutions[::-1][::every][:count]))


def match_layers(module: nn.Module, patterns: Sequence[str] | None) -> tuple[str, ...]:
    """Finds the layers that patterns name, in the network's order.

    Args:
        module: the network, or a LightningModule around it.
        patterns: names with `*`, `?` and `[...]`, none of which crosses a dot: `conv*` finds `conv3_2`, not
            `conv3_2.relu`. What is a layer's whole name finds that layer alone. `rec#2` is the second call of `rec` in
            a pass, `rec` stands for all of them; `attn@heads` are the heads of an attention. None stands for
            `default_layers`.

    Raises:
        ValueError: if a pattern finds nothing; the error lists the names and the nearest.
    """
    if patterns is None:
        return default_layers(module)
    modules = find_layers(module)
    names = list(modules)
    chosen: dict[str, set[str]] = {}
    for pattern in patterns:
        found, end = _find(pattern, names)
        found = {name for name in found if end != HEADS or heads_of(modules[name]) is not None}
        if not found:
            near = get_close_matches(pattern, names, 1, cutoff=0)
            raise ValueError(
                f"A probe's layers are names of layers or patterns; {pattern!r} matches none. "
                f"Did you mean {near[0]!r}? The layers are {', '.join(default_layers(module))}."
                if near
                else f"A probe looks at layers; {type(module).__name__} has none."
            )
        for name in found:
            chosen.setdefault(name, set()).add(f"{name}{end}")
    return tuple(own for name in names for own in sorted(chosen.get(name, ()), key=lambda own: (len(own), own)))


def _find(pattern: str, names: Sequence[str]) -> tuple[set[str], str]:
    """The layers that a pattern names, and what it says behind their names: a call, or that heads are meant."""
    found = {pattern} & {*names} or {name for name in names if _matches(name, pattern)}
    if not found and pattern.endswith(HEADS):
        return _find(pattern.removesuffix(HEADS), names)[0], HEADS
    layer, mark, call = pattern.rpartition("#")
    if found or not (mark and call.isdecimal() and int(call)):
        return found, ""
    return _find(layer, names)[0], f"#{int(call)}"


def find_weights(module: nn.Module, layers: Sequence[str]) -> dict[str, Weight]:
    """Finds the one weight of each layer.

    Raises:
        ValueError: if a layer does not hold exactly one weight (with two or more dimensions).
    """
    return weights_of(module, find_layers(module), layers)


def weights_of(module: nn.Module, modules: Mapping[str, nn.Module], layers: Sequence[str]) -> dict[str, Weight]:
    """What `find_weights` finds, among modules by name."""
    calls = [layer for layer in layers if layer not in modules]
    if calls:
        raise ValueError(
            f"A probe of weights looks at layers, and not at single calls of them or at heads; got {calls[0]!r}."
        )
    weights = {layer: all_weights(modules[layer]) for layer in layers}
    for layer, found in weights.items():
        if len(found) != 1:
            raise ValueError(
                f"A probe of weights looks at layers that hold one weight each; {layer!r} holds {len(found)}. "
                f"The layers are {', '.join(default_layers(module))}."
            )
    return {layer: found[0] for layer, found in weights.items()}


WHOLE = (
    "A probe differentiates with respect to weights that are floating-point numbers; those of {!r} are not. "
    "Name other layers."
)


OTHERS = "Name other layers."


def dtype_of(module: nn.Module) -> torch.dtype:
    """The type of number of a network's weights."""
    return next((parameter.dtype for parameter in module.parameters()), torch.float32)


def device_of(module: nn.Module) -> torch.device:
    """Where a network lies."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def _plain(name: str) -> str:
    """A name as it is without torch.compile, which wraps a module in another."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def _matches(name: str, pattern: str) -> bool:
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _shared_prefix(names: Sequence[str]) -> str:
    """The longest run of dotted names, with its dot, that begins all of them; their own last name never counts."""
    split = [name.split(".")[:-1] for name in names] if len(names) > 1 else []
    shared: list[str] = []
    for level in zip(*split, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return "".join(f"{part}." for part in shared)
