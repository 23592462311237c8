"""Read-outs and clusters against scikit-learn and NumPy; planted tokens, and noise at chance."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestCentroid

from lightning_emerge.measures.geometry import deal_folds, layer_geometry
from lightning_emerge.measures.rdm import correlation_rdm
from lightning_emerge.measures.readout import (
    RIDGE,
    nearest_mean,
    nearest_mean_accuracy,
    participation_ratio,
    ridge_accuracy,
    silhouette,
)

LABELS = torch.arange(40) % 4


def planted(seed: int, noise: float, features: int = 30) -> torch.Tensor:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(4, features))
    return torch.from_numpy(centres[LABELS] + noise * random.normal(size=(40, features)) + 2)


@pytest.mark.parametrize("features", [3, 30, 200])
@pytest.mark.parametrize("noise", [0.5, 2.0, 5.0])
def test_read_outs_are_scikit_learns_over_the_same_folds(noise, features):
    rows, folds = planted(1, noise, features), deal_folds(LABELS, 5)
    x, y, at = rows.numpy(), LABELS.numpy(), folds.numpy()
    penalty = RIDGE * np.square(x - x.mean(axis=0)).sum(axis=1).mean()
    means, ridge = [], []
    for fold in range(5):
        train, test = at != fold, at == fold
        means.extend(NearestCentroid().fit(x[train], y[train]).predict(x[test]) == y[test])
        fitted = Ridge(alpha=penalty).fit(x[train], np.eye(4)[y[train]])
        ridge.extend(fitted.predict(x[test]).argmax(axis=1) == y[test])
    geometry = layer_geometry(rows)
    assert nearest_mean_accuracy(geometry, LABELS, folds).item() == pytest.approx(np.mean(means))
    assert ridge_accuracy(geometry, LABELS, folds).item() == pytest.approx(np.mean(ridge))
    assert nearest_mean(geometry, LABELS).tolist() == NearestCentroid().fit(x, y).predict(x).tolist()


def test_noise_is_read_out_at_chance_and_tokens_surely():
    folds = deal_folds(LABELS, 5)
    for read in (nearest_mean_accuracy, ridge_accuracy):
        scores = [read(layer_geometry(torch.randn(40, 60, generator=g)), LABELS, folds).item() for g in generators(40)]
        assert abs(np.mean(scores) - 0.25) < 3 * np.std(scores) / np.sqrt(40) + 0.01
        assert read(layer_geometry(planted(2, 0.1)), LABELS, folds) == 1


UNEQUAL = torch.arange(5).repeat_interleave(torch.tensor([60, 30, 20, 10, 5]))


@pytest.mark.parametrize("labels", [torch.arange(125) // 25, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("features", [5, 200])
@pytest.mark.parametrize("read", [nearest_mean_accuracy, ridge_accuracy])
def test_noise_is_read_out_at_one_over_the_number_of_tokens_however_many_stimuli_each_has(read, features, labels):
    folds = deal_folds(labels, 5)
    rows = [torch.randn(125, features, generator=g).relu() for g in generators(40)]
    scores = np.array([read(layer_geometry(x), labels, folds).item() for x in rows])
    assert abs(scores.mean() - 0.2) < 3 * scores.std(ddof=1) / np.sqrt(40)


@pytest.mark.parametrize("read", [nearest_mean_accuracy, ridge_accuracy])
def test_views_of_one_thing_that_follow_each_other_do_not_tell_a_token(read):
    """Stimuli are noise, each four times in a row with a little more: they know themselves, and no token."""
    labels, scores = torch.arange(160) // 40, []
    for g in generators(40):
        things = torch.randn(40, 50, generator=g).repeat_interleave(4, dim=0)
        rows = things + 0.1 * torch.randn(160, 50, generator=g)
        scores.append(read(layer_geometry(rows), labels, deal_folds(labels, 5)).item())
    assert abs(np.mean(scores) - 0.25) < 3 * np.std(scores, ddof=1) / np.sqrt(40)


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def test_only_a_rule_that_is_not_linear_tells_the_parity_of_two_bits():
    bits = torch.from_numpy(np.random.default_rng(3).integers(0, 2, (80, 2)))
    geometry = layer_geometry(bits.double() + 0.01 * torch.randn(80, 2, generator=generators(1)[0]).double())
    parity = bits.sum(dim=1) % 2
    assert ridge_accuracy(geometry, bits[:, 0], deal_folds(bits[:, 0], 5)) == 1
    assert ridge_accuracy(geometry, parity, deal_folds(parity, 5)) < 0.8


@pytest.mark.parametrize("labels", [LABELS, torch.arange(40) // 13, torch.arange(40).clamp(max=3)])
def test_the_silhouette_is_scikit_learns(labels):
    rdm = correlation_rdm(planted(4, 1.0))
    expected = silhouette_score(rdm.numpy(), labels.numpy(), metric="precomputed")
    assert silhouette(rdm, labels).item() == pytest.approx(expected, abs=1e-12)


def test_stimuli_without_distances_are_left_out_of_the_silhouette():
    rdm = correlation_rdm(planted(5, 1.0))
    expected = silhouette(rdm[3:, 3:], LABELS[3:])
    rdm[:3] = rdm[:, :3] = torch.nan
    torch.testing.assert_close(silhouette(rdm, LABELS), expected)
    assert silhouette(rdm[:3, :3], LABELS[:3]).isnan()
    assert silhouette(rdm[3:, 3:], torch.zeros(37, dtype=torch.long)).isnan()


def test_the_participation_ratio_is_that_of_means_over_sets_of_four_stimuli():
    rows = planted(6, 1.0, 12)[:7]
    traces, squares = [], []
    for i, j, k, m in permutations(range(7), 4):
        one, other = rows[i] - rows[j], rows[k] - rows[m]
        traces.append(one.square().sum() * other.square().sum() / 4)
        squares.append((one @ other).square() / 4)
    expected = torch.stack(traces).mean() / torch.stack(squares).mean()
    torch.testing.assert_close(participation_ratio(layer_geometry(rows)), expected)


def dimensions(*, true: int, of: Callable[[torch.Tensor], torch.Tensor] = lambda rows: rows, draws: int = 8) -> float:
    """Mean estimate from 250 stimuli that vary in as many dimensions, equally in each."""
    rows = [torch.randn(250, true, generator=g, dtype=torch.float64) for g in generators(draws)]
    return float(np.mean([participation_ratio(layer_geometry(of(x))).item() for x in rows]))


@pytest.mark.parametrize("true", [3, 20, 200, 1000])
def test_more_dimensions_than_stimuli_are_found(true):
    assert dimensions(true=true) == pytest.approx(true, rel=0.02)


@pytest.mark.parametrize("true", [3, 20, 200])
def test_stimuli_that_drive_a_layer_harder_than_others_leave_it_its_dimensions(true):
    """As the covariance is that of the layer, whatever the lengths of single responses are."""
    strengths = torch.rand(250, 1, generator=generators(1)[0], dtype=torch.float64).log().neg()
    assert dimensions(true=true, of=lambda rows: rows * strengths) == pytest.approx(true, rel=0.1)


def test_skewed_and_unequal_variances_have_their_participation_ratio():
    spread = torch.logspace(0, -1, 100, dtype=torch.float64)
    true = (spread.square().sum().square() / spread.pow(4).sum()).item()
    assert dimensions(true=100, of=lambda rows: rows * spread) == pytest.approx(true, rel=0.03)
    skewed = dimensions(true=100, of=lambda rows: rows.square() * spread, draws=16)
    assert skewed == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_one_dimension_is_one_at_every_scale_and_a_little_noise_hardly_more(scale):
    line = torch.randn(40, 1, generator=generators(1)[0], dtype=torch.float64) * torch.ones(30)
    assert participation_ratio(layer_geometry(line * scale)).item() == pytest.approx(1)
    noise = torch.randn(40, 30, generator=generators(2)[1], dtype=torch.float64)
    assert 1 < participation_ratio(layer_geometry((line + 0.01 * noise) * scale)).item() < 1.001


def test_too_few_stimuli_have_no_participation_ratio():
    assert participation_ratio(layer_geometry(torch.eye(3))).isnan()
    assert participation_ratio(layer_geometry(torch.eye(5).double())).isnan()  # at right angles: no end of dimensions


def test_a_layer_that_answers_all_alike_tells_nothing():
    geometry = layer_geometry(torch.full((40, 5), 0.3))
    folds = deal_folds(LABELS, 5)
    assert nearest_mean_accuracy(geometry, LABELS, folds).isnan()
    assert ridge_accuracy(geometry, LABELS, folds).isnan()
    assert participation_ratio(geometry).isnan()
