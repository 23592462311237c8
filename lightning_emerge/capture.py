"""Hooks: a network and the stimulus bank in, activations out. The only place where hooks live."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple, TypeGuard, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, pad, unfold
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.loss import _Loss  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.pooling import (
    _AdaptiveAvgPoolNd,  # pyright: ignore[reportPrivateUsage]
    _AdaptiveMaxPoolNd,  # pyright: ignore[reportPrivateUsage]
    _AvgPoolNd,  # pyright: ignore[reportPrivateUsage]
    _MaxPoolNd,  # pyright: ignore[reportPrivateUsage]
)
from torch.nn.utils.parametrize import is_parametrized
from torchmetrics import Metric, MetricCollection

from lightning_emerge.records import Convolution, ReceptiveField, StimulusBank, as_stored, check_outputs, pool, widest
from lightning_emerge.weights import Weight, all_weights, held, own_weights, parts

_CHUNK = 32
_Found = TypeVar("_Found")


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
    weights = find_weights(module, layers)
    convolutions = [layer for layer in layers if weights[layer].dim > 2] or list(layers[:-1])
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


def find_weights(module: nn.Module, layers: Sequence[str]) -> dict[str, Weight]:
    """Finds the one weight of each layer.

    Raises:
        ValueError: if a layer does not hold exactly one weight (with two or more dimensions).
    """
    return _weights(module, find_layers(module), layers)


def _weights(module: nn.Module, modules: Mapping[str, nn.Module], layers: Sequence[str]) -> dict[str, Weight]:
    weights = {layer: all_weights(modules[layer]) for layer in layers}
    for layer, found in weights.items():
        if len(found) != 1:
            raise ValueError(
                f"A probe of weights looks at layers that hold one weight each; {layer!r} holds {len(found)}. "
                f"The layers are {', '.join(default_layers(module))}."
            )
    return {layer: found[0] for layer, found in weights.items()}


@dataclass
class Pass:
    """What one pass of this process' share of the bank leaves.

    Attributes:
        outputs: float32 tensor (stimulus, ...), what the module returned.
        activations: layer -> float32 tensor (stimulus, ...), its output.
        pooled: layer -> float32 tensor (stimulus, channel), its output's mean over all further axes.
        inputs: layer -> float32 tensor (stimulus, in, y, x), what its convolution got.
        gradients: layer -> tensor (out, in, ...) like its weight. The sum over processes is the gradient of the bank's
            mean cross-entropy.
        token_gradients: layer -> tensor (token, *weight). The sum over processes is the gradient of each token's mean
            cross-entropy.
        squares: layer -> float64 tensor like its weight. The sum over processes is the mean over the bank of each
            stimulus' squared gradient.
        features: float32 tensor (stimulus, feature), what the linear map got whose output the network returned; None if
            it returns something else.
        readout: that map's weight (token, feature), or None.
        troubles: what of it could not be had, and why: (attribute, layer) -> error. The layer is "" for the outputs,
            and for gradients if there are none of any layer, as where the loss does not fit the outputs.
        unmoved: zeros, where no stimulus of this process' share had a part in a gradient: another's may. They are among
            the troubles if it had any stimuli.
    """

    outputs: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    activations: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    pooled: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    inputs: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    gradients: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    token_gradients: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    squares: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    features: torch.Tensor | None = None
    readout: torch.Tensor | None = None
    troubles: Mapping[tuple[str, str], Exception] = field(default_factory=dict[tuple[str, str], Exception])
    unmoved: Mapping[tuple[str, str], torch.Tensor] = field(default_factory=dict[tuple[str, str], torch.Tensor])


class _Troubles(dict[tuple[str, str], Exception]):
    """The first error of each thing that was asked for."""

    @contextmanager
    def of(self, kind: str, layer: str) -> Iterator[None]:
        """Keeps what the block raises."""
        try:
            yield
        except Exception as error:
            self.setdefault((kind, layer), error)

    def each(self, kind: str, layers: Sequence[str], find: Callable[[str], _Found]) -> dict[str, _Found]:
        """Finds something of each layer that has it."""
        found = dict[str, _Found]()
        for layer in layers:
            with self.of(kind, layer):
                found[layer] = find(layer)
        return found


_WHOLE = (
    "A probe differentiates with respect to weights that are floating-point numbers; those of {!r} are not. "
    "Name other layers."
)


def _differentiable(weights: Mapping[str, Weight], layer: str) -> Weight:
    """A layer's weight.

    Raises:
        ValueError: if it is made of whole numbers.
    """
    if not weights[layer].differentiable:
        raise ValueError(_WHOLE.format(layer))
    return weights[layer]


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
    features: bool = False,
    shared: bool = True,
) -> Pass:
    """Sends this process' share of the bank through the network once.

    The network is in evaluation mode and not compiled meanwhile, without autocasting or fused attention; each
    submodule's mode and buffers are put back and every hook is removed, whatever happens. With several processes,
    process r takes stimuli r, r + n, r + 2n, ... They pass token by token, so that what is seen does not depend on what
    is asked for.

    Args:
        module: called with images (stimulus, channel, y, x).
        bank: the stimuli.
        layers: names from `find_layers` whose outputs to keep.
        pooled: names of layers whose outputs to keep averaged over places.
        inputs: names of layers to keep of what their convolution gets.
        gradients: names of layers with respect to whose weights to take the gradient of the bank's loss.
        token_gradients: the same for each token's loss.
        squares: the same for the mean square of each stimulus' own gradient.
        features: whether to keep what the network's last linear map gets.
        shared: whether processes share the bank, or each passes all of it.

    What cannot be had costs nothing else: the error is among the `troubles` of the pass, and whatever else was asked
    for is there. Only what stops the network itself is raised.

    Raises:
        ValueError: if a layer of whose weight a gradient is asked does not hold one weight.
    """
    rank, world_size = _place() if shared else (0, 1)
    images, labels = bank.images[rank::world_size], bank.labels[rank::world_size]
    modules, learned = find_layers(module), tuple(dict.fromkeys((*gradients, *token_gradients, *squares)))
    device, dtype, weights = _device(module), _dtype(module), _weights(module, modules, learned)
    in_place, troubles = any(getattr(layer, "inplace", False) for layer in module.modules()), _Troubles()
    gradients, token_gradients, squares = (
        tuple(troubles.each(kind, asked, partial(_differentiable, weights)))
        for kind, asked in (("gradients", gradients), ("token_gradients", token_gradients), ("squares", squares))
    )
    weights = {layer: weight for layer, weight in weights.items() if weight.differentiable}
    watched = {layer: modules[layer] for layer in (*layers, *pooled)}
    fed = troubles.each("inputs", inputs, lambda layer: _convolution(layer, modules[layer]))
    users = _users(module) if squares else []
    leaves = troubles.each("squares", squares, lambda layer: _leaves(layer, modules[layer], users))
    ends = {str(id(leaf)): leaf for each in leaves.values() for leaf in each}
    maps = {str(number): part for number, part in enumerate(parts(module)) if features and isinstance(part, nn.Linear)}
    kept, last = dict[tuple[str, str], torch.Tensor](), None
    with (
        _looking(module, list(weights.values())) as tensors,
        _outputs(watched, copy=in_place) as outputs,
        _inputs(fed, copy=in_place) as given,
        _ends(ends, copy=in_place) as calls,
        _maps(maps) as mapped,
    ):
        used = dict(zip(weights, tensors, strict=True))
        backward = _Backward(used, leaves, bank, gradients, token_gradients, squares, troubles)
        for token, chunk in _chunks(labels):
            for seen in (outputs, given, calls, mapped):
                seen.clear()
            result = module(images[chunk].to(device, dtype))
            rows = dict[tuple[str, str], torch.Tensor]()
            with troubles.of("outputs", ""):
                rows["outputs", ""] = _rows("the network", result, len(chunk))
            kinds = {"activations": (layers, outputs), "pooled": (pooled, outputs), "inputs": (tuple(fed), given)}
            rows |= _all_rows(kinds, len(chunk), troubles)
            last = _find_last(mapped, result) if isinstance(result, torch.Tensor) else None
            if last is not None:
                rows["features", ""] = mapped[last].given.detach().float()
            kept = kept or _room(rows, len(images), device)
            if last is None:
                kept.pop(("features", ""), None)
            for key in kept.keys() & rows.keys():
                with troubles.of(*key):
                    _put(rows[key], kept[key], chunk, _whose(*key))
            backward.add(result, token, calls)
        readout = None if ("features", "") not in kept or last is None else _readout(maps[last])

    def of(kind: str) -> dict[str, torch.Tensor]:
        return {layer: rows for (own, layer), rows in kept.items() if own == kind and (kind, layer) not in troubles}

    by_bank = {layer: weights[layer].by_filter(sums) for layer, sums in backward.found("gradients").items()}
    by_token = {layer: weights[layer].by_filter(sums, 1) for layer, sums in backward.found("token_gradients").items()}
    by_kind = {"gradients": by_bank, "token_gradients": by_token, "squares": backward.found("squares")}
    unmoved = {(kind, layer): by_kind[kind][layer] for kind, layer in backward.unmoved()}
    for kind, layer in unmoved.keys() & troubles.keys():
        del by_kind[kind][layer]
    return Pass(
        of("outputs").get("", torch.empty(0)),
        of("activations"),
        of("pooled"),
        of("inputs"),
        by_bank,
        by_token,
        by_kind["squares"],
        None if readout is None else of("features").get(""),
        readout,
        {key: error for key, error in troubles.items() if key != _LOSS},
        unmoved,
    )


def _all_rows(
    kinds: Mapping[str, tuple[Sequence[str], Mapping[str, _Seen]]], count: int, troubles: _Troubles
) -> dict[tuple[str, str], torch.Tensor]:
    """What was seen of layers, by kind."""
    rows = dict[tuple[str, str], torch.Tensor]()
    for kind, (layers, seen) in kinds.items():
        for layer in layers:
            with troubles.of(kind, layer):
                own = _rows(_whose(kind, layer), _reached(layer, seen), count)
                rows[kind, layer] = pool(own) if kind == "pooled" else own
    return rows


def first_stimuli(bank: StimulusBank, count: int) -> StimulusBank:
    """The first stimuli of a bank, as of one token: they pass at once."""
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
        weights: Mapping[str, torch.Tensor],
        leaves: Mapping[str, Sequence[_Leaf]],
        bank: StimulusBank,
        whole: Sequence[str],
        token: Sequence[str],
        squares: Sequence[str],
        troubles: _Troubles,
    ) -> None:
        self.weights, self.leaves = weights, leaves
        self._troubles, self._labels = troubles, bank.labels
        self._moved: dict[str, set[str]] = {"gradients": set(), "token_gradients": set(), "squares": set()}
        self._unmoved: list[tuple[str, str]] = []
        self._passed = False
        self.sizes = torch.bincount(bank.labels, minlength=len(bank.tokens)).tolist()
        self.total = len(bank)
        like = {layer: weight.detach() for layer, weight in weights.items()}
        self.bank = {layer: torch.zeros_like(like[layer]) for layer in whole}
        self.token = {layer: torch.zeros(len(self.sizes), *like[layer].shape).to(like[layer]) for layer in token}
        self.squares = {layer: torch.zeros_like(like[layer], dtype=widest(like[layer])) for layer in squares}
        for sums in self.token.values():
            sums[[number for number, size in enumerate(self.sizes) if not size]] = torch.nan

    def add(self, outputs: Any, token: int, calls: Mapping[str, Sequence[_Call]]) -> None:
        if self.weights and _LOSS not in self._troubles:
            with self._troubles.of(*_LOSS):
                check_outputs(outputs, self._labels)
                self._add(outputs, token, calls)

    def _add(self, outputs: torch.Tensor, token: int, calls: Mapping[str, Sequence[_Call]]) -> None:
        if not len(outputs):
            return
        self._passed = True
        labels = torch.full((len(outputs),), token, device=outputs.device)
        loss = cross_entropy(outputs.float() if outputs.dtype.itemsize < 4 else outputs, labels, reduction="sum")
        made = [call for each in calls.values() for call in each if call.output.requires_grad]
        # Not backward(): that would write into the gradients that training uses, and wake DDP's reducer.
        found = torch.autograd.grad(loss, [*self.weights.values(), *(call.output for call in made)], allow_unused=True)
        own = dict(zip(self.weights, found, strict=False))
        for layer, gradient in own.items():
            if gradient is None:
                continue
            if layer in self.bank:
                self.bank[layer] += gradient / self.total
            if layer in self.token:
                self.token[layer][token] += gradient / self.sizes[token]
            for kind in ("gradients", "token_gradients"):
                self._moved[kind].add(layer)
        ends = list(zip(made, found[len(own) :], strict=True))
        for layer, leaves in self.leaves.items():
            with self._troubles.of("squares", layer):
                reached = [(call, end) for call, end in ends if call.leaf in leaves]
                self._add_squares(layer, len(outputs), reached, own[layer])

    def _add_squares(
        self, layer: str, rows: int, reached: Sequence[tuple[_Call, torch.Tensor | None]], whole: torch.Tensor | None
    ) -> None:
        """Adds the squared gradients of single stimuli, each the sum over all calls that use the layer's weight.

        Raises:
            ValueError: if they are not those of single stimuli.
        """
        if any(call.given is None or len(call.given) != rows for call, _ in reached):
            raise ValueError(
                "Gradients of single stimuli are taken of layers that get a row for each stimulus; "
                f"{layer!r} gets others. {_OTHERS}"
            )
        if not reached and whole is not None:
            raise ValueError(_UNREACHED.format(layer))
        wide, sums = self.squares[layer].dtype, torch.zeros_like(self.squares[layer])
        added = [_single_gradients(call, end).to(wide) for call, end in reached if end is not None]
        single = sum(added[1:], start=added[0]) if added else sums[None]
        lacking = (sums if whole is None else whole.to(wide)) - single.sum(dim=0)
        # What is no rounding: the weight is used beside the calls that were seen, transposed for one.
        if lacking.norm() > torch.finfo(self.weights[layer].dtype).eps ** 0.5 * single.flatten(1).norm(dim=1).sum():
            raise ValueError(
                "Gradients of single stimuli add up to that of them all; those of "
                f"{layer!r} do not, as its weight is used elsewhere too. {_OTHERS}"
            )
        self.squares[layer] += single.square().sum(dim=0) / self.total
        if added:
            self._moved["squares"].add(layer)

    def found(self, kind: str) -> dict[str, torch.Tensor]:
        """What came of one kind, zeros of what was not moved included; once all has passed."""
        loss = self._troubles.get(_LOSS)
        sums = {"gradients": self.bank, "token_gradients": self.token, "squares": self.squares}[kind]
        if loss is not None and sums:
            self._troubles[kind, ""] = loss
            return {}
        found = {layer: values for layer, values in sums.items() if (kind, layer) not in self._troubles}
        self._unmoved += [(kind, layer) for layer in found if layer not in self._moved[kind]]
        return found

    def unmoved(self) -> list[tuple[str, str]]:
        """Which of what was found no stimulus of this process had a part in: troubles from now on, if it had any."""
        for kind, layer in self._unmoved if self._passed else ():
            self._troubles[kind, layer] = ValueError(_UNMOVED.format(layer))
        return self._unmoved


_LOSS = ("loss", "")
_UNMOVED = (
    "A probe takes gradients of weights through which the images pass to the loss; those of {!r} are not among them. "
    "Name other layers."
)


_Leaf = nn.Conv2d | nn.Linear
_OTHERS = "Name other layers."


def find_leaves(module: nn.Module, layer: str) -> list[_Leaf]:
    """Finds the convolutions and linear maps that compute with a layer's weight: more than one if it is shared.

    Raises:
        ValueError: if something else computes with it, or a convolution has groups or pads with other things than
            zeros.
    """
    return _leaves(layer, find_layers(module)[layer], _users(module))


def _leaves(layer: str, part: nn.Module, users: Sequence[tuple[nn.Module, set[nn.Parameter]]]) -> list[_Leaf]:
    holders = [own for own in parts(part) if own_weights(own)]
    sources = set(all_weights(holders[0])[0].sources) if len(holders) == 1 else set[nn.Parameter]()
    holders += [user for user, used in users if user not in holders and sources & used]
    leaves = [part for part in holders if _is_leaf(part)]
    if sources and len(leaves) == len(holders):
        return leaves
    what = " and ".join(_kind(part) for part in holders) or "nothing"
    raise ValueError(
        "Gradients of single stimuli are taken of Linear, and of Conv2d without groups and padded with zeros; "
        f"{layer!r} is {what}. {_OTHERS}"
    )


def _users(module: nn.Module) -> list[tuple[nn.Module, set[nn.Parameter]]]:
    """A network's modules, each with the parameters that it computes with."""
    return [
        (part, {*part.parameters(recurse=False), *(one for weight in own_weights(part) for one in weight.sources)})
        for part in parts(module)
    ]


def _is_leaf(part: nn.Module) -> TypeGuard[_Leaf]:
    plain = isinstance(part, nn.Conv2d) and part.groups == 1 and part.padding_mode == "zeros"
    return isinstance(part, nn.Linear) or plain


def _kind(part: nn.Module) -> str:
    """A module's class as it was before it was parametrised."""
    return (type(part).__mro__[1] if is_parametrized(part) else type(part)).__name__


def is_convolution(module: nn.Module, layer: str, *, grouped: bool) -> bool:
    """Whether what holds a layer's only weight is a convolution of images, with groups only if `grouped`."""
    holders = [part for part in parts(find_layers(module)[layer]) if own_weights(part)]
    leaf = holders[0] if len(holders) == 1 else None
    return isinstance(leaf, nn.Conv2d) and (grouped or leaf.groups == 1)


def find_convolution(module: nn.Module, layer: str) -> nn.Conv2d:
    """Finds the convolution of a layer that is a convolution, and then a batch norm and a ReLU if there are any.

    Raises:
        ValueError: if something else is in the layer or they are registered in another order, the convolution has
            groups or pads with other things than zeros, or the batch norm keeps no running statistics.
    """
    return _convolution(layer, find_layers(module)[layer])


def _convolution(layer: str, whole: nn.Module) -> nn.Conv2d:
    ends = [part for part in parts(whole) if is_parametrized(part) or not list(part.children())]
    leaves = [part for part in ends if isinstance(part, nn.Conv2d)]
    leaf = leaves[0] if len(leaves) == 1 else None
    active = [part for part in ends if not isinstance(part, nn.Dropout | nn.Dropout2d | nn.Identity)]
    if leaf and leaf.groups == 1 and leaf.padding_mode == "zeros" and _in_order(active):
        return leaf
    raise ValueError(
        "What a convolution gets is taken of layers that are a Conv2d without groups, padded with zeros, and then a "
        "BatchNorm2d with running statistics and a ReLU if there are any, in this order; "
        f"{layer!r} is {' and '.join(map(_describe_part, ends))}. {_OTHERS}"
    )


_ORDER = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU)


def _in_order(ends: Sequence[nn.Module]) -> bool:
    """Whether parts are a convolution, a batch norm and a ReLU, each once at most, and what they do can be told."""
    places = [next((place for place, kind in enumerate(_ORDER) if isinstance(part, kind)), -1) for part in ends]
    told = all(part.running_mean is not None for part in ends if isinstance(part, nn.BatchNorm2d))
    return told and places[0] == 0 and all(a < b for a, b in pairwise(places))


def _describe_part(part: nn.Module) -> str:
    without = isinstance(part, nn.BatchNorm2d) and part.running_mean is None
    return f"{_kind(part)}{' without running statistics' if without else ''}"


def describe_convolution(module: nn.Module, layer: str) -> Convolution:
    """Says what a layer makes of what it gets, apart from its weight, as it stands in evaluation mode.

    Raises:
        ValueError: as `find_convolution` does.
    """
    whole = find_layers(module)[layer]
    leaf, inside = _convolution(layer, whole), parts(whole)
    scale = torch.ones(leaf.out_channels, dtype=_dtype(module), device=_device(module))
    shift = torch.zeros_like(scale) if leaf.bias is None else leaf.bias
    for norm in inside:
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
        any(isinstance(part, nn.ReLU) for part in inside),
    )


def _single_gradients(call: _Call, gradient: torch.Tensor) -> torch.Tensor:
    """The gradient (stimulus, *weight) of each stimulus, from what a leaf got and the gradient of what it gave."""
    leaf, inputs = call.leaf, call.given.detach()
    if isinstance(leaf, nn.Conv2d):
        padded = pad(inputs, _padding(leaf))
        patches = unfold(padded, leaf.kernel_size, leaf.dilation, 0, leaf.stride)
        shape = (len(inputs), leaf.out_channels, leaf.in_channels, *leaf.kernel_size)
        return (gradient.flatten(2) @ patches.transpose(1, 2)).view(shape)
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


def _reached(layer: str, seen: Mapping[str, _Seen]) -> Any:
    """What was seen of a layer."""
    if layer not in seen:
        raise ValueError(_UNREACHED.format(layer))
    own = seen[layer]
    if own.calls > 1:
        raise ValueError(f"A probe looks at layers that are called once a pass; {layer!r} is called {own.calls} times.")
    if getattr(own.tensor, "_version", own.version) != own.version:
        raise ValueError(f"A probe looks at outputs that are not overwritten; {layer!r}'s is, in place.")
    return own.tensor


def _whose(kind: str, layer: str) -> str:
    if not layer:
        return "the network"
    return f"what comes before {layer!r}" if kind == "inputs" else f"layer {layer!r}"


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


_LOOKS = ContextVar("_LOOKS", default=False)
"""Whether what passes through networks just now is what is looked at, and no training."""


@contextmanager
def _looking(module: nn.Module, weights: Sequence[Weight]) -> Iterator[list[torch.Tensor]]:
    """Makes a module ready to be looked at, and puts everything back.

    Gives the tensors that it computes with in the place of some weights, to differentiate with respect to them.
    """
    with (
        _watched_by_nobody(),
        _put_back(module),
        held(weights) as tensors,
        torch.set_grad_enabled(bool(weights)),  # made here, as it acts at once
        torch.autocast(_device(module).type, enabled=False),
        _eager(),
        _plain_attention(),
    ):
        yield tensors


@contextmanager
def _watched_by_nobody() -> Iterator[None]:
    """Has `Firing` pass over what is no training."""
    token = _LOOKS.set(True)
    try:
        yield
    finally:
        _LOOKS.reset(token)


@contextmanager
def _put_back(module: nn.Module) -> Iterator[None]:
    """Turns a module to evaluation, and puts back its modes and what it notes in buffers, in evaluation mode too.

    A module that gave itself other buffers may have noted beside them what they are for, so its attributes are put back
    with them.
    """
    modes = {layer: layer.training for layer in module.modules()}
    names = [(layer, dict(vars(layer)), dict(layer._buffers.items())) for layer in module.modules()]
    values = [(buffer, buffer._version, buffer.clone()) for buffer in module.buffers() if not buffer.is_inference()]
    try:
        module.eval()
        yield
    finally:
        for layer, attributes, buffers in names:
            if not _are_same(layer._buffers, buffers):
                _rebind(layer, attributes, buffers)
        for layer, mode in modes.items():
            layer.training = mode
        with torch.no_grad():
            for buffer, version, before in values:
                if buffer._version != version or not _has_bits(buffer, before):
                    buffer.copy_(before)


def _are_same(now: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    return list(now.keys()) == list(before) and all(now[name] is buffer for name, buffer in before.items())


def _rebind(layer: nn.Module, attributes: Mapping[str, Any], buffers: Mapping[str, Any]) -> None:
    """Gives a module the buffers and attributes that it had."""
    for name in [name for name in layer._buffers if name not in buffers]:
        delattr(layer, name)
    for name, buffer in buffers.items():
        layer._buffers[name] = buffer
    own = vars(layer)
    for name in [name for name in own if name not in attributes]:
        del own[name]
    own.update(attributes)


def _has_bits(buffer: torch.Tensor, before: torch.Tensor) -> bool:
    """Whether a tensor has the bits of another: batch norms write past what a tensor counts, and NaN equals nothing."""
    if buffer.layout is not torch.strided or buffer.is_quantized or buffer.is_nested:
        return True  # nothing is known to write past the count of these
    one, other = (tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (buffer, before))
    return torch.equal(one, other)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Has attention computed step by step: fused kinds round otherwise, and some are not differentiable twice.

    They also pass modules by, depending on hooks and gradients, that is on what else is looked at.
    """
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


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


@dataclass
class _Seen:
    """What a layer gave or got when it was called last, how often that had been written to, and the calls so far."""

    tensor: Any
    version: int
    calls: int


@contextmanager
def _outputs(layers: Mapping[str, nn.Module], *, copy: bool) -> Iterator[dict[str, _Seen]]:
    """Keeps each layer's output; a copy where a module works in place."""
    seen: dict[str, _Seen] = {}

    def keep(name: str, _module: nn.Module, _given: Any, output: Any) -> None:
        _keep(seen, name, output, copy=copy)

    with _hooked(layers, keep):
        yield seen


@contextmanager
def _inputs(layers: Mapping[str, nn.Module], *, copy: bool) -> Iterator[dict[str, _Seen]]:
    """Keeps what each layer got, as `_outputs` keeps what it gave."""
    seen: dict[str, _Seen] = {}

    def keep(name: str, _module: nn.Module, given: Any, _output: Any) -> None:
        _keep(seen, name, given[0] if given else None, copy=copy)  # whoever calls by keyword gives none

    with _hooked(layers, keep):
        yield seen


def _keep(seen: dict[str, _Seen], name: str, value: Any, *, copy: bool) -> None:
    kept = value.clone() if copy and isinstance(value, torch.Tensor) else value
    calls = seen[name].calls + 1 if name in seen else 1
    seen[name] = _Seen(kept, getattr(kept, "_version", 0), calls)


class _Call(NamedTuple):
    """One call of a linear map or convolution: what it got, and what it gave."""

    leaf: nn.Module
    given: Any
    output: torch.Tensor


@contextmanager
def _ends(leaves: Mapping[str, nn.Module], *, copy: bool) -> Iterator[dict[str, list[_Call]]]:
    """Keeps each call of some leaves; what works in place on what they gave gets a copy, so as to lead back."""
    seen: dict[str, list[_Call]] = {}

    def keep(name: str, leaf: nn.Module, given: Any, output: torch.Tensor) -> torch.Tensor:
        seen.setdefault(name, []).append(_Call(leaf, given[0] if given else None, output))
        return output.clone() if copy else output

    with _hooked(leaves, keep):
        yield seen


class _Map(NamedTuple):
    """The last call of a linear map, with how often what it got and gave had been written to."""

    given: Any
    output: Any
    versions: tuple[int, ...]


def _versions(*tensors: Any) -> tuple[int, ...]:
    return tuple(getattr(tensor, "_version", 0) for tensor in tensors)


@contextmanager
def _maps(maps: Mapping[str, nn.Module]) -> Iterator[dict[str, _Map]]:
    """Keeps the last call of each linear map."""
    seen: dict[str, _Map] = {}

    def keep(name: str, _map: nn.Module, given: Any, output: Any) -> None:
        first = given[0] if given else None
        seen.pop(name, None)  # so that they stay in the order of their calls
        seen[name] = _Map(first, output, (*_versions(first), *_versions(output)))

    with _hooked(maps, keep):
        yield seen


def _find_last(seen: Mapping[str, _Map], result: torch.Tensor) -> str | None:
    """The linear map of stimuli whose output a network returned, as it is or in another type of number."""
    for name, (given, output, versions) in reversed(list(seen.items())):
        same = output is result or (output.shape == result.shape and torch.equal(output.to(result), result))
        if same and given is not None and given.dim() == 2 and versions == _versions(given, output):
            return name
    return None


def _readout(last: nn.Module) -> torch.Tensor:
    return Weight(last, "weight").read().clone()


class LiveNetwork:
    """The network of a look, for probes that differentiate it or run it on images of their own.

    Args:
        module: what `open_network` has made ready.
        modules: layer -> module, what `find_layers` finds.
        weights: layer -> what it computes with.
        refused: layer -> why its outputs cannot be looked at.
    """

    def __init__(
        self,
        module: nn.Module,
        modules: Mapping[str, nn.Module],
        weights: Mapping[str, torch.Tensor],
        refused: Mapping[str, str] | None = None,
    ) -> None:
        self._module, self._modules, self._weights, self._refused = module, modules, weights, refused or {}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self._module(images.to(_device(self._module), _dtype(self._module)))

    def respond(self, layer: str, images: torch.Tensor) -> torch.Tensor:
        if not layer:
            return self(images)
        self._check(layer)
        found: list[torch.Tensor] = []

        def stop(_name: str, _module: nn.Module, _given: Any, output: Any) -> None:
            if not isinstance(output, torch.Tensor):
                raise ValueError(f"A probe looks at outputs that are one tensor; layer {layer!r} gives another thing.")
            found.append(output)
            raise _DeepEnough

        with suppress(_DeepEnough), _hooked({layer: self._modules[layer]}, stop):
            self(images)
        if found:
            return found[0]
        raise ValueError(_UNREACHED.format(layer))

    def intervene(
        self, layer: str, change: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
    ) -> torch.Tensor:
        self._check(layer)
        reached: list[bool] = []

        def put(_name: str, _module: nn.Module, _given: Any, output: Any) -> torch.Tensor:
            if not isinstance(output, torch.Tensor):
                raise ValueError(f"A probe changes outputs that are one tensor; layer {layer!r} gives another thing.")
            if reached:
                raise ValueError(f"A probe looks at layers that are called once a pass; {layer!r} is called again.")
            changed = change(output)
            if changed.shape != output.shape:
                raise ValueError(
                    f"What is put in place of a layer's output has its shape; {layer!r} gives {tuple(output.shape)}, "
                    f"got {tuple(changed.shape)}."
                )
            reached.append(True)
            return changed.to(output.dtype)

        with _hooked({layer: self._modules[layer]}, put):
            outputs = self(images)
        if not reached:
            raise ValueError(_UNREACHED.format(layer))
        return outputs

    def _check(self, layer: str) -> None:
        if layer in self._refused:
            raise ValueError(self._refused[layer])

    def parameters(self, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        for layer in layers:
            if layer not in self._weights:
                raise ValueError(_WHOLE.format(layer))
        return {layer: self._weights[layer] for layer in layers}

    def receptive_fields(self, layers: Sequence[str], image: torch.Tensor) -> dict[str, ReceptiveField | None]:
        fields: dict[int, ReceptiveField] = {}
        found: dict[str, ReceptiveField | None] = dict.fromkeys(layers)
        called: set[str] = set()
        kept: list[Any] = []  # so that no other tensor gets the identity of one that was seen

        def follow(name: str, module: nn.Module, given: Any, output: Any) -> None:
            tensors = all(isinstance(one, torch.Tensor) for one in (*given[:1], output))
            if not list(module.children()) and given and tensors:
                if given[0].shape == images.shape and torch.equal(given[0], images):
                    fields[id(given[0])] = whole  # the images as they are, or in another layout of memory
                    kept.append(given[0])
                _follow(module, given[0], output, fields)
            if name in found:
                found[name] = fields.get(id(output)) if name not in called else None
                called.add(name)
            kept.append(output)

        images = image[None].to(_device(self._module), _dtype(self._module))
        whole = ReceptiveField(1, 1, 0)
        with torch.no_grad(), _hooked(self._modules, follow):
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
def open_network(
    module: nn.Module, layers: Sequence[str], refused: Mapping[str, str] | None = None
) -> Iterator[LiveNetwork]:
    """Makes a network ready for a probe to run and to differentiate, and puts everything back.

    Args:
        module: the network.
        layers: those with respect to whose weights it may be differentiated, where they hold one, of floating-point
            numbers.
        refused: layer -> why its outputs cannot be looked at.
    """
    modules = find_layers(module)
    found = {layer: all_weights(modules[layer]) for layer in layers}
    weights = {layer: own[0] for layer, own in found.items() if len(own) == 1 and own[0].differentiable}
    with _looking(module, list(weights.values())) as tensors, torch.enable_grad():
        yield LiveNetwork(module, modules, dict(zip(weights, tensors, strict=True)), refused)


@contextmanager
def refuse_filters(module: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, str]]:
    """Finds layers whose outputs do not have their filters on the second axis, or do not say on which, each with why.

    It watches what passes the network meanwhile, and goes by what modules are: filters are second in what convolutions,
    their norms and pools give, and last in what linear maps and layer norms give. What works place by place has them
    where what came before has them.
    """
    refused = dict[str, str]()
    places: list[tuple[torch.Size, bool]] = []  # of all calls so far: what they gave, and whether filters are second

    def follow(name: str, part: nn.Module, _given: Any, output: Any) -> None:
        if not isinstance(output, torch.Tensor):
            return
        second = _filters_second(part, output)
        if second is None and all(isinstance(end, _PLACEWISE) for end in parts(part) if not list(end.children())):
            second = next((known for shape, known in reversed(places) if shape == output.shape), None)
        if second is not None:
            places.append((output.shape, second))
        if name in layers and not second:
            lies = "has them elsewhere" if second is False else "is of a kind that does not say where"
            refused[name] = (
                f"Filters are looked at where they are the second axis of a layer's output; {name!r} {lies}: it gives "
                f"{('stimulus', *output.shape[1:])}."
            )

    with _hooked(find_layers(module) if layers else {}, follow):
        yield refused


def _filters_second(layer: nn.Module, output: torch.Tensor) -> bool | None:
    """Whether filters are the second axis of a layer's output; None if its modules do not say."""
    if output.dim() <= 2:
        return True
    ends, channels = parts(layer), output.shape[1]
    last = any(isinstance(end, _FILTERS_LAST) for end in ends)
    convolutions = [end for end in ends if isinstance(end, _ConvNd)]
    if convolutions:
        filters = [end.out_channels for end in convolutions]
        places = len(convolutions[-1].kernel_size)
        clear = output.shape[-1] not in filters or (output.dim() == places + 2 and not last)
        return channels in filters and clear
    if last:
        return False
    return True if any(isinstance(end, _FILTERS_SECOND) for end in ends) else None


_FILTERS_LAST = (nn.Linear, nn.Bilinear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.MultiheadAttention, nn.RNNBase)
_FILTERS_SECOND = (_NormBase, nn.GroupNorm, _MaxPoolNd, _AvgPoolNd, _AdaptiveMaxPoolNd, _AdaptiveAvgPoolNd)
_PLACEWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
    *(nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, _DropoutNd, nn.Identity),
)


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
        self._hooks.enter_context(_hooked(maps, self._begin))
        self._hooks.enter_context(_hooked(passed, self._pass))

    def _begin(self, layer: str, part: nn.Module, _given: Any, output: Any) -> None:
        trains = torch.is_grad_enabled() and not _LOOKS.get()  # else it is validation, or a look, between two batches
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
        if _place()[1] == 1 or not self._watched:
            return self.fired
        missing = agree([layer not in self.fired for layer in self._watched], _device(self._module))
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
            f"A probe looks at outputs with a row for each stimulus; {whose} gives {tuple(rows.shape)} for {count} "
            "stimuli. Name other layers."
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
