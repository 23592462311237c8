"""A pass of stimuli through the network for all that is asked of it, and whose trouble it is if some cannot be had."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from lightning_emerge.capture import Pass, agree, first_stimuli, match_layers, run_bank
from lightning_emerge.capture.layouts import Layouts
from lightning_emerge.capture.needs import Need
from lightning_emerge.capture.needs.base import complete
from lightning_emerge.capture.needs.sound import Sound
from lightning_emerge.capture.sketch import Sketch, sketching
from lightning_emerge.capture.troubles import Key
from lightning_emerge.engine.device import full_precision
from lightning_emerge.records import StimulusBank

Kinds = dict[Need, tuple[str, ...]]
"""What is asked for: which needs, of which layers; the layer is "" of what is the whole network's."""

Troubles = dict[Key, Exception]
"""What could not be had, (need, layer) -> error: with "" for the layer nothing of the need, with no need nothing."""

_ALL: Key = (None, "")
_ELSEWHERE = "another process could not run the stimulus bank, or not for what the probe needs"
_FEW = 3
"""Stimuli that are tried: with one, a row for all would look like one each; an axis of as many positions is rare."""


def ask(needs: Iterable[Need], layers: Sequence[str]) -> Kinds:
    """Says what a probe asks of a pass."""
    return {need: ("",) if need.whole else tuple(layers) for need in complete(needs) if need.passes}


def ask_all(asked: Sequence[Kinds], order: Sequence[str]) -> Kinds:
    """Joins what several ask for, and whether outputs are finite; layers in an order that all processes share."""
    wanted: dict[Need, set[str]] = {Sound(): {""}}
    for one in asked:
        for need, layers in one.items():
            wanted.setdefault(need, set()).update(layers)
    return {need: tuple(layer for layer in ("", *order) if layer in layers) for need, layers in wanted.items()}


def trouble_of(asked: Kinds, troubles: Mapping[Key, Exception]) -> Exception | None:
    """Finds what kept a probe from one of the things that it asked for, if anything did."""
    keys: list[Key] = [key for need, layers in asked.items() for key in ((need, ""), *((need, one) for one in layers))]
    return next((troubles[key] for key in (_ALL, *keys) if key in troubles), None) if asked else None


def pass_bank(
    module: nn.Module,
    bank: StimulusBank,
    asked: Kinds,
    device: torch.device,
    *,
    shared: bool = True,
    layouts: Layouts | None = None,
) -> tuple[Pass, Troubles]:
    """Runs stimuli through the network once; or twice if it runs, but not so that it can be differentiated.

    Every process calls it. Nothing is raised.

    Args:
        module: the network.
        bank: the stimuli.
        asked: what `ask_all` gives.
        device: of the network.
        shared: whether processes share the bank, or each passes all of it.
        layouts: name of a call of a layer -> how what it gives lies.

    Returns:
        What could be had in all processes; the errors of the rest.
    """
    run = partial(run_bank, module, bank, shared=shared, layouts=layouts)
    seen, troubles = _try_pass(run, asked, device)
    plain = {need: layers for need, layers in asked.items() if not need.differentiates}
    if _ALL in troubles and plain != asked:
        error = troubles[_ALL]
        seen, troubles = _try_pass(run, plain, device)
        troubles |= {(need, ""): error for need in asked if need.differentiates}
    troubles = _share(asked, troubles, seen.unmoved, device)
    given = seen.unmoved | {(need, layer): own for need, found in seen.found.items() for layer, own in found.items()}
    keys = [_ALL, *((need, layer) for need, layers in asked.items() for layer in layers)]
    absent = agree([given.get(key) is None for key in keys], device)  # a need may find nothing in one process
    had = [key for key, none in zip(keys, absent, strict=True) if not none and not trouble_of(_only(key), troubles)]
    seen.found = {need: {layer: given[own, layer] for own, layer in had if own == need} for need in asked}
    return seen, troubles


def _only(key: Key) -> Kinds:
    need, layer = key
    return {need: (layer,)}


def _try_pass(run: Callable[[Kinds], Pass], asked: Kinds, device: torch.device) -> tuple[Pass, Troubles]:
    seen, troubles = Pass(), Troubles()
    try:
        seen = run(asked)
        troubles |= seen.troubles
    except Exception as error:
        troubles[_ALL] = error
    if not agree([_ALL in troubles], device)[0]:
        return seen, troubles
    return Pass(), {_ALL: troubles.get(_ALL, RuntimeError(_ELSEWHERE))}


def _share(asked: Kinds, troubles: Troubles, unmoved: Mapping[Key, object], device: torch.device) -> Troubles:
    """Makes what fails in one process fail in all; what no stimulus moves in one is missing if none does in any."""
    keys = [_ALL, *_keys(asked)]
    failed = agree([key in troubles and key not in unmoved for key in keys], device)
    moved = agree([key not in troubles and key not in unmoved for key in keys], device)
    error, rows = RuntimeError(_ELSEWHERE), zip(keys, failed, moved, strict=True)
    return {key: troubles.get(key, error) for key, missing, had in rows if missing or not had}


def _keys(asked: Kinds) -> list[Key]:
    return [(need, layer) for need, layers in asked.items() for layer in dict.fromkeys(("", *layers))]


def sketch_network(module: nn.Module, bank: StimulusBank, device: torch.device) -> Sketch:
    """Passes a few stimuli, to see what of the network they reach. Every process calls it, and passes the same ones.

    Returns:
        The same in all processes: nothing where the network fails in any, as the trial of its layers will say.
    """
    few, sketch = first_stimuli(bank, _FEW), Sketch()
    for pattern in bank.task.channels:
        match_layers(module, [pattern])  # says before training which layers there are not
    with isolate_rng(), full_precision():
        try:
            with sketching(module, len(few), bank.task) as sketch:
                run_bank(module, few, {}, shared=False)
            failed = False
        except Exception:
            failed = True
    return Sketch() if agree([failed], device)[0] else sketch


def try_layers(
    module: nn.Module, bank: StimulusBank, asked: Kinds, device: torch.device, layouts: Layouts | None = None
) -> dict[Key, str]:
    """Passes a few stimuli, to see what single layers cannot give. Every process calls it, and passes the same ones.

    Where the network itself fails, needs say which layers are untried. Of all else the look will say so, as of the
    loss.

    Args:
        module: the network.
        bank: whose first stimuli pass.
        asked: need -> layers to be tried.
        device: of the network.
        layouts: name of a call of a layer -> how what it gives lies.

    Returns:
        (need, layer) -> why not, the same in all processes.
    """
    if not any(asked.values()):
        return {}
    passing = {need: layers for need, layers in ask_all([asked], _all_layers(asked)).items() if need.passes}
    refused = dict[Key, str]()
    with isolate_rng(), full_precision(), ExitStack() as stack:
        watching = {need: stack.enter_context(need.try_out(module, layers)) for need, layers in asked.items()}
        _, troubles = pass_bank(module, first_stimuli(bank, _FEW), passing, device, shared=False, layouts=layouts)
        for need, found in watching.items():
            unfit = need.misfits(layouts or {}, asked[need])
            refused |= {(need, layer): why for layer, why in (*found.items(), *unfit.items())}
    keys: list[Key] = [(need, layer) for need, layers in asked.items() for layer in layers]
    if _ALL in troubles:
        untried = {(need, layer): need.untried(layer, troubles[_ALL]) for need, layer in keys if need is not None}
        return {key: why for key, why in untried.items() if why is not None}
    elsewhere = agree([key in refused for key in keys], device)
    found = {key: refused.get(key, _ELSEWHERE) for key, one in zip(keys, elsewhere, strict=True) if one}
    return found | {(need, layer): str(error) for (need, layer), error in troubles.items() if layer}


def _all_layers(asked: Kinds) -> tuple[str, ...]:
    return tuple(dict.fromkeys(layer for layers in asked.values() for layer in layers))
