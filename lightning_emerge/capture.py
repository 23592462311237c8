"""Hooks: a network and the stimulus bank in, activations out. The only place where hooks live."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy, pad, unfold
from torch.nn.modules.loss import _Loss  # pyright: ignore[reportPrivateUsage]
from torchmetrics import Metric, MetricCollection

from lightning_emerge.records import Convolution, ReceptiveField, StimulusBank, as_stored, check_outputs, pool, widest

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


def spaced_convolutions(module: nn.Module, layers: Sequence[str], every: int, count: int) -> tuple[str, ...]:
    """Some of a network's convolutions, in its order: the last and every so many before it.

    In a network without convolutions they are chosen among its layers but the last. In a VGG-16, every third are the
    last of each of its last three stages.

    Args:
        module: the network.
        layers: among which to choose; each holds one weight.
        every: how many to go back.
        count: how many layers, at most.
    """
    named = dict(module.named_parameters())
    weights = weight_names(module, layers)
    convolutions = [layer for layer in layers if named[weights[layer]].dim() > 2] or list(layers[:-1])
    return tuple(reversed(convolutions[::-1][::every][:count]))


def match_layers(module: nn.Module, patterns: Sequence[str] | None) -> tuple[str, ...]:
    """Finds the layers that patterns name, in the network's order.

    Args:
        module: the network, or a LightningModule around it.
        patterns: names with `*`, `?` and `[...]`, none of which crosses a dot: `conv*` finds `conv3_2`, not
            `conv3_2.relu`. What is a layer's whole name finds that layer alone. None stands for `default_layers`.

    Raises:
        ValueError: if a pattern finds nothing; the error lists the names and the nearest.
    """
    if patterns is None:
        return default_layers(module)
    names = list(find_layers(module))
    chosen: set[str] = set()
    for pattern in patterns:
        found = {pattern} & set(names) or {name for name in names if _matches(name, pattern)}
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
        inputs: layer -> float32 tensor (stimulus, in, y, x), what its convolution got.
        gradients: layer -> tensor like its weight. The sum over processes is the gradient of the bank's mean
            cross-entropy.
        token_gradients: layer -> tensor (token, *weight). The sum over processes is the gradient of each token's mean
            cross-entropy.
        squares: layer -> float64 tensor like its weight. The sum over processes is the mean over the bank of each
            stimulus' squared gradient.
        troubles: what of it could not be had, and why: (attribute, layer) -> error. The layer is "" for the outputs,
            and for gradients if there are none of any layer, as where the loss does not fit the outputs.
    """

    outputs: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    activations: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    pooled: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    inputs: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    gradients: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    token_gradients: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    squares: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    troubles: Mapping[tuple[str, str], Exception] = field(default_factory=dict[tuple[str, str], Exception])


class _Troubles(dict[tuple[str, str], Exception]):
    """The first error of each thing that was asked for."""

    @contextmanager
    def of(self, kind: str, layer: str) -> Iterator[None]:
        """Keeps what the block raises."""
        try:
            yield
        except Exception as error:
            self.setdefault((kind, layer), error)


_UNREACHED = (
    "A probe looks at layers that the images pass; {!r} was not reached: it is not called in evaluation mode, or "
    "another module uses its weight without calling it. Name other layers."
)


def run_bank(
    module: nn.Module,
    bank: StimulusBank,
    layers: Sequence[str],
    *,
    pooled: Sequence[str] = (),
    inputs: Sequence[str] = (),
    gradients: Sequence[str] = (),
    token_gradients: Sequence[str] = (),
    squares: Sequence[str] = (),
) -> Pass:
    """Sends this process' share of the bank through the network once.

    The network is in evaluation mode and not compiled meanwhile, without autocasting; each submodule's mode is put back
    and every hook is removed, whatever happens. With several processes, process r takes stimuli r, r + n, r + 2n, ...
    They pass token by token, so that what is seen does not depend on what is asked for.

    Args:
        module: called with images (stimulus, channel, y, x).
        bank: the stimuli.
        layers: names from `find_layers` whose outputs to keep.
        pooled: names of layers whose outputs to keep averaged over places.
        inputs: names of layers to keep of what their convolution gets.
        gradients: names of layers with respect to whose weights to take the gradient of the bank's loss.
        token_gradients: the same for each token's loss.
        squares: the same for the mean square of each stimulus' own gradient.

    What cannot be had costs nothing else: the error is among the `troubles` of the pass, and whatever else was asked
    for is there. Only what stops the network itself is raised.
    """
    rank, world_size = _place()
    images, labels = bank.images[rank::world_size], bank.labels[rank::world_size]
    modules, troubles = find_layers(module), _Troubles()
    backward = _Backward(module, bank, gradients, token_gradients, squares, troubles)
    device, dtype = _device(module), _dtype(module)
    in_place = any(getattr(layer, "inplace", False) for layer in module.modules())
    watched = {layer: modules[layer] for layer in (*layers, *pooled)}
    fed = {layer: find_convolution(module, layer) for layer in inputs}
    kept = dict[tuple[str, str], torch.Tensor]()
    with (
        _looking(module, list(backward.parameters.values())),
        _outputs(watched, copy=in_place) as outputs,
        _inputs(fed, copy=in_place) as given,
        _ends(backward.leaves, copy=in_place) as leaves,
    ):
        for token, chunk in _chunks(labels):
            for seen in (outputs, given, leaves):
                seen.clear()
            result = module(images[chunk].to(device, dtype))
            rows = dict[tuple[str, str], torch.Tensor]()
            with troubles.of("outputs", ""):
                rows["outputs", ""] = _rows("the network", result, len(chunk))
            for kind, wanted, found in (
                ("activations", layers, outputs),
                ("pooled", pooled, outputs),
                ("inputs", inputs, given),
            ):
                for layer in wanted:
                    with troubles.of(kind, layer):
                        own = _rows(_whose(kind, layer), _reached(layer, found), len(chunk))
                        rows[kind, layer] = pool(own) if kind == "pooled" else own
            kept = kept or _room(rows, len(images), device)
            for key, own in rows.items():
                with troubles.of(*key):
                    _put(own, kept[key], chunk, _whose(*key))
            backward.add(result, token, leaves)

    def of(kind: str) -> dict[str, torch.Tensor]:
        return {layer: rows for (own, layer), rows in kept.items() if own == kind and (kind, layer) not in troubles}

    return Pass(
        of("outputs").get("", torch.empty(0)),
        of("activations"),
        of("pooled"),
        of("inputs"),
        backward.found("gradients"),
        backward.found("token_gradients"),
        backward.found("squares"),
        {key: error for key, error in troubles.items() if key != _LOSS},
    )


def first_stimuli(bank: StimulusBank, each: int) -> StimulusBank:
    """The first stimuli of a bank, as many as give each process so many of them, as of one token: they pass at once."""
    count = each * _place()[1]
    return StimulusBank(bank.images[:count], bank.labels[:count] * 0, bank.ids[:count], bank.tokens[:1])


def _chunks(labels: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Positions of stimuli that pass together, each time of one token."""
    if not len(labels):
        yield 0, labels  # a process without stimuli has to know the shapes too
    for token in labels.unique().tolist():
        for chunk in (labels == token).nonzero()[:, 0].split(_CHUNK):
            yield token, chunk


class _Backward:
    """Adds up gradients over chunks, each of one token, from one backward pass a chunk."""

    def __init__(
        self,
        module: nn.Module,
        bank: StimulusBank,
        whole: Sequence[str],
        token: Sequence[str],
        squares: Sequence[str],
        troubles: _Troubles,
    ) -> None:
        self._troubles, self._labels = troubles, bank.labels
        self._moved: dict[str, set[str]] = {"gradients": set(), "token_gradients": set(), "squares": set()}
        self._passed = False
        self.parameters = _parameters(module, tuple(dict.fromkeys((*whole, *token, *squares))))
        self.leaves = {layer: check_leaf(module, layer) for layer in squares}
        self.sizes = torch.bincount(bank.labels, minlength=len(bank.tokens)).tolist()
        self.total = len(bank)
        like = self.parameters
        self.bank = {layer: torch.zeros_like(like[layer]) for layer in whole}
        self.token = {layer: torch.zeros(len(self.sizes), *like[layer].shape).to(like[layer]) for layer in token}
        self.squares = {layer: torch.zeros_like(like[layer], dtype=widest(like[layer])) for layer in squares}
        for sums in self.token.values():
            sums[[number for number, size in enumerate(self.sizes) if not size]] = torch.nan

    def add(self, outputs: Any, token: int, leaves: Mapping[str, tuple[Any, Any]]) -> None:
        if self.parameters and _LOSS not in self._troubles:
            with self._troubles.of(*_LOSS):
                check_outputs(outputs, self._labels)
                self._add(outputs, token, leaves)

    def _add(self, outputs: torch.Tensor, token: int, leaves: Mapping[str, tuple[Any, Any]]) -> None:
        if not len(outputs):
            return
        self._passed = True
        labels = torch.full((len(outputs),), token, device=outputs.device)
        loss = cross_entropy(outputs.float() if outputs.dtype.itemsize < 4 else outputs, labels, reduction="sum")
        reached = [layer for layer in self.leaves if layer in leaves and leaves[layer][1].requires_grad]
        ends = [leaves[layer][1] for layer in reached]
        # Not backward(): that would write into the gradients that training uses, and wake DDP's reducer.
        found = torch.autograd.grad(loss, [*self.parameters.values(), *ends], allow_unused=True)
        own = dict(zip(self.parameters, found, strict=False))
        for layer, gradient in own.items():
            if gradient is None:
                continue
            if layer in self.bank:
                self.bank[layer] += gradient / self.total
            if layer in self.token:
                self.token[layer][token] += gradient / self.sizes[token]
            for kind in ("gradients", "token_gradients"):
                self._moved[kind].add(layer)
        for layer, gradient in zip(reached, found[len(own) :], strict=True):
            with self._troubles.of("squares", layer):
                self._square(layer, leaves[layer][0], gradient)

    def _square(self, layer: str, inputs: torch.Tensor, gradient: torch.Tensor | None) -> None:
        if gradient is not None:
            single = _single_gradients(self.leaves[layer], inputs, gradient)
            self.squares[layer] += single.to(self.squares[layer].dtype).square().sum(dim=0) / self.total
            self._moved["squares"].add(layer)

    def found(self, kind: str) -> dict[str, torch.Tensor]:
        """What came of one kind; once all has passed."""
        loss = self._troubles.get(_LOSS)
        sums = {"gradients": self.bank, "token_gradients": self.token, "squares": self.squares}[kind]
        if loss is not None and sums:
            self._troubles[kind, ""] = loss
            return {}
        for layer in sums:
            if self._passed and layer not in self._moved[kind]:
                self._troubles.setdefault((kind, layer), ValueError(_UNMOVED.format(layer)))
        return {layer: values for layer, values in sums.items() if (kind, layer) not in self._troubles}


_LOSS = ("loss", "")
_UNMOVED = (
    "A probe takes gradients of weights through which the images pass to the loss; those of {!r} are not among them. "
    "Name other layers."
)


def check_leaf(module: nn.Module, layer: str) -> nn.Conv2d | nn.Linear:
    """Finds the convolution or linear map that holds a layer's weight.

    Raises:
        ValueError: if something else holds it, or the convolution has groups or pads with other things than zeros.
    """
    holders = [part for part in find_layers(module)[layer].modules() if _own_weights(part)]
    leaf = holders[0] if len(holders) == 1 else None
    if isinstance(leaf, nn.Linear):
        return leaf
    if isinstance(leaf, nn.Conv2d) and leaf.groups == 1 and leaf.padding_mode == "zeros":
        return leaf
    what = " and ".join(type(part).__name__ for part in holders) or "nothing"
    raise ValueError(
        "Gradients of single stimuli are taken of Linear, and of Conv2d without groups and padded with zeros; "
        f"{layer!r} is {what}. Name other layers."
    )


def is_convolution(module: nn.Module, layer: str, *, grouped: bool) -> bool:
    """Whether what holds a layer's only weight is a convolution of images, with groups only if `grouped`."""
    holders = [part for part in find_layers(module)[layer].modules() if _own_weights(part)]
    leaf = holders[0] if len(holders) == 1 else None
    return isinstance(leaf, nn.Conv2d) and (grouped or leaf.groups == 1)


def find_convolution(module: nn.Module, layer: str) -> nn.Conv2d:
    """Finds the convolution of a layer that is a convolution, and then a batch norm and a ReLU if there are any.

    Raises:
        ValueError: if something else is in the layer or they are registered in another order, the convolution has
            groups or pads with other things than zeros, or the batch norm keeps no running statistics.
    """
    parts = [part for part in find_layers(module)[layer].modules() if not list(part.children())]
    leaves = [part for part in parts if isinstance(part, nn.Conv2d)]
    leaf = leaves[0] if len(leaves) == 1 else None
    active = [part for part in parts if not isinstance(part, nn.Dropout | nn.Dropout2d | nn.Identity)]
    if leaf and leaf.groups == 1 and leaf.padding_mode == "zeros" and _in_order(active):
        return leaf
    raise ValueError(
        "What a convolution gets is taken of layers that are a Conv2d without groups, padded with zeros, and then a "
        "BatchNorm2d with running statistics and a ReLU if there are any, in this order; "
        f"{layer!r} is {' and '.join(map(_describe_part, parts))}. Name other layers."
    )


_ORDER = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU)


def _in_order(parts: Sequence[nn.Module]) -> bool:
    """Whether parts are a convolution, a batch norm and a ReLU, each once at most, and what they do can be told."""
    places = [next((place for place, kind in enumerate(_ORDER) if isinstance(part, kind)), -1) for part in parts]
    told = all(part.running_mean is not None for part in parts if isinstance(part, nn.BatchNorm2d))
    return told and places[0] == 0 and all(a < b for a, b in pairwise(places))


def _describe_part(part: nn.Module) -> str:
    without = isinstance(part, nn.BatchNorm2d) and part.running_mean is None
    return f"{type(part).__name__}{' without running statistics' if without else ''}"


def describe_convolution(module: nn.Module, layer: str) -> Convolution:
    """Says what a layer makes of what it gets, apart from its weight, as it stands in evaluation mode.

    Raises:
        ValueError: as `find_convolution` does.
    """
    leaf = find_convolution(module, layer)
    scale, shift = torch.ones_like(leaf.weight[:, 0, 0, 0]), torch.zeros_like(leaf.weight[:, 0, 0, 0])
    shift = shift if leaf.bias is None else leaf.bias
    parts = list(find_layers(module)[layer].modules())
    for norm in parts:
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            steep = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
            scale, shift = scale * steep, (shift - norm.running_mean) * steep
            shift = shift if norm.bias is None else shift + norm.bias
    (left, right, top, bottom), (stride, dilation) = _padding(leaf), (leaf.stride, leaf.dilation)
    return Convolution(
        (stride[0], stride[1]),
        (dilation[0], dilation[1]),
        (left, right, top, bottom),
        scale.detach().float().clone(),
        shift.detach().float().clone(),
        any(isinstance(part, nn.ReLU) for part in parts),
    )


def _single_gradients(leaf: nn.Module, inputs: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The gradient (stimulus, *weight) of each stimulus, from what a layer got and the gradient of what it gave."""
    inputs = inputs.detach()
    if isinstance(leaf, nn.Conv2d):
        padded = pad(inputs, _padding(leaf))
        patches = unfold(padded, leaf.kernel_size, leaf.dilation, 0, leaf.stride)
        return (gradient.flatten(2) @ patches.transpose(1, 2)).view(len(inputs), *leaf.weight.shape)
    rows, ends = (
        inputs.reshape(len(inputs), -1, inputs.shape[-1]),
        gradient.reshape(len(inputs), -1, gradient.shape[-1]),
    )
    return ends.transpose(1, 2) @ rows


def _padding(leaf: nn.Conv2d) -> list[int]:
    """What a convolution pads: before and after on the last axis, then on the one before it."""
    if not isinstance(leaf.padding, str):
        return [width for width in reversed(leaf.padding) for _ in range(2)]
    same = leaf.padding == "same"
    reach = [step * (size - 1) if same else 0 for step, size in zip(leaf.dilation, leaf.kernel_size, strict=True)]
    return [part for width in reversed(reach) for part in (width // 2, width - width // 2)]


def _room(
    rows: Mapping[tuple[str, str], torch.Tensor], total: int, device: torch.device
) -> dict[tuple[str, str], torch.Tensor]:
    """Makes room for all stimuli: one piece of memory, which the system gets back when it is let go.

    Joining parts in the end would take it twice, and a piece for each layer would leave holes in the heap.
    """
    stored = {name: as_stored(part) for name, part in rows.items()}
    shapes = {name: (total, *part.shape[1:]) for name, part in stored.items()}
    pieces = torch.empty(sum(map(prod, shapes.values())), device=device)
    split = pieces.split([prod(shape) for shape in shapes.values()])
    room = {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), split, strict=True)}
    return {name: piece if stored[name] is rows[name] else piece.movedim(-1, 1) for name, piece in room.items()}


def _put(rows: torch.Tensor, room: torch.Tensor, chunk: torch.Tensor, whose: str) -> None:
    if rows.shape[1:] != room.shape[1:]:
        raise ValueError(
            f"A probe looks at outputs of one shape for all stimuli; {whose} gives {tuple(room.shape[1:])} and "
            f"{tuple(rows.shape[1:])}."
        )
    room[chunk] = rows


def _reached(layer: str, outputs: Mapping[str, tuple[Any, int]]) -> Any:
    """What was seen of a layer."""
    if layer not in outputs:
        raise ValueError(_UNREACHED.format(layer))
    output, version = outputs[layer]
    if getattr(output, "_version", version) != version:
        raise ValueError(f"A probe looks at outputs that are not overwritten; {layer!r}'s is, in place.")
    return output


def _whose(kind: str, layer: str) -> str:
    if not layer:
        return "the network"
    return f"what comes before {layer!r}" if kind == "inputs" else f"layer {layer!r}"


def _parameters(module: nn.Module, layers: Sequence[str]) -> dict[str, nn.Parameter]:
    named = dict(module.named_parameters())
    return {layer: named[name] for layer, name in weight_names(module, layers).items()}


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
    buffers = [(buffer, buffer._version, buffer.clone()) for buffer in module.buffers() if not buffer.is_inference()]
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
        with torch.no_grad():  # some networks count or note things in them, in evaluation mode too
            for buffer, version, before in buffers:
                if buffer._version != version:
                    buffer.copy_(before)


def _eager() -> AbstractContextManager[Any]:
    """Sees to it that compiled modules run as they are written, since compiled ones pass new hooks by."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def _hooked(layers: Mapping[str, nn.Module], hook: Callable[[str, nn.Module, Any, Any], Any]) -> Iterator[None]:
    """Calls a hook with each layer's name after the layer, and removes it whatever happens."""
    handles = [layer.register_forward_hook(partial(hook, name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _outputs(layers: Mapping[str, nn.Module], *, copy: bool) -> Iterator[dict[str, tuple[Any, int]]]:
    """Keeps each layer's output and how often it had been written to; a copy where a module works in place."""
    seen: dict[str, tuple[Any, int]] = {}

    def keep(name: str, _module: nn.Module, _given: Any, output: Any) -> None:
        kept = output.clone() if copy and isinstance(output, torch.Tensor) else output
        seen[name] = kept, getattr(kept, "_version", 0)

    with _hooked(layers, keep):
        yield seen


@contextmanager
def _inputs(layers: Mapping[str, nn.Module], *, copy: bool) -> Iterator[dict[str, tuple[Any, int]]]:
    """Keeps what each layer got, as `_outputs` keeps what it gave."""
    seen: dict[str, tuple[Any, int]] = {}

    def keep(name: str, _module: nn.Module, given: Any, _output: Any) -> None:
        first = given[0] if given else None  # whoever calls by keyword gives none
        kept = first.clone() if copy and isinstance(first, torch.Tensor) else first
        seen[name] = kept, getattr(kept, "_version", 0)

    with _hooked(layers, keep):
        yield seen


@contextmanager
def _ends(layers: Mapping[str, nn.Module], *, copy: bool) -> Iterator[dict[str, tuple[Any, torch.Tensor]]]:
    """Keeps what each layer got and what it gave; what works in place on the latter gets a copy, so as to lead back."""
    seen: dict[str, tuple[Any, torch.Tensor]] = {}

    def keep(name: str, _module: nn.Module, given: Any, output: torch.Tensor) -> torch.Tensor:
        seen[name] = given[0] if given else None, output
        return output.clone() if copy else output

    with _hooked(layers, keep):
        yield seen


class LiveNetwork:
    """The network of a look, for probes that differentiate it or run it on images of their own.

    Args:
        module: what `open_network` has made ready.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self._module(images.to(_device(self._module), _dtype(self._module)))

    def respond(self, layer: str, images: torch.Tensor) -> torch.Tensor:
        if not layer:
            return self(images)
        found: list[torch.Tensor] = []

        def stop(_name: str, _module: nn.Module, _given: Any, output: Any) -> None:
            if not isinstance(output, torch.Tensor):
                raise ValueError(f"A probe looks at outputs that are one tensor; layer {layer!r} gives another thing.")
            found.append(output)
            raise _DeepEnough

        with suppress(_DeepEnough), _hooked({layer: find_layers(self._module)[layer]}, stop):
            self(images)
        if found:
            return found[0]
        raise ValueError(f"A probe looks at layers that the images pass; {layer!r} was not reached.")

    def intervene(
        self, layer: str, change: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
    ) -> torch.Tensor:
        reached: list[bool] = []

        def put(_name: str, _module: nn.Module, _given: Any, output: Any) -> torch.Tensor:
            if not isinstance(output, torch.Tensor):
                raise ValueError(f"A probe changes outputs that are one tensor; layer {layer!r} gives another thing.")
            changed = change(output)
            if changed.shape != output.shape:
                raise ValueError(
                    f"What is put in place of a layer's output has its shape; {layer!r} gives {tuple(output.shape)}, "
                    f"got {tuple(changed.shape)}."
                )
            reached.append(True)
            return changed.to(output.dtype)

        with _hooked({layer: find_layers(self._module)[layer]}, put):
            outputs = self(images)
        if not reached:
            raise ValueError(f"A probe looks at layers that the images pass; {layer!r} was not reached.")
        return outputs

    def parameters(self, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        return dict(_parameters(self._module, layers))

    def receptive_fields(self, layers: Sequence[str], image: torch.Tensor) -> dict[str, ReceptiveField | None]:
        fields: dict[int, ReceptiveField] = {}
        found: dict[str, ReceptiveField | None] = dict.fromkeys(layers)
        kept: list[Any] = []  # so that no other tensor gets the identity of one that was seen

        def follow(name: str, module: nn.Module, given: Any, output: Any) -> None:
            tensors = all(isinstance(one, torch.Tensor) for one in (*given[:1], output))
            if not list(module.children()) and given and tensors:
                if given[0].shape == images.shape and torch.equal(given[0], images):
                    fields[id(given[0])] = whole  # the images as they are, or in another layout of memory
                    kept.append(given[0])
                _follow(module, given[0], output, fields)
            if name in found:
                found[name] = fields.get(id(output))
            kept.append(output)

        images = image[None].to(_device(self._module), _dtype(self._module))
        whole = ReceptiveField(1, 1, 0)
        with torch.no_grad(), _hooked(find_layers(self._module), follow):
            self._module(images)
        side = min(image.shape[-2:])
        return {name: one if one and one.size < side else None for name, one in found.items()}


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
    elif output.shape == given.shape:
        fields[id(output)] = before


_GEOMETRY = ("kernel_size", "stride", "padding", "dilation")


def _square(value: Any) -> int | None:
    """A setting that is the same on both axes, as a number."""
    if isinstance(value, tuple):
        return value[0] if len(set(value)) == 1 else None
    return value if isinstance(value, int) else None


@contextmanager
def open_network(module: nn.Module, layers: Sequence[str]) -> Iterator[LiveNetwork]:
    """Makes a network ready for a probe to run and to differentiate, and puts everything back.

    Args:
        module: the network.
        layers: those with respect to whose weights it may be differentiated, where they hold one.
    """
    modules = find_layers(module)
    weighted = [layer for layer in layers if len(_all_weights(modules[layer])) == 1]
    with _looking(module, list(_parameters(module, weighted).values())), torch.enable_grad():
        yield LiveNetwork(module)


class Firing:
    """Watches in training which channels of rectified layers are ever above zero, until it is closed.

    Args:
        module: the network. Layers of compiled modules cannot be watched, as they pass new hooks by.
        layers: to watch; those without a ReLU are left out.
    """

    def __init__(self, module: nn.Module, layers: Sequence[str]) -> None:
        self.fired: dict[str, torch.Tensor] = {}
        self._unlike: set[str] = set()
        self._module, modules = module, find_layers(module)
        compiled = any(hasattr(part, "_orig_mod") or part._compiled_call_impl for part in module.modules())  # pyright: ignore[reportPrivateUsage]
        rectified = {} if compiled else {layer: modules[layer] for layer in layers if _rectifies(modules[layer])}
        self._watched = tuple(rectified)
        self._hooks = ExitStack()
        self._hooks.enter_context(_hooked(rectified, self._note))

    def _note(self, layer: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if not torch.is_grad_enabled() or not isinstance(output, torch.Tensor):  # validation between two batches
            return
        if output.is_complex() or output.is_nested or layer in self._unlike:
            return
        fired = (output.detach() > 0).any(dim=tuple(k for k in range(output.dim()) if k != 1))
        before = self.fired.get(layer, fired)
        if before.shape == fired.shape:
            self.fired[layer] = before | fired
        else:  # sequences of many lengths: nothing that is raised here may reach training
            self._unlike.add(layer)
            del self.fired[layer]

    def agree(self) -> dict[str, torch.Tensor]:
        """What fired in any process, of the layers that were reached in all. Every process calls it."""
        if _place()[1] == 1 or not self._watched:
            return self.fired
        missing = agree([layer not in self.fired for layer in self._watched], _device(self._module))
        reached = [layer for layer, lacks in zip(self._watched, missing, strict=True) if not lacks]
        counts = {layer: self.fired[layer].int() for layer in reached}
        for fired in counts.values():
            dist.all_reduce(fired, dist.ReduceOp.MAX)
        return {layer: fired.bool() for layer, fired in counts.items()}

    def close(self) -> None:
        """Removes every hook."""
        self._hooks.close()


def _rectifies(layer: nn.Module) -> bool:
    return any(isinstance(part, nn.ReLU | nn.ReLU6) for part in layer.modules())


def _dtype(module: nn.Module) -> torch.dtype:
    return next((parameter.dtype for parameter in module.parameters()), torch.float32)


def _device(module: nn.Module) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def _tensor(whose: str, output: Any) -> torch.Tensor:
    if not isinstance(output, torch.Tensor):
        raise ValueError(f"A probe looks at outputs that are one tensor; {whose} gives a {type(output).__name__}.")
    return output.detach().float()


def _rows(whose: str, output: Any, count: int) -> torch.Tensor:
    """An output with one row for each of so many stimuli."""
    if isinstance(output, torch.Tensor) and (output.is_complex() or output.is_nested or output.is_sparse):
        raise ValueError(f"A probe looks at outputs that are dense and real; {whose} gives others. Name other layers.")
    rows = _tensor(whose, output)
    if not rows.dim() or len(rows) != count:
        raise ValueError(
            f"A probe looks at outputs with one row a stimulus; {whose} gives {tuple(rows.shape)} for {count} stimuli. "
            "Name other layers."
        )
    return rows


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
