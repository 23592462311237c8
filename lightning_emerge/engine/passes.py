"""A pass of stimuli through the network for all that is asked of it, and whose trouble it is if some cannot be had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from lightning_emerge.capture import Pass, agree, describe_convolution, first_stimuli, refuse_filters, run_bank
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
"""Stimuli that are tried: with one, a row for all would look like one each; an axis of as many positions is rare."""


_UNTRIED = (
    "Filters are looked at where they are the second axis of a layer's output; where {!r} has them is not known, as "
    "the network failed: {}"
)


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
    module: nn.Module, bank: StimulusBank, asked: Kinds, device: torch.device, *, shared: bool = True
) -> tuple[Pass, dict[str, Convolution], Troubles]:
    """Runs stimuli through the network once; or twice if it runs, but not so that it can be differentiated.

    Every process calls it. Nothing is raised.

    Args:
        module: the network.
        bank: the stimuli.
        asked: what `ask_all` gives.
        device: of the network.
        shared: whether processes share the bank, or each passes all of it.

    Returns:
        What could be had in all processes; how the convolutions among the inputs' layers work; the errors of the rest.
    """
    seen, troubles = _try_pass(module, bank, asked, device, shared=shared)
    plain = {kind: () if kind in _DIFFERENTIATED else layers for kind, layers in asked.items()}
    if ("", "") in troubles and plain != asked:
        error = troubles["", ""]
        seen, troubles = _try_pass(module, bank, plain, device, shared=shared)
        troubles |= {(kind, ""): error for kind in _DIFFERENTIATED if asked[kind]}
    convolutions = dict[str, Convolution]()
    for layer in seen.inputs:
        try:
            convolutions[layer] = describe_convolution(module, layer)
        except Exception as error:
            troubles["inputs", layer] = error
    troubles = _share(asked, troubles, seen.unmoved, device)
    for kind in _NEEDS:
        given = getattr(seen, kind) | {layer: zeros for (own, layer), zeros in seen.unmoved.items() if own == kind}
        had = [layer for layer in asked[kind] if not trouble_of({kind: (layer,)}, troubles)]
        setattr(seen, kind, {layer: given[layer] for layer in had})  # in the order that all processes share
    return seen, convolutions, troubles


def _try_pass(
    module: nn.Module, bank: StimulusBank, asked: Kinds, device: torch.device, *, shared: bool
) -> tuple[Pass, Troubles]:
    layers: dict[str, Any] = {kind: asked[kind] for kind in _NEEDS if kind != "activations"}
    seen, troubles = Pass(), Troubles()
    try:
        features = bool(asked.get("features"))
        seen = run_bank(module, bank, asked["activations"], **layers, features=features, shared=shared)
        troubles |= seen.troubles
    except Exception as error:
        troubles["", ""] = error
    if not agree([("", "") in troubles], device)[0]:
        return seen, troubles
    return Pass(), {("", ""): troubles.get(("", ""), RuntimeError(_ELSEWHERE))}


def _share(
    asked: Kinds, troubles: Troubles, unmoved: Mapping[tuple[str, str], object], device: torch.device
) -> Troubles:
    """Makes what fails in one process fail in all; what no stimulus moves in one is missing if none does in any."""
    keys = [("", ""), *_keys(asked)]
    failed = agree([key in troubles and key not in unmoved for key in keys], device)
    moved = agree([key not in troubles and key not in unmoved for key in keys], device)
    error, rows = RuntimeError(_ELSEWHERE), zip(keys, failed, moved, strict=True)
    return {key: troubles.get(key, error) for key, missing, had in rows if missing or not had}


def _keys(asked: Kinds) -> list[tuple[str, str]]:
    return [(kind, layer) for kind, layers in asked.items() for layer in dict.fromkeys(("", *layers))]


def try_layers(module: nn.Module, bank: StimulusBank, asked: Kinds, device: torch.device) -> dict[tuple[str, str], str]:
    """Passes a few stimuli, to see what single layers cannot give. Every process calls it, and passes the same ones.

    Where the network itself fails it is not known where filters are. Of all else the look will say so, as of the loss.

    Args:
        module: the network.
        bank: whose first stimuli pass.
        asked: what `ask_all` gives.
        device: of the network.

    Returns:
        (kind, layer) -> why not, the same in all processes. The kind "filters" is of the layers whose activations are
        asked for.
    """
    seen = asked["activations"]
    if not any(asked[kind] for kind in _NEEDS):
        return {}
    with isolate_rng(), full_precision(), refuse_filters(module, seen) as unfiltered:
        *_, troubles = pass_bank(module, first_stimuli(bank, _FEW), asked, device, shared=False)
    if ("", "") in troubles:
        return {("filters", layer): _UNTRIED.format(layer, troubles["", ""]) for layer in seen}
    elsewhere = agree([layer in unfiltered for layer in seen], device)
    found = {
        ("filters", layer): unfiltered.get(layer, _ELSEWHERE) for layer, one in zip(seen, elsewhere, strict=True) if one
    }
    return found | {(kind, layer): str(error) for (kind, layer), error in troubles.items() if layer}
