"""Weights, their gradients and the curvature of the loss: independent draws, or draws that share what is planted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import sqrt

import numpy as np
import torch
from scipy.stats import chi, norm
from torch import Tensor
from torch.nn.functional import cross_entropy

import lightning_emerge as le
from lightning_emerge.measures.gradient import BIN_EDGES
from lightning_emerge.records import PastLook
from trials.common import (
    LABELS,
    STIMULI,
    TOKENS,
    Array,
    Row,
    Trial,
    off_diagonal,
    random,
    rendered,
)

SHAPE = (20, 3, 5, 5)
SIZE, OF_FILTER = 20 * 75, 75
SHARED = 0.6  # of the cosine of what is planted
LAYER = ("layer",)


def alike(first: Tensor, seed: int, share: float) -> Tensor:
    """A tensor whose entries correlate so much with those of another."""
    return share * first + sqrt(1 - share**2) * random(*first.shape, seed=seed)


def weights(seed: int, share: float) -> le.Capture:
    first = random(*SHAPE, seed=3 * seed)
    now = alike(first, 3 * seed + 1, share)
    before = alike(now, 3 * seed + 2, share)
    now = now * (2 if share else 1)
    return le.Capture(
        2, LAYER, weights={"layer": now}, first=PastLook(0, {"layer": first}), previous=PastLook(1, {"layer": before})
    )


def of_weights() -> Trial:
    size = float(chi(OF_FILTER).mean())
    return Trial(
        lambda _: le.FilterProbe(),
        partial(weights, share=0.0),
        partial(weights, share=SHARED),
        "weights drawn anew",
        f"weights that keep a cosine of {SHARED} and double",
        (
            Row("filter_norm", size, 2 * size),
            Row("filter_cosine_start", 0.0, SHARED),
            Row("filter_cosine_before", 0.0, SHARED),
        ),
    )


def batches(seed: int, share: float, dead: int) -> le.Capture:
    before = random(*SHAPE, seed=4 * seed)
    start = random(*SHAPE, seed=4 * seed + 1)
    weight = start + 0.1 * random(*SHAPE, seed=4 * seed + 2) * (share > 0)
    update = 0.01 * weight.norm() * random(*SHAPE, seed=4 * seed + 3) / sqrt(SIZE) * (share > 0)
    fired = torch.arange(SHAPE[0]) >= dead
    return le.Capture(
        2,
        LAYER,
        weights={"layer": weight},
        gradients={"layer": alike(before, 4 * seed + 3, share) * (2 if share else 1)},
        updates={"layer": update},
        fired={"layer": fired},
        first=PastLook(0, {"layer": start}),
        previous=PastLook(1, {"layer": start}, {"layer": before}),
    )


def of_gradients() -> Trial:
    edges = 10.0 ** np.array(BIN_EDGES)
    unit, twice = (
        [2 * (norm.cdf(edges[k + 1] / scale) - norm.cdf(edges[k] / scale)) for k in range(len(edges) - 1)]
        for scale in (1, 2)
    )
    largest = int(np.argmax(twice))

    def bin_share(values: Array) -> float:
        return float(values[0, largest]) / SIZE

    return Trial(
        lambda _: le.GradientProbe(),
        partial(batches, share=0.0, dead=0),
        partial(batches, share=SHARED, dead=6),
        "gradients drawn anew, no update",
        f"gradients that keep a cosine of {SHARED} and double, an update of 1%, 6 of 20 channels dead",
        (
            Row("gradient_norm", float(chi(SIZE).mean()), 2 * float(chi(SIZE).mean())),
            Row("filter_gradient_norm", float(chi(OF_FILTER).mean()), 2 * float(chi(OF_FILTER).mean())),
            Row("gradient_magnitude", float(unit[largest]), float(twice[largest]), bin_share),
            Row("gradient_cosine", 0.0, SHARED),
            Row("update_ratio", 0.0, 0.01),
            Row("start_distance", 0.0, 0.1 * float(chi(SIZE).mean())),
            Row("dead_share", 0.0, 0.3),
        ),
    )


def pulls(seed: int, share: float) -> le.Capture:
    """Tokens' gradients that have a common part, or none."""
    common = random(1, *SHAPE, seed=2 * seed)
    own = random(TOKENS, *SHAPE, seed=2 * seed + 1)
    mixed = sqrt(share) * common + sqrt(1 - share) * own
    return le.Capture(0, LAYER, rendered(), token_gradients={"layer": mixed * (2 if share else 1)})


def of_pulls() -> Trial:
    size = float(chi(SIZE).mean())
    return Trial(
        lambda _: le.TokenGradientProbe(),
        partial(pulls, share=0.0),
        partial(pulls, share=0.3),
        "gradients of tokens drawn apart",
        "gradients with a common part: a cosine of 0.3",
        (
            Row("token_gradient_cosine", 0.0, 0.3, off_diagonal),
            Row("gradient_conflict", 0.5, 0.0),
            Row("token_gradient_norm", size, 2 * size),
        ),
    )


SMALL = (10, 6)


def noisy(seed: int, signal: float) -> le.Capture:
    """Gradients of single stimuli about a mean that all tokens share, or about none."""
    single = (random(STIMULI, *SMALL, seed=seed).double() + signal) * (2 if signal else 1)
    means = torch.stack([single[token == LABELS].mean(dim=0) for token in range(TOKENS)]).float()
    squares = single.square().mean(dim=0)
    return le.Capture(0, LAYER, rendered(), token_gradients={"layer": means}, gradient_squares={"layer": squares})


def of_noise() -> Trial:
    signal, size = 0.3, SMALL[0] * SMALL[1]
    return Trial(
        lambda _: le.GradientNoiseProbe(),
        partial(noisy, signal=0.0),
        partial(noisy, signal=signal),
        "gradients of stimuli that are noise",
        f"twice the noise, about a mean of {signal} of its standard deviations",
        (
            Row("gsnr", 0.0, signal**2),
            Row("gradient_signal", 0.0, 4 * size * signal**2),
            Row("gradient_variance", float(size), 4.0 * size),
            Row("noise_scale", None, 1 / signal**2),
            Row("noise_scale_total", None, 1 / signal**2),
        ),
    )


INPUTS = 12


class Linear:
    """Outputs are a weight times the images; without `reach` they do not depend on it."""

    def __init__(self, bank: le.StimulusBank, reach: float) -> None:
        self.weight = torch.zeros(TOKENS, INPUTS, requires_grad=True)
        self.bank, self.reach = bank, reach

    def loss(self, rows: Tensor) -> Tensor:
        outputs = self.reach * self.bank.images[rows].flatten(1) @ self.weight.T
        return cross_entropy(outputs, self.bank.labels[rows], reduction="sum")

    def parameters(self, layers: Sequence[str]) -> dict[str, Tensor]:
        return dict.fromkeys(layers, self.weight)


def curved(seed: int, reach: float) -> le.Capture:
    """A softmax at equal outputs, whose Hessian is (I / tokens - 1 / tokens^2) by the products of its inputs."""
    bank = rendered()
    images = random(STIMULI, INPUTS // 3, 1, 3, seed=seed)
    images[:, 0, 0, 0] *= 3
    own = le.StimulusBank(images, bank.labels, bank.ids, bank.tokens)
    return le.Capture(0, LAYER, own, network=Linear(own, reach))


def of_curvature() -> Trial:
    variances = torch.ones(INPUTS)
    variances[0] = 9
    trace = (1 - 1 / TOKENS) * float(variances.sum())
    squares = float(variances.square().sum())
    off = (TOKENS - 1) / TOKENS**2 * squares - (TOKENS - 1) ** 2 / TOKENS**3 * squares
    vectors = 20
    return Trial(
        lambda seed: le.CurvatureProbe(vectors=vectors, seed=seed),
        partial(curved, reach=0.0),
        partial(curved, reach=1.0),
        "outputs that no weight moves",
        "a softmax of a linear map: closed form",
        (
            Row("hessian_eigenvalue", 0.0, 9 / TOKENS, lambda values: float(np.nan_to_num(values[0]))),
            Row("hessian_trace", 0.0, trace),
            Row("hessian_trace_error", 0.0, sqrt(2 * off / vectors)),
            Row("hessian_layer_trace", 0.0, trace),
            Row("hessian_layer_trace_error", 0.0, sqrt(2 * off / vectors)),
        ),
    )
