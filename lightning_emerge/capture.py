"""Hooks: a network and the stimulus bank in, activations out. The only place where hooks live."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.loss import _Loss  # pyright: ignore[reportPrivateUsage]
from torchmetrics import Metric, MetricCollection

from lightning_emerge.records import StimulusBank

_CHUNK = 32


def find_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Names every module that a pattern can pick, in the network's order.

    Names are those of `named_modules` without what all layers with weights begin with: `network.conv3_2` is `conv3_2`
    when all the weights lie under `network`. Losses and metrics are left out, with what is in them.
    """
    modules = {_plain(name): layer for name, layer in module.named_modules()}
    aside = [name for name, layer in modules.items() if isinstance(layer, _Loss | Metric | MetricCollection)]
    layers = {
        name: layer
        for name, layer in modules.items()
        if name and not any(name == other or name.startswith(f"{other}.") for other in aside)
    }
    prefix = _shared_prefix([name for name, layer in layers.items() if _own_weights(layer)])
    return {name.removeprefix(prefix): layer for name, layer in layers.items() if not prefix.startswith(f"{name}.")}


def default_layers(module: nn.Module) -> tuple[str, ...]:
    """The layers of a network: its outermost modules that hold exactly one weight.

    A weight is a parameter with two or more dimensions, so a convolution with its batch norm and its ReLU in a block of
    their own are one layer, whose output is what the next layer gets.
    """
    chosen: list[str] = []
    for name, layer in find_layers(module).items():
        inside = any(name.startswith(f"{outer}.") for outer in chosen)
        if not inside and len(_all_weights(layer)) == 1:
            chosen.append(name)
    return tuple(chosen)


def match_layers(module: nn.Module, patterns: Sequence[str] | None) -> tuple[str, ...]:
    """Finds the layers that patterns name, in the network's order.

    Args:
        module: the network, or a LightningModule around it.
        patterns: names with `*`, `?` and `[...]`, none of which crosses a dot: `conv*` finds `conv3_2`, not
            `conv3_2.relu`. None stands for `default_layers`.

    Raises:
        ValueError: if a pattern finds nothing; the error lists the names and the nearest.
    """
    if patterns is None:
        return default_layers(module)
    names = list(find_layers(module))
    chosen: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if _matches(name, pattern)}
        if not found:
            near = get_close_matches(pattern, names, 1, cutoff=0)
            raise ValueError(
                f"A probe's layers are names of layers or patterns; {pattern!r} matches none. "
                f"Did you mean {near[0]!r}? The layers are {', '.join(default_layers(module))}."
                if near
                else f"A probe looks at layers; {type(module).__name__} has none."
            )
        chosen |= found
    return tuple(name for name in names if name in chosen)


def weight_names(module: nn.Module, layers: Sequence[str]) -> dict[str, str]:
    """Maps each layer to the name that `module.named_parameters` gives its weight.

    Raises:
        ValueError: if a layer does not hold exactly one weight (a parameter with two or more dimensions).
    """
    modules = find_layers(module)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    weights = {layer: _all_weights(modules[layer]) for layer in layers}
    for layer, found in weights.items():
        if len(found) != 1:
            raise ValueError(
                f"A probe of weights looks at layers that hold one weight each; {layer!r} holds {len(found)}. "
                f"The layers are {', '.join(default_layers(module))}."
            )
    return {layer: names[id(found[0])] for layer, found in weights.items()}


@dataclass
class Pass:
    """What one pass of this process' share of the bank leaves.

    Attributes:
        outputs: float32 tensor (stimulus, ...), what the module returned.
        activations: layer -> float32 tensor (stimulus, ...), its output.
        pooled: layer -> float32 tensor (stimulus, channel), its output's mean over all further axes.
        gradients: layer -> tensor like its weight. The sum over processes is the gradient of the bank's mean
            cross-entropy.
    """

    outputs: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    activations: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    pooled: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    gradients: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])


def run_bank(
    module: nn.Module,
    bank: StimulusBank,
    layers: Sequence[str],
    *,
    pooled: Sequence[str] = (),
    gradients: Sequence[str] = (),
) -> Pass:
    """Sends this process' share of the bank through the network once.

    The network is in evaluation mode and not compiled meanwhile, without autocasting; each submodule's mode is put back
    and every hook is removed, whatever happens. With several processes, process r takes stimuli r, r + n, r + 2n, ...

    Args:
        module: called with images (stimulus, channel, y, x).
        bank: the stimuli.
        layers: names from `find_layers` whose outputs to keep.
        pooled: names of layers whose outputs to keep averaged over places.
        gradients: names of layers with respect to whose weights to take the gradient of the bank's loss.

    Raises:
        ValueError: if a layer is not reached, or gives something else than one tensor.
    """
    rank, world_size = _place()
    images, labels = bank.images[rank::world_size], bank.labels[rank::world_size]
    modules = find_layers(module)
    parameters = _parameters(module, gradients)
    device, dtype = _device(module), next((p.dtype for p in module.parameters()), torch.float32)
    in_place = any(getattr(layer, "inplace", False) for layer in module.modules())
    watched = {layer: modules[layer] for layer in (*layers, *pooled)}
    sums = {layer: torch.zeros_like(weight) for layer, weight in parameters.items()}
    start, kept = 0, dict[str, torch.Tensor]()
    with _looking(module, list(parameters.values())), _hooks(watched, copy=in_place) as outputs:
        for chunk, answer in zip(images.split(_CHUNK), labels.split(_CHUNK), strict=True):
            outputs.clear()
            result = module(chunk.to(device, dtype))
            answers = _tensor("the network", result)
            _check_reached(watched, outputs)
            found = {layer: _tensor(f"layer {layer!r}", outputs[layer][0]) for layer in watched}
            rows = {"": answers, **{f"whole {layer}": found[layer] for layer in layers}}
            rows |= {f"pooled {layer}": _pool(found[layer]) for layer in pooled}
            kept = kept or _room(rows, len(images))
            for name, own in rows.items():
                kept[name][start : start + len(own)] = own
            if parameters:
                _add_gradients(sums, parameters, result, answer.to(device), len(bank))
            start += len(chunk)
    whole = {layer: kept[f"whole {layer}"] for layer in layers}
    return Pass(kept[""], whole, {layer: kept[f"pooled {layer}"] for layer in pooled}, sums)


def _room(rows: Mapping[str, torch.Tensor], total: int) -> dict[str, torch.Tensor]:
    """Makes room for all stimuli: one piece of memory, which the system gets back when it is let go.

    Joining parts in the end would take it twice, and a piece for each layer would leave holes in the heap.
    """
    shapes = {name: (total, *part.shape[1:]) for name, part in rows.items()}
    pieces = torch.empty(sum(map(prod, shapes.values())), device=next(iter(rows.values())).device)
    split = pieces.split([prod(shape) for shape in shapes.values()])
    return {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), split, strict=True)}


def _check_reached(watched: Mapping[str, nn.Module], outputs: Mapping[str, tuple[Any, int]]) -> None:
    for layer in watched:
        if layer not in outputs:
            raise ValueError(f"A probe looks at layers that the images pass; {layer!r} was not reached.")
        output, version = outputs[layer]
        if getattr(output, "_version", version) != version:
            raise ValueError(f"A probe looks at outputs that are not overwritten; {layer!r}'s is, in place.")


def _pool(rows: torch.Tensor) -> torch.Tensor:
    return rows.flatten(2).mean(dim=2) if rows.dim() > 2 else rows


def _parameters(module: nn.Module, layers: Sequence[str]) -> dict[str, nn.Parameter]:
    named = dict(module.named_parameters())
    return {layer: named[name] for layer, name in weight_names(module, layers).items()}


def _add_gradients(
    sums: dict[str, torch.Tensor],
    parameters: Mapping[str, nn.Parameter],
    outputs: torch.Tensor,
    labels: torch.Tensor,
    total: int,
) -> None:
    loss = cross_entropy(outputs.float(), labels, reduction="sum") / total
    # Not backward(): that would write into the gradients that training uses, and wake DDP's reducer.
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    for layer, gradient in zip(parameters, found, strict=True):
        if gradient is not None:
            sums[layer] += gradient


def add_up(share: torch.Tensor) -> torch.Tensor | None:
    """Adds the tensors of all processes. Every process calls it.

    Returns:
        The sum on process zero, None on the others.
    """
    rank, world_size = _place()
    if world_size > 1:
        dist.reduce(share, 0)
    return share if rank == 0 else None


def gather(rows: torch.Tensor, total: int) -> torch.Tensor | None:
    """Puts the shares of all processes together in the bank's order. Every process calls it.

    Args:
        rows: (share, ...) this process' rows, as `run_bank` dealt them out.
        total: stimuli of the whole bank.

    Returns:
        (total, ...) on process zero, None on the others.
    """
    rank, world_size = _place()
    if world_size == 1:
        return rows
    padded = rows.new_zeros((-(-total // world_size), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(world_size)] if rank == 0 else None
    dist.gather(padded, parts)
    if parts is None:
        return None
    return torch.stack(parts, dim=1).flatten(0, 1)[:total]


def agree(failed: Sequence[bool], device: torch.device) -> list[bool]:
    """Tells every process what failed on any of them. Every process calls it."""
    if _place()[1] == 1:
        return list(failed)
    flags = torch.tensor(failed, dtype=torch.int32, device=device)
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return [bool(flag) for flag in flags.tolist()]


def is_process_zero() -> bool:
    """Whether this is the process that measures and writes."""
    return _place()[0] == 0


def _place() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@contextmanager
def _looking(module: nn.Module, weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Makes a module ready to be looked at, with gradients of some weights, and puts everything back."""
    modes = {layer: layer.training for layer in module.modules()}
    frozen = [weight for weight in weights if not weight.requires_grad]
    try:
        module.eval()
        for weight in frozen:
            weight.requires_grad_(True)
        with torch.set_grad_enabled(bool(weights)), torch.autocast(_device(module).type, enabled=False), _eager():
            yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)
        for layer, mode in modes.items():
            layer.training = mode


def _eager() -> AbstractContextManager[Any]:
    """Sees to it that compiled modules run as they are written, since compiled ones pass new hooks by."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def _hooks(layers: Mapping[str, nn.Module], *, copy: bool) -> Iterator[dict[str, tuple[Any, int]]]:
    """Keeps each layer's output and how often it had been written to; a copy where a module works in place."""
    seen: dict[str, tuple[Any, int]] = {}

    def keep(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        kept = output.clone() if copy and isinstance(output, torch.Tensor) else output
        seen[name] = kept, getattr(kept, "_version", 0)

    handles = [layer.register_forward_hook(partial(keep, name)) for name, layer in layers.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _device(module: nn.Module) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def _tensor(whose: str, output: Any) -> torch.Tensor:
    if not isinstance(output, torch.Tensor):
        raise ValueError(f"A probe looks at outputs that are one tensor; {whose} gives a {type(output).__name__}.")
    return output.detach().float()


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


def _own_weights(layer: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in layer.parameters(recurse=False) if parameter.dim() >= 2]


def _all_weights(layer: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in layer.parameters() if parameter.dim() >= 2]
