"""One pass of the stimulus bank: a network and the bank in, what was asked for out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod

import torch
from torch import nn

from lightning_emerge.capture.convolutions import convolution_of
from lightning_emerge.capture.gradients import LOSS, Backward
from lightning_emerge.capture.hooks import (
    Seen,
    find_last,
    reached,
    readout_of,
    rows_of,
    watch_calls,
    watch_inputs,
    watch_maps,
    watch_outputs,
)
from lightning_emerge.capture.layers import WHOLE, device_of, dtype_of, find_layers, weights_of
from lightning_emerge.capture.leaves import leaves_of, users_of
from lightning_emerge.capture.processes import place
from lightning_emerge.capture.state import looking_at
from lightning_emerge.capture.troubles import Troubles
from lightning_emerge.capture.weights import Weight, parts
from lightning_emerge.records import StimulusBank, as_stored, pool

_CHUNK = 32


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


def _differentiable(weights: Mapping[str, Weight], layer: str) -> Weight:
    """A layer's weight.

    Raises:
        ValueError: if it is made of whole numbers.
    """
    if not weights[layer].differentiable:
        raise ValueError(WHOLE.format(layer))
    return weights[layer]


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
    rank, world_size = place() if shared else (0, 1)
    images, labels = bank.images[rank::world_size], bank.labels[rank::world_size]
    modules, learned = find_layers(module), tuple(dict.fromkeys((*gradients, *token_gradients, *squares)))
    device, dtype, weights = device_of(module), dtype_of(module), weights_of(module, modules, learned)
    in_place, troubles = any(getattr(layer, "inplace", False) for layer in module.modules()), Troubles()
    gradients, token_gradients, squares = (
        tuple(troubles.each(kind, asked, partial(_differentiable, weights)))
        for kind, asked in (("gradients", gradients), ("token_gradients", token_gradients), ("squares", squares))
    )
    weights = {layer: weight for layer, weight in weights.items() if weight.differentiable}
    watched = {layer: modules[layer] for layer in (*layers, *pooled)}
    fed = troubles.each("inputs", inputs, lambda layer: convolution_of(layer, modules[layer]))
    users = users_of(module) if squares else []
    leaves = troubles.each("squares", squares, lambda layer: leaves_of(layer, modules[layer], users))
    ends = {str(id(leaf)): leaf for each in leaves.values() for leaf in each}
    maps = {str(number): part for number, part in enumerate(parts(module)) if features and isinstance(part, nn.Linear)}
    kept, last = dict[tuple[str, str], torch.Tensor](), None
    with (
        looking_at(module, list(weights.values())) as tensors,
        watch_outputs(watched, copy=in_place) as outputs,
        watch_inputs(fed, copy=in_place) as given,
        watch_calls(ends, copy=in_place) as calls,
        watch_maps(maps) as mapped,
    ):
        used = dict(zip(weights, tensors, strict=True))
        backward = Backward(used, leaves, bank, gradients, token_gradients, squares, troubles)
        for token, chunk in _chunks(labels):
            for seen in (outputs, given, calls, mapped):
                seen.clear()
            result = module(images[chunk].to(device, dtype))
            rows = dict[tuple[str, str], torch.Tensor]()
            with troubles.of("outputs", ""):
                rows["outputs", ""] = rows_of("the network", result, len(chunk))
            kinds = {"activations": (layers, outputs), "pooled": (pooled, outputs), "inputs": (tuple(fed), given)}
            rows |= _all_rows(kinds, len(chunk), troubles)
            last = find_last(mapped, result) if isinstance(result, torch.Tensor) else None
            if last is not None:
                rows["features", ""] = mapped[last].given.detach().float()
            kept = kept or _room(rows, len(images), device)
            if last is None:
                kept.pop(("features", ""), None)
            for key in kept.keys() & rows.keys():
                with troubles.of(*key):
                    _put(rows[key], kept[key], chunk, _whose(*key))
            backward.add(result, token, calls)
        readout = None if ("features", "") not in kept or last is None else readout_of(maps[last])

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
        {key: error for key, error in troubles.items() if key != LOSS},
        unmoved,
    )


def _all_rows(
    kinds: Mapping[str, tuple[Sequence[str], Mapping[str, Seen]]], count: int, troubles: Troubles
) -> dict[tuple[str, str], torch.Tensor]:
    """What was seen of layers, by kind."""
    rows = dict[tuple[str, str], torch.Tensor]()
    for kind, (layers, seen) in kinds.items():
        for layer in layers:
            with troubles.of(kind, layer):
                own = rows_of(_whose(kind, layer), reached(layer, seen), count)
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


def _whose(kind: str, layer: str) -> str:
    if not layer:
        return "the network"
    return f"what comes before {layer!r}" if kind == "inputs" else f"layer {layer!r}"
