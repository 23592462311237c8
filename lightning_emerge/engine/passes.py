"""A pass of stimuli through the network for all that is asked of it, and whose trouble it is if some cannot be had."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import nn
from torch.nn.parameter import is_lazy

from lightning_emerge import capture as looking
from lightning_emerge.engine.device import full_precision
from lightning_emerge.records import Convolution, Needs, StimulusBank

Kinds = dict[str, tuple[str, ...]]
"""What is asked of a pass: which attribute of a `Pass`, of which layers; of the outputs, of ""."""

Troubles = dict[tuple[str, str], Exception]
"""What could not be had, (kind, layer) -> error: with "" for the layer nothing of the kind, with two "" nothing."""

_NEEDS = {
    "activations": "activations",
    "pooled": "pooled",
    "inputs": "inputs",
    "gradients": "bank_gradients",
    "token_gradients": "token_gradients",
    "squares": "gradient_squares",
}
_DIFFERENTIATED = ("gradients", "token_gradients", "squares")
_ELSEWHERE = "another process could not run the stimulus bank, or not for what the probe needs"
_FEW = 3
"""Stimuli that each process passes to see which layers they reach: with one, a row for all would look like one each."""


class Chooser(Protocol):
    """A probe, as far as its layers are concerned."""

    needs: ClassVar[Needs]
    layers: Sequence[str] | None
    left_out: frozenset[str]


def ask(needs: Needs, layers: Sequence[str]) -> Kinds:
    """Says what a probe asks of a pass."""
    asked = {kind: tuple(layers) for kind, need in _NEEDS.items() if getattr(needs, need)}
    whole = {"outputs": needs.outputs, "features": needs.features}
    return asked | {kind: ("",) for kind, wanted in whole.items() if wanted}


def ask_all(asked: Sequence[Kinds], order: Sequence[str]) -> Kinds:
    """Joins what several ask for, the layers of each kind in an order that all processes share."""
    wanted = {kind: {layer for one in asked for layer in one.get(kind, ())} for kind in _NEEDS}
    features = ("",) if any("features" in one for one in asked) else ()
    return {"outputs": ("",), "features": features} | {
        kind: tuple(layer for layer in order if layer in layers) for kind, layers in wanted.items()
    }


def trouble_of(asked: Kinds, troubles: Mapping[tuple[str, str], Exception]) -> Exception | None:
    """Finds what kept a probe from one of the things that it asked for, if anything did."""
    keys = [key for kind, layers in asked.items() for key in ((kind, ""), *((kind, layer) for layer in layers))]
    return next((troubles[key] for key in (("", ""), *keys) if key in troubles), None) if asked else None


def pass_bank(
    module: nn.Module, bank: StimulusBank, asked: Kinds, device: torch.device
) -> tuple[looking.Pass, dict[str, Convolution], Troubles]:
    """Runs stimuli through the network once; or twice if it runs, but not so that it can be differentiated.

    Every process calls it. Nothing is raised.

    Args:
        module: the network.
        bank: the stimuli.
        asked: what `ask_all` gives.
        device: of the network.

    Returns:
        What could be had in all processes; how the convolutions among the inputs' layers work; the errors of the rest.
    """
    seen, troubles = _try_pass(module, bank, asked, device)
    plain = {kind: () if kind in _DIFFERENTIATED else layers for kind, layers in asked.items()}
    if ("", "") in troubles and plain != asked:
        error = troubles["", ""]
        seen, troubles = _try_pass(module, bank, plain, device)
        troubles |= {(kind, ""): error for kind in _DIFFERENTIATED if asked[kind]}
    convolutions = dict[str, Convolution]()
    for layer in seen.inputs:
        try:
            convolutions[layer] = looking.describe_convolution(module, layer)
        except Exception as error:
            troubles["inputs", layer] = error
    troubles = _share(asked, troubles, device)
    for kind, layer in _keys(asked):
        if kind in _NEEDS and trouble_of({kind: (layer,)}, troubles):
            getattr(seen, kind).pop(layer, None)
    return seen, convolutions, troubles


def _try_pass(
    module: nn.Module, bank: StimulusBank, asked: Kinds, device: torch.device
) -> tuple[looking.Pass, Troubles]:
    layers: dict[str, Any] = {kind: asked[kind] for kind in _NEEDS if kind != "activations"}
    seen, troubles = looking.Pass(), Troubles()
    try:
        seen = looking.run_bank(module, bank, asked["activations"], **layers, features=bool(asked.get("features")))
        troubles |= seen.troubles
    except Exception as error:
        troubles["", ""] = error
    if not looking.agree([("", "") in troubles], device)[0]:
        return seen, troubles
    return looking.Pass(), {("", ""): troubles.get(("", ""), RuntimeError(_ELSEWHERE))}


def _share(asked: Kinds, troubles: Troubles, device: torch.device) -> Troubles:
    """Makes what fails in one process fail in all."""
    keys = [("", ""), *_keys(asked)]
    failed = looking.agree([key in troubles for key in keys], device)
    error = RuntimeError(_ELSEWHERE)
    return {key: troubles.get(key, error) for key, missing in zip(keys, failed, strict=True) if missing}


def _keys(asked: Kinds) -> list[tuple[str, str]]:
    return [(kind, layer) for kind, layers in asked.items() for layer in dict.fromkeys(("", *layers))]


def leave_out(module: nn.Module, bank: StimulusBank, probes: Mapping[str, Chooser], device: torch.device) -> None:
    """Tells probes that name no layers which of the network's do not give what they need, and says it once of each.

    Every process calls it. A few stimuli pass the network, as in a look.
    """
    asking = {name: own for name, own in probes.items() if own.layers is None and _of_default(own.needs)}
    if not asking or any(map(is_lazy, module.parameters())):
        return
    layers = looking.default_layers(module)
    wanted = {kind for probe in asking.values() for kind in _of_default(probe.needs)}
    able = {"inputs": looking.find_convolution, "squares": looking.find_leaves}
    asked = {kind: _able(module, layers, able.get(kind)) if kind in wanted else () for kind in _NEEDS}
    with isolate_rng(), full_precision():
        *_, troubles = pass_bank(module, looking.first_stimuli(bank, _FEW), {"outputs": ("",), **asked}, device)
    for name, probe in asking.items():
        found = [(layer, kind) for layer in layers for kind in _of_default(probe.needs) if (kind, layer) in troubles]
        why = {layer: troubles[kind, layer] for layer, kind in reversed(found)}
        probe.left_out = frozenset(why)
        if why:
            left, reasons = ", ".join(reversed(why)), " ".join(map(str, reversed(why.values())))
            rank_zero_warn(f"{name} leaves out {left}. {reasons}")


def _of_default(needs: Needs) -> list[str]:
    """Which kinds a layer has to give, so that a probe that names none can look at it."""
    seen = needs.activations or needs.pooled or (needs.network and not needs.weights)
    moved = needs.bank_gradients or needs.token_gradients or (needs.network and needs.weights)
    kinds = {"activations": seen, "inputs": needs.inputs, "gradients": moved, "squares": needs.gradient_squares}
    return [kind for kind, wanted in kinds.items() if wanted]


def _able(module: nn.Module, layers: Sequence[str], check: Callable[[nn.Module, str], Any] | None) -> tuple[str, ...]:
    """The layers that a check refuses none of."""
    able: list[str] = []
    for layer in layers:
        try:
            if check is not None:
                check(module, layer)
        except ValueError:  # whoever needs them is told by its own check
            continue
        able.append(layer)
    return tuple(able)
