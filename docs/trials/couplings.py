"""Two convolutions: kernels at random, or each filter with one input that it passes on."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache, partial
from math import sqrt

import torch
from torch import nn

import lightning_emerge as le
from lightning_emerge.records import Convolution
from trials.common import STIMULI, Array, Row, Trial, mean, random, rendered

FILTERS, SIDE, TAP = 16, 8, 0.2
REACH = 9 * TAP  # of a whole kernel, where all else that a filter says varies by 1
LAYERS = ("before", "layer")
WIRED = torch.arange(FILTERS), torch.arange(FILTERS).roll(5)  # filters, and the input that each passes on


@cache
def network() -> nn.Module:
    modules = [nn.Conv2d(3, FILTERS, 3), nn.Conv2d(FILTERS, FILTERS, 3)]
    return nn.Sequential(OrderedDict(zip(LAYERS, modules, strict=True)))


def probe(seed: int) -> le.CouplingProbe:
    found = le.CouplingProbe(seed=seed)
    found.check(network())
    return found


def wired(seed: int, tap: float) -> le.Capture:
    inputs = random(STIMULI, FILTERS, 1, 1, seed=2 * seed).abs().repeat(1, 1, SIDE, SIDE)
    weight = random(FILTERS, FILTERS, 3, 3, seed=2 * seed + 1) / sqrt(9 * FILTERS)
    weight[WIRED] += tap
    made = Convolution((1, 1), (1, 1), (0, 0, 0, 0), torch.ones(FILTERS), torch.zeros(FILTERS), False)
    pooled = inputs.mean(dim=(2, 3))
    return le.Capture(
        0,
        LAYERS,
        rendered(),
        pooled=dict.fromkeys(LAYERS, pooled),
        inputs={"layer": inputs},
        convolutions={"layer": made},
        weights={"before": random(FILTERS, 3, 3, 3, seed=1), "layer": weight},
        followers=(LAYERS,),
    )


def of_couplings() -> Trial:
    def planted(values: Array) -> float:
        return mean(values[(0, *(part.numpy() for part in WIRED))])

    def by_weight(values: Array) -> float:
        return float(values[0, 0])

    return Trial(
        probe,
        partial(wired, tap=0.0),
        partial(wired, tap=TAP),
        "kernels at random",
        "each filter passes one input on, nearly twice as large as all else that it says",
        (
            Row("coupling_weight", 0.0, None, planted),
            Row("coupling_effective", 0.0, None, planted),
            Row("coupling_activation", 0.0, REACH / sqrt(1 + REACH**2), planted),
            Row("coupling_threshold", None, None, by_weight),
            Row("coupling_edges", None, 1 / FILTERS, by_weight),
        ),
    )
