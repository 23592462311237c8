"""Outputs and responses of layers: noise, or noise about means of tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from math import sqrt

import numpy as np
import torch
from scipy.stats import norm, pearsonr
from sklearn.linear_model import Ridge
from sklearn.metrics import silhouette_score
from torch import Tensor
from torch.nn.functional import one_hot

import lightning_emerge as le
from trials.common import (
    LABELS,
    OWN,
    STIMULI,
    TOKENS,
    Array,
    Row,
    Trial,
    first_layer,
    mean,
    off_diagonal,
    random,
    rendered,
    seeded,
)

UNITS = 60
MANY = 20_000  # stimuli of an oracle
LIFT = 1.5
SPREAD = torch.linspace(0.6, 1.4, UNITS).double()
NOISE = (SPREAD[:, None] * SPREAD * 0.5 ** (torch.arange(UNITS)[:, None] - torch.arange(UNITS)).abs()).numpy()
"""Covariance: neighbouring units share noise, and some have more of it than others."""
MIXING = torch.from_numpy(np.linalg.cholesky(NOISE).T)
MEANS = 0.5 * random(TOKENS, UNITS, seed=901).double()
MEANS[1] = 0.7 * MEANS[0] + 0.7 * MEANS[1]  # two tokens are alike
MEANS *= torch.tensor([1.4, 1.4, 1.0, 0.8, 0.5])[:, None].double()
MEANS += 0.5 * random(UNITS, seed=906).double()  # what all stimuli share


def pairs_of(values: Array, *, same: bool) -> float:
    """Mean over pairs of stimuli of one token, or of two."""
    alike = (LABELS[:, None] == LABELS[None, :]).numpy()
    chosen = alike & ~np.eye(STIMULI, dtype=bool) if same else ~alike
    return float(values[..., chosen].mean())


def outputs(seed: int, lift: float) -> le.Capture:
    outputs = random(STIMULI, TOKENS, seed=seed) + lift * OWN
    return le.Capture(0, (), rendered(), activations={}, unfiltered={}, outputs=outputs, features=None, readout=None)


def outputs_truth() -> tuple[float, float]:
    """Accuracy and confidence of normal outputs of which the right one is lifted."""
    at = np.linspace(-9, 9, 4001)
    accuracy = np.trapezoid(norm.pdf(at - LIFT) * norm.cdf(at) ** (TOKENS - 1), at)
    many = random(50 * MANY, TOKENS, seed=902) + LIFT * one_hot(torch.tensor([0]), TOKENS)
    return float(accuracy), float(many.softmax(dim=1)[:, 0].mean())


def of_outputs() -> Trial:
    accuracy, confidence = outputs_truth()
    return Trial(
        lambda _: le.CategoryProbe(),
        partial(outputs, lift=0),
        partial(outputs, lift=LIFT),
        "normal outputs",
        f"right output lifted by {LIFT}",
        (
            Row("bank_accuracy", 0.2, accuracy),
            Row("bank_accuracy_mean", 0.2, accuracy),
            Row("bank_confidence", 0.2, confidence),
        ),
    )


def responses(labels: Tensor, means: Tensor | None, seed: int) -> Tensor:
    noise = random(len(labels), UNITS, seed=seed).double() @ MIXING
    return (noise if means is None else noise + means[labels]).float()


def decisions(units: Tensor, means: Tensor | None, seed: int) -> Tensor:
    """Outputs that name the nearest of the true means, but in 30% of the stimuli another token; or any at all."""
    if means is None:
        return random(len(units), TOKENS, seed=seed)
    nearest = torch.cdist(units.double(), means).argmin(dim=1)
    other = torch.rand(len(units), generator=seeded(seed)) < 0.3
    shift = torch.randint(1, TOKENS, (len(units),), generator=seeded(seed + 1))
    return one_hot((nearest + other * shift) % TOKENS, TOKENS).float()


def told(seed: int, means: Tensor | None) -> le.Capture:
    units = responses(LABELS, means, seed)
    logits = decisions(units, means, seed + 5000)
    head = random(TOKENS, UNITS, seed=seed + 7000)
    if means is not None:
        head = (means - means.mean(dim=0)).float() + head
    return le.Capture(
        0,
        ("units",),
        rendered(),
        activations={"units": units},
        unfiltered={},
        outputs=logits,
        features=units,
        readout=head,
    )


FILTERS, INDEX = 40, 0.6


def firing(seed: int, sparse: bool, index: float) -> le.Capture:
    """Filters that fire for 2% of the stimuli, whichever; or for all, for a token each more than for the others."""
    strength = random(STIMULI, FILTERS, seed=seed).square()
    if sparse:
        rows = strength * (torch.rand(STIMULI, FILTERS, generator=seeded(seed + 8000)) < 0.02)
    else:
        own = torch.arange(FILTERS) % TOKENS == LABELS[:, None]
        rows = strength * torch.where(own, 1 + index, 1 - index)
    head = random(TOKENS, FILTERS, seed=1)
    units = {"filters": rows}
    return le.Capture(
        0, ("filters",), rendered(), activations=units, unfiltered={}, outputs=OWN, features=rows, readout=head
    )


def of_selectivity() -> Trial:
    return Trial(
        lambda _: le.CategoryProbe(),
        partial(firing, sparse=True, index=0.0),
        partial(firing, sparse=False, index=INDEX),
        "filters that fire for 2% of the stimuli, of any token",
        f"filters that respond {(1 + INDEX) / (1 - INDEX):g} times as much to a token",
        (
            Row("class_selectivity", 0.0, INDEX),
            Row("filter_selective", None, 1.0),
            Row("selective_share", None, 1 / TOKENS),
        ),
    )


def spread(seed: int, dimensions: int) -> le.Capture:
    """300 units, more than there are stimuli, that vary in so many directions alike."""
    units = random(STIMULI, dimensions, seed=seed)
    if dimensions < 300:
        units = units @ torch.linalg.qr(random(300, dimensions, seed=904))[0].T
    head = random(TOKENS, 300, seed=1)
    rows = {"units": units}
    return le.Capture(
        0, ("units",), rendered(), activations=rows, unfiltered={}, outputs=OWN, features=units, readout=head
    )


def of_dimensions() -> Trial:
    return Trial(
        lambda _: le.CategoryProbe(),
        partial(spread, dimensions=300),
        partial(spread, dimensions=20),
        "300 independent units",
        "300 units that vary in 20 directions",
        (Row("participation_ratio", 300.0, 20.0, first_layer),),
    )


@dataclass(frozen=True)
class Oracle:
    """What is true of the planted means, from the covariances, or from `MANY` stimuli."""

    nearest: float
    ridge: float
    silhouette: float
    variability: float
    norms: float
    angles: float
    duality: float
    crossnobis: float
    token_distance: float
    within: float
    between: float
    model: float


@cache
def oracle() -> Oracle:
    means = MEANS.numpy()
    centred = means - means.mean(axis=0)
    between = centred.T @ centred / TOKENS
    lengths = np.linalg.norm(centred, axis=1)
    cosines = centred @ centred.T / np.outer(lengths, lengths)
    above = np.triu_indices(TOKENS, 1)
    apart = np.stack([means[a] - means[b] for a, b in zip(*above, strict=True)])
    size = sqrt(np.square(centred).sum() + TOKENS * UNITS)  # with the noise of the weight
    distances = _correlation_distances(_many(2000)[0])
    alike = np.equal.outer(_many(2000)[1], _many(2000)[1])
    different = ~np.eye(len(alike), dtype=bool)
    return Oracle(
        *_read_outs(),
        float(silhouette_score(distances, _many(2000)[1], metric="precomputed")),
        float(np.trace(NOISE) / np.trace(between)),
        float(lengths.std() / lengths.mean()),
        float(np.abs(cosines[above] + 1 / (TOKENS - 1)).mean()),
        float(2 - 2 * np.square(centred).sum() / (size * np.linalg.norm(centred))),
        float(np.einsum("pu,uv,pv->p", apart, np.linalg.inv(NOISE), apart).mean() / UNITS),
        float(1 - np.corrcoef(means)[0, 1]),
        float(distances[alike & different].mean()),
        float(distances[~alike].mean()),
        float(pearsonr(distances[different], (~alike)[different])[0]),
    )


@cache
def _many(count: int) -> tuple[Array, Array]:
    labels = torch.arange(count) % TOKENS
    return responses(labels, MEANS, 903).numpy().astype(np.float64), labels.numpy()


def _correlation_distances(rows: Array) -> Array:
    distances = 1 - np.corrcoef(rows)
    np.fill_diagonal(distances, 0)
    return distances


def _read_outs() -> tuple[float, float]:
    """Accuracy in many stimuli of read-outs that were fitted to as many as four folds are, over 20 draws."""
    tests, names = _many(MANY)
    train = LABELS.numpy()[np.arange(STIMULI) % 5 > 0]
    nearest, ridge = [], []
    for seed in range(20):
        rows = responses(torch.from_numpy(train), MEANS, 7_000_000 + seed).numpy().astype(np.float64)
        centres = np.stack([rows[train == token].mean(axis=0) for token in range(TOKENS)])
        far = -2 * tests @ centres.T + np.square(centres).sum(axis=1)
        nearest.append(np.mean(far.argmin(axis=1) == names))
        penalty = 0.01 * np.square(rows - rows.mean(axis=0)).sum(axis=1).mean()
        fitted = Ridge(alpha=penalty).fit(rows, np.eye(TOKENS)[train])
        ridge.append(np.mean(fitted.predict(tests).argmax(axis=1) == names))
    return float(np.mean(nearest)), float(np.mean(ridge))


def of_means(probe: Callable[[], le.Probe], rows: tuple[Row, ...]) -> Trial:
    worlds = partial(told, means=None), partial(told, means=MEANS)
    return Trial(lambda _: probe(), *worlds, "noise that units share", "means of tokens", rows)


def of_responses() -> Trial:
    true = oracle()
    return of_means(
        le.CategoryProbe,
        (
            Row("nearest_mean_accuracy", 0.2, true.nearest, first_layer),
            Row("ridge_accuracy", 0.2, true.ridge, first_layer),
            Row("silhouette", None, true.silhouette, first_layer),
            Row("collapse_variability", None, true.variability, first_layer),
            Row("collapse_norms", None, true.norms, first_layer),
            Row("collapse_angles", None, true.angles, first_layer),
            Row("collapse_duality", 2.0, true.duality),
            Row("collapse_disagreement", None, 0.3, first_layer),
        ),
    )


def of_geometry() -> Trial:
    true = oracle()
    return of_means(
        le.SimilarityProbe,
        (
            Row("rdm", 1.0, true.within, lambda values: pairs_of(values[0], same=True)),
            Row("token_rdm", 1.0, true.token_distance, lambda values: float(values[0, 0, 1])),
            Row("token_crossnobis", 0.0, true.crossnobis, lambda values: off_diagonal(values[0])),
            Row("distance_within", 1.0, true.within, first_layer),
            Row("distance_between", 1.0, true.between, first_layer),
            Row("distance_ratio", 1.0, true.within / true.between, first_layer),
            Row("model_fit", 0.0, true.model, lambda values: float(values[0, 0])),
        ),
    )


def aligned(seed: int, shared: bool) -> le.Capture:
    """Two layers, half of whose units are those of the other, or none."""
    own = [random(STIMULI, UNITS, seed=2 * seed + k) for k in range(2)]
    if shared:
        own[1] = torch.cat([own[0][:, : UNITS // 2], own[1][:, UNITS // 2 :]], dim=1)
    return le.Capture(0, ("a", "b"), rendered(), activations=dict(zip("ab", own, strict=True)))


def of_alignment() -> Trial:
    return Trial(
        lambda _: le.SimilarityProbe(),
        partial(aligned, shared=False),
        partial(aligned, shared=True),
        "two layers of noise",
        "half of their units shared",
        (Row("cka", 0.0, 0.5, off_diagonal),),
    )


def of_distances() -> Trial:
    noise = 2 * np.trace(NOISE) / UNITS
    apart = torch.cdist(MEANS, MEANS).square().numpy().sum() / (TOKENS * (TOKENS - 1)) / UNITS

    def between(values: Array) -> float:
        return float(np.square(values[0])[LABELS[:, None] != LABELS[None, :]].mean())

    return Trial(
        lambda _: le.EmbeddingProbe(),
        partial(told, means=None),
        partial(told, means=MEANS),
        "noise that units share",
        "means of tokens",
        (Row("distances", noise, noise + apart, between),),
    )


def of_components() -> Trial:
    return Trial(
        lambda _: le.EmbeddingProbe(),
        partial(spread, dimensions=300),
        partial(spread, dimensions=4),
        "300 independent units",
        "300 units that vary in 4 directions alike",
        (Row("variance_share", None, 0.25, lambda values: mean(values[0, :4])),),
    )
