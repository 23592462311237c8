"""Which layers are left out: a few stimuli pass before training, to see what single layers cannot give."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import nn
from torch.nn.parameter import is_lazy

from lightning_emerge.capture import default_layers, find_layers
from lightning_emerge.capture.heads import HEADS
from lightning_emerge.capture.layers import MOST, owner_of, split_call
from lightning_emerge.capture.layouts import Layout
from lightning_emerge.capture.needs import Need
from lightning_emerge.capture.needs.base import complete
from lightning_emerge.capture.sketch import Sketch, reached_layers, unreached_layers
from lightning_emerge.capture.troubles import Key
from lightning_emerge.capture.weights import Weight
from lightning_emerge.engine.members import Member
from lightning_emerge.engine.passes import Kinds, sketch_network, try_layers
from lightning_emerge.records import StimulusBank


def settle_layers(
    module: nn.Module,
    members: Sequence[Member],
    bank: StimulusBank | None,
    before: Mapping[str, Sequence[str]],
    device: torch.device,
) -> Sketch:
    """Passes some stimuli, and gives the members that name no layers those that are reached, and each its calls.

    Probes of weights keep the layers with one weight, of which a few more have been found to be looked at.

    Args:
        module: the network.
        members: whose layers are settled.
        bank: whose first stimuli pass; without any, layers stay what they are.
        before: name of a member -> the layers that it had, in a run that resumes.
        device: of the network.
    """
    tried = any(_trials(member) for member in members)
    passes = tried and bank is not None and len(bank) and not any(map(is_lazy, module.parameters()))
    sketch = sketch_network(module, bank, device) if passes and bank is not None else Sketch()
    for member in [member for member in members if not member.weighs]:
        had = _known(module, before.get(member.name, ())) if member.probe.layers is None else ()
        if had:
            member.layers = had
        elif sketch.calls and member.probe.layers is None and member.layers == default_layers(module):
            reached = reached_layers(module, sketch)
            chosen = {*reached, *unreached_layers(module, sketch, reached)}  # the trial says why of these
            member.layers = tuple(layer for layer in sketch.order(find_layers(module)) if layer in chosen)
        else:
            member.layers = sketch.all_calls(member.layers)
    heads = [layer for member in members for layer in member.layers if layer.endswith(HEADS)]
    sketch.layouts |= dict.fromkeys(heads, Layout(3, 2, 0, "all" if bank is None else bank.task.positions))
    return sketch


def _known(module: nn.Module, layers: Sequence[str]) -> tuple[str, ...]:
    """Layers that a member had, if the network still has them all."""
    modules = find_layers(module)
    return tuple(layers) if all(owner_of(layer, modules) in modules for layer in layers) else ()


def order_of(layers: Collection[str], sketch: Sketch, members: Iterable[Member]) -> tuple[str, ...]:
    """The network's layers in its order, each with its calls, of which members may name some that there are not."""
    known, named = [*layers], [layer for member in members for layer in member.layers]
    found = sketch.order(known)
    order = {layer: number for number, layer in enumerate(known)}
    more = {layer for layer in named if layer not in found}
    return tuple(sorted((*found, *more), key=lambda name: (order[owner_of(name, order)], split_call(name, order)[1])))


def leave_out(
    module: nn.Module,
    members: Sequence[Member],
    bank: StimulusBank | None,
    weights: Mapping[str, Weight],
    before: Mapping[str, Sequence[str]],
    order: Sequence[str],
    sketch: Sketch,
    device: torch.device,
) -> dict[Key, str]:
    """Tries the layers on some stimuli: what a probe cannot measure is left out, or refused if it was named.

    A run that resumes keeps to the layers that it had: where weights decide what is reached, they may now decide
    otherwise.

    Args:
        module: the network.
        members: whose layers are left out.
        bank: whose first stimuli pass; without any, only weights are compared.
        weights: layer -> its weight, of layers that have to hold one.
        before: name of a member -> the layers that it had, in a run that resumes.
        order: of the network's layers.
        sketch: of the network.
        device: of the network.

    Returns:
        (need, layer) -> why it is not given, of what was tried and is still refused.
    """
    refused, trials = dict[Key, str](), [_trials(member) for member in members]
    if bank is not None and len(bank) and not any(map(is_lazy, module.parameters())):
        refused = try_layers(module, bank, _all_trials(members, trials, order), device, sketch.layouts)
    left = dict(refused)
    for member, tried in zip(members, trials, strict=True):
        out = [need for need, leaves in tried.items() if leaves]
        keys: list[Key] = [(need, layer) for need in out for layer in member.layers]
        why = {layer: refused[need, layer] for need, layer in reversed(keys) if (need, layer) in refused}
        why |= _twins(member, weights, why)
        kept = tuple(before.get(member.name, ())) if member.probe.layers is None else ()
        kept = kept if {*kept} <= {*member.layers} else ()
        for key in [key for key in keys if key[1] in kept]:
            left.pop(key, None)
        _leave(module, member, {layer: text for layer, text in why.items() if layer not in kept}, kept)
    return left


def _trials(member: Member) -> dict[Need, bool]:
    """What a probe's layers have to give, so that it can look at them; of named ones, a look says what they lack."""
    tried, needs = dict[Need, bool](), complete(member.probe.needs)
    for need in needs:
        for trial, leaves in need.trials(needs, named=member.probe.layers is not None).items():
            tried[trial] = tried.get(trial, False) or leaves
    return tried


def _all_trials(members: Sequence[Member], trials: Sequence[Mapping[Need, bool]], order: Sequence[str]) -> Kinds:
    wanted = dict[Need, set[str]]()
    for member, tried in zip(members, trials, strict=True):
        for need in tried:
            wanted.setdefault(need, set()).update(member.layers)
    return {need: tuple(layer for layer in order if layer in layers) for need, layers in wanted.items()}


def _twins(member: Member, weights: Mapping[str, Weight], out: Collection[str]) -> dict[str, str]:
    """Layers that share their weight with an earlier one, if all weights of a probe are taken together."""
    needs, known, found = complete(member.probe.needs), dict[int, str](), dict[str, str]()
    together = any(need.together(needs) for need in needs)
    for layer in [layer for layer in member.layers if together and layer not in out]:
        for source in weights[layer].sources:
            other = known.setdefault(id(source), layer)
            if other != layer:
                found[layer] = f"Weights that are taken together count once; {layer!r} has that of {other!r}."
    return found


def _reasons(why: Mapping[str, str]) -> str:
    """Why layers are left out: what is true of many is said of the first of them."""
    told = dict[str, list[str]]()
    for layer, text in why.items():
        told.setdefault(text.replace(repr(layer), ""), []).append(text)
    few = (
        " ".join(same) if len(same) <= _FEW else f"{same[0]} So it is with {len(same) - 1} more."
        for same in told.values()
    )
    return " ".join(few)


_FEW = 3
"""Layers that are left out for the same reason, of each of which it is said."""


def _leave(module: nn.Module, member: Member, why: Mapping[str, str], kept: tuple[str, ...]) -> None:
    probe, found = member.probe, member.layers
    left = kept or probe.choose(module, tuple(layer for layer in found if layer not in why))
    chosen = found if len(found) > MOST else probe.choose(module, found)
    out = [layer for layer in chosen if layer in why]
    member.layers = left
    if not out:
        return
    names, reasons = ", ".join(out), _reasons({layer: why[layer] for layer in out})
    error = ValueError(
        f"{member.name} looks at layers that give what it needs when images pass; none of {names} does. {reasons}"
    )
    if probe.layers is not None:
        member.layers, member.broken = (), ValueError(reasons)  # its next look says so, and switches it off
    elif not left and not any(need.whole for need in complete(probe.needs)):
        member.broken = error
    else:
        member.lacking = None if left else error
        rank_zero_warn(f"{member.name} leaves out {names}. {reasons}")
