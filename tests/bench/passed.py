"""One pass of a bank, asked for in words: for tests and benches that look at what needs find, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import lightning_emerge as le
from lightning_emerge import capture

KINDS: dict[str, le.Need] = {
    "outputs": le.Outputs(),
    "activations": le.Activations(),
    "pooled": le.Pooled(),
    "inputs": le.Inputs(),
    "gradients": le.BankGradients(),
    "token_gradients": le.TokenGradients(),
    "squares": le.GradientSquares(),
    "features": le.Features(),
}
NAMES = {need: kind for kind, need in KINDS.items()}


@dataclass
class Passed:
    """What was found by layer, and the errors of the rest by kind and layer."""

    outputs: torch.Tensor
    activations: dict[str, torch.Tensor]
    pooled: dict[str, torch.Tensor]
    inputs: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]
    token_gradients: dict[str, torch.Tensor]
    squares: dict[str, torch.Tensor]
    features: torch.Tensor | None
    readout: torch.Tensor | None
    troubles: dict[tuple[str, str], Exception]


def run_bank(
    module: nn.Module, bank: le.StimulusBank, layers: Sequence[str], *, features: bool = False, **kinds: Sequence[str]
) -> Passed:
    """Passes a bank in one process.

    Args:
        module: the network.
        bank: the stimuli.
        layers: whose outputs to keep.
        features: whether to keep what the last linear map gets.
        kinds: one of `KINDS` -> layers.
    """
    asked = {"outputs": [""], "activations": layers, **kinds, "features": [""] if features else []}
    seen = capture.run_bank(module, bank, {KINDS[kind]: layers for kind, layers in asked.items()})
    found: dict[str, dict[str, Any]] = {kind: seen.found.get(need, {}) for kind, need in KINDS.items()}
    ends = found.pop("features").get("")
    outputs = found.pop("outputs").get("", torch.empty(0))
    fed = {layer: own.rows for layer, own in found.pop("inputs").items()}
    troubles = {(NAMES[need], layer): error for (need, layer), error in seen.troubles.items()}
    last = (None, None) if ends is None else (ends.rows, ends.readout)
    return Passed(outputs=outputs, inputs=fed, features=last[0], readout=last[1], troubles=troubles, **found)
