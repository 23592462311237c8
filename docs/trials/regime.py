"""Networks that are compared with what they were: drawn anew, or changed in a known part."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from math import sqrt

import torch
from torch import Tensor

import lightning_emerge as le
from lightning_emerge.measures.regime import spread_stimuli
from trials.common import LABELS, OWN, STIMULI, TOKENS, Row, Trial, random, rendered

LAYER, SHAPE, FEATURES = ("layer",), (20, 3, 5, 5), 300
TURNED, SIZE = 6, 1.5
FEW, SOME = 10, 50
"""Stimuli of kernels, and of what layers give."""


class Readout:
    """Outputs are a weight times features of the stimuli, so that their tangent kernel is that of the features."""

    def __init__(self, features: Tensor) -> None:
        self.weight, self.features = torch.zeros(TOKENS, features.shape[1], requires_grad=True), features

    def __call__(self, inputs: Tensor) -> Tensor:
        return self.features[inputs.flatten(1)[:, 0].long()] @ self.weight.T

    def parameters(self, layers: Sequence[str]) -> dict[str, Tensor]:
        return dict.fromkeys(layers, self.weight)

    def normalise(self, inputs: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        return dict.fromkeys(layers, self.features[inputs.flatten(1)[:, 0].long()])


@cache
def numbered() -> le.StimulusBank:
    """A bank whose images are their stimuli's numbers."""
    images = torch.arange(STIMULI).float().view(-1, 1, 1, 1)
    return le.StimulusBank(images, LABELS, rendered().ids, rendered().tokens)


def capture_of(features: Tensor, then: Tensor, weight: Tensor, first: Tensor) -> le.Capture:
    """A network whose features and weight were others at its first look."""
    few, some = (then[spread_stimuli(LABELS, count)] for count in (FEW, SOME))
    kernel = torch.eye(TOKENS)[:, :, None, None] * (few @ few.T)
    kept = {"kernels": kernel[None], "grams": (some @ some.T)[None, None, None]}
    start = le.FirstLook(0, {"layer": first}, kept, now=False)
    return le.Capture(1, LAYER, numbered(), network=Readout(features), weights={"layer": weight}, start=start)


def changed(seed: int, kept: bool) -> le.Capture:
    """Features and weights of which nothing is as it was, or half of the features and most of the filters."""
    then, now = (random(STIMULI, FEATURES, seed=4 * seed + k) for k in range(2))
    first, weight = (random(*SHAPE, seed=4 * seed + k) for k in (2, 3))
    if kept:
        now = torch.cat([then[:, : FEATURES // 2], now[:, FEATURES // 2 :]], dim=1)
        apart = torch.linalg.qr(weight.flatten(1)[:TURNED].T).Q.T.view(TURNED, *SHAPE[1:])
        weight = first.clone()
        weight[:TURNED] += SIZE * first.norm() / sqrt(SHAPE[0]) * apart
    return capture_of(now, then, weight, first)


def of_regime() -> Trial:
    distance = SIZE * sqrt(TURNED / SHAPE[0])
    return Trial(
        lambda _: le.RegimeProbe(),
        partial(changed, kept=False),
        partial(changed, kept=True),
        "features and weights drawn anew",
        f"half of the features kept; {TURNED} of {SHAPE[0]} filters moved, each its own way, by {SIZE} of their size",
        (
            *(Row(name, 0.0, 0.5) for name in ("kernel_alignment", "kernel_alignment_total", "start_cka")),
            *(Row(name, 1.0, TURNED / SHAPE[0]) for name in ("turned_share", "turned_share_total")),
            Row("update_rank", None, TURNED / SHAPE[0]),
            *(Row(name, sqrt(2), distance) for name in ("relative_distance", "relative_distance_total")),
        ),
    )


def informed(seed: int, known: bool) -> le.Capture:
    """Features that are noise; or with one for each token, so that its kernel and that of noise are of one size."""
    noise = random(STIMULI, FEATURES, seed=seed)
    if known:
        own = LABELS[spread_stimuli(LABELS, FEW)]
        same = (own[:, None] == own[None, :]).double() * (1 - torch.eye(FEW))
        rows = same.sum(dim=1, keepdim=True) / (FEW - 2)
        centred = (same - rows - rows.T + same.sum() / ((FEW - 1) * (FEW - 2))) * (1 - torch.eye(FEW))
        size = float(centred.square().sum()) / (FEW * (FEW - 3))  # of a product of noise it is the variance
        noise = torch.cat([noise * (size / FEATURES) ** 0.25, OWN], dim=1)
    weight = torch.ones(SHAPE)
    return capture_of(noise, noise, weight, weight)


def of_informed_kernels() -> Trial:
    return Trial(
        lambda _: le.RegimeProbe(),
        partial(informed, known=False),
        partial(informed, known=True),
        "features of noise",
        "features of tokens, with as much noise",
        tuple(Row(name, 0.0, sqrt(0.5)) for name in ("kernel_token_alignment", "kernel_token_alignment_total")),
    )
