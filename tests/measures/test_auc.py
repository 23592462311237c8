"""AUC against scikit-learn, its interval against simulated coverage and the variance of Mann & Whitney."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from lightning_emerge.measures.auc import auc, auc_interval


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_it_is_scikit_learns_also_with_ties(levels):
    random = np.random.default_rng(levels)
    scores = torch.from_numpy(random.integers(0, levels, (60, 7)).astype(np.float32))
    held = torch.from_numpy(random.random((60, 3)) < 0.3)
    expected = [[roc_auc_score(y, x) for y in held.numpy().T] for x in scores.numpy().T]
    np.testing.assert_allclose(auc(scores, held), expected, rtol=1e-12)


def test_what_all_or_none_have_and_scores_that_are_nan_have_none():
    scores = torch.rand(10, 2)
    scores[3, 1] = torch.nan
    held = torch.stack([torch.ones(10), torch.zeros(10), torch.arange(10) % 2], dim=1).bool()
    found = auc(scores, held)
    assert found.isnan().tolist() == [[True, True, False], [True, True, True]]


def test_a_planted_distance_gives_the_area_that_the_normal_distribution_says():
    random = np.random.default_rng(0)
    held = torch.arange(20000) % 2 == 0
    for distance in (0.0, 0.5, 2.0):
        scores = torch.from_numpy(random.normal(size=(20000, 1))) + distance * held[:, None]
        expected = NormalDist().cdf(distance / np.sqrt(2))
        assert auc(scores, held[:, None]).item() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("ones", "zeros"), [(20, 20), (10, 40), (100, 150)])
def test_the_interval_reaches_chance_where_mann_and_whitneys_variance_says(ones, zeros):
    error = np.sqrt((ones + zeros + 1) / (12 * ones * zeros))
    area = torch.tensor(0.5 + 1.959964 * error)
    low, _ = auc_interval(area, torch.tensor(float(ones)), torch.tensor(float(zeros)))
    assert low.item() == pytest.approx(0.5, abs=1e-6)
    _, high = auc_interval(1 - area, torch.tensor(float(ones)), torch.tensor(float(zeros)))
    assert high.item() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("distance", [0.0, 1.0, 2.5])
def test_it_holds_the_true_area_as_often_as_it_says(distance):
    random, draws = np.random.default_rng(1), 2000
    held = torch.tensor([True] * 20 + [False] * 30)
    scores = torch.from_numpy(random.normal(size=(50, draws))) + distance * held[:, None]
    areas = auc(scores, held[:, None])[:, 0]
    low, high = auc_interval(areas, torch.full_like(areas, 20), torch.full_like(areas, 30))
    truth = NormalDist().cdf(distance / np.sqrt(2))
    assert 0.935 <= ((low <= truth) & (truth <= high)).double().mean().item() <= 0.98
    wide = auc_interval(areas, torch.full_like(areas, 20), torch.full_like(areas, 30), confidence=0.999)
    assert (wide[0] < low).all()


def test_a_perfect_detector_is_not_sure_to_be_one():
    low, high = auc_interval(torch.tensor([1.0, torch.nan]), torch.tensor([10.0, 10]), torch.tensor([10.0, 10]))
    assert 0.6 < low[0] < 0.95
    assert high[0] == 1
    assert low[1].isnan()
