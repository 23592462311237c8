"""One pass of the stimulus bank: a network, the bank and needs in, what they find out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeVar

import torch
from torch import nn

from lightning_emerge.capture.layers import device_of
from lightning_emerge.capture.layouts import Layouts
from lightning_emerge.capture.needs.base import Collector, Need
from lightning_emerge.capture.processes import place
from lightning_emerge.capture.troubles import Key, Troubles
from lightning_emerge.capture.view import View
from lightning_emerge.records import StimulusBank, as_stored
from lightning_emerge.records.structures import take

_CHUNK = 32
_Given = TypeVar("_Given")


@dataclass
class Pass:
    """What one pass of this process' share of the bank leaves.

    Attributes:
        found: need -> layer -> what it found; the layer is "" of what is the whole network's.
        troubles: what could not be had, and why. The layer is "" too where a need finds nothing of any layer, as where
            the loss does not fit the outputs.
        unmoved: sums in which no stimulus of this process' share had a part: another's may. They are among the troubles
            if it had any stimuli.
    """

    found: dict[Need, dict[str, Any]] = field(default_factory=dict[Need, dict[str, Any]])
    troubles: Mapping[Key, Exception] = field(default_factory=Troubles)
    unmoved: dict[Key, Any] = field(default_factory=dict[Key, Any])


def run_bank(
    module: nn.Module,
    bank: StimulusBank,
    asked: Mapping[Need, Sequence[str]],
    *,
    shared: bool = True,
    layouts: Layouts | None = None,
) -> Pass:
    """Sends this process' share of the bank through the network once.

    The network is in evaluation mode and not compiled meanwhile, without autocasting or fused attention; each
    submodule's mode and buffers are put back and every hook is removed, whatever happens. With several processes,
    process r takes stimuli r, r + n, r + 2n, ... They pass token by token, so that what is seen does not depend on what
    is asked for.

    What cannot be had costs nothing else: the error is among the `troubles` of the pass, and whatever else was asked
    for is there. Only what stops the network itself is raised.

    Args:
        module: called with the bank's inputs.
        bank: the stimuli.
        asked: need -> names of layers from `find_layers`; [""] for a need of the whole network.
        shared: whether processes share the bank, or each passes all of it.
        layouts: how what layers give lies, where a dry pass has told.
    """
    rank, world_size = place() if shared else (0, 1)
    share = torch.arange(rank, len(bank), world_size)
    view, device = View(module, bank, layouts), device_of(module)
    seen = Pass(troubles=(troubles := Troubles()))
    collectors = _collect(view, asked, troubles)
    room: dict[Key, torch.Tensor] | None = None
    with view.open():
        _each(collectors, troubles, lambda _, one: one.begin())
        for token, positions in _chunks(bank.labels[rank::world_size]):
            chunk = view.forward(share[positions.cpu()], token)
            for need, error in view.failed.items():
                troubles.setdefault((need, ""), error)
            given = _each(collectors, troubles, lambda _, one, chunk=chunk: one.rows(chunk))
            rows = {(need, layer): own for need, found in given.items() for layer, own in found.items()}
            if room is None:
                room = _make_room(rows, len(share), device)
            room = {key: place for key, place in room.items() if key in rows}
            for key, stored in room.items():
                with troubles.of(key):
                    _put(rows[key], stored, positions, key)
            chunk.differentiate()
            _each(collectors, troubles, lambda _, one, chunk=chunk: one.add(chunk))
            chunk.let_go()
    seen.found = _each(collectors, troubles, lambda need, one: one.finish(_rows_of(need, room or {}, troubles)))
    for need, unmoved in _each(collectors, troubles, lambda _, one: one.unmoved).items():
        seen.unmoved |= {(need, layer): zeros for layer, zeros in unmoved.items()}
    return seen


def _collect(view: View, asked: Mapping[Need, Sequence[str]], troubles: Troubles) -> dict[Need, Collector]:
    collectors = dict[Need, Collector]()
    for need, layers in asked.items():
        with troubles.of((need, "")), view.asked_by(need):
            collectors[need] = need.collect(view, layers, troubles)
    return collectors


def _each(
    collectors: Mapping[Need, Collector], troubles: Troubles, ask: Callable[[Need, Collector], _Given]
) -> dict[Need, _Given]:
    """What each collector gives. One that fails is the trouble of its need, and is not asked again."""
    given = dict[Need, _Given]()
    for need, one in collectors.items():
        if (need, "") not in troubles:
            with troubles.of((need, "")):
                given[need] = ask(need, one)
    return given


def _rows_of(need: Need, room: Mapping[Key, torch.Tensor], troubles: Troubles) -> dict[str, torch.Tensor]:
    return {key[1]: rows for key, rows in room.items() if key[0] == need and key not in troubles}


def first_stimuli(bank: StimulusBank, count: int) -> StimulusBank:
    """The first stimuli of a bank, as of one token: they pass at once."""
    few = slice(count)  # and two tokens, of which one logit tells
    labels, task = bank.labels[few] * 0, bank.task.of(few)
    return StimulusBank(take(bank.inputs, few), labels, bank.ids[few], bank.tokens[:2], task=task)


def _chunks(labels: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Positions of stimuli that pass together, each time of one token."""
    if not len(labels):
        yield 0, labels  # a process without stimuli has to know the shapes too
    for token in labels.unique().tolist():
        for chunk in (labels == token).nonzero()[:, 0].split(_CHUNK):
            yield token, chunk


def _make_room(rows: Mapping[Key, torch.Tensor], total: int, device: torch.device) -> dict[Key, torch.Tensor]:
    """Makes room for all stimuli: one piece of memory, which the system gets back when it is let go.

    Joining parts in the end would take it twice, and a piece for each layer would leave holes in the heap.
    """
    stored = {name: as_stored(part) for name, part in rows.items()}
    shapes = {name: (total, *part.shape[1:]) for name, part in stored.items()}
    pieces = torch.empty(sum(map(prod, shapes.values())), device=device)
    split = pieces.split([prod(shape) for shape in shapes.values()])
    room = {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), split, strict=True)}
    return {name: piece if stored[name] is rows[name] else piece.movedim(-1, 1) for name, piece in room.items()}


def _put(rows: torch.Tensor, room: torch.Tensor, positions: torch.Tensor, key: Key) -> None:
    if rows.shape[1:] != room.shape[1:]:
        need, layer = key
        raise ValueError(
            f"A probe looks at outputs of one shape for all stimuli; {need.whose(layer)} gives {tuple(room.shape[1:])} "
            f"and {tuple(rows.shape[1:])}."
        )
    room[positions] = rows
