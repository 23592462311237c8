"""Least changes that count, against the spread of simulated levels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_emerge.analysis.effects import LEAST, least_auc, least_change, least_share
from lightning_emerge.measures.auc import auc


def test_of_many_stimuli_a_tenth_counts():
    assert least_share(10**6) == least_auc(10**6, 10**6) == LEAST


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_shares_of_two_samples_seldom_differ_by_so_much(share):
    levels = np.random.default_rng(0).binomial(50, share, (2, 20_000)) / 50
    assert np.mean(levels[0] - levels[1] >= least_share(50)) <= 0.0027
    if share == 0.5:
        assert least_share(50) == pytest.approx(3 * (levels[0] - levels[1]).std(), rel=0.02)


def test_a_mean_over_tokens_is_as_uncertain_as_its_smallest_token_makes_it():
    counts, rng = (2, 100, 100), np.random.default_rng(0)
    levels = np.mean([rng.binomial(n, 0.5, (2, 40_000)) / n for n in counts], axis=0)
    assert least_share(*counts) == pytest.approx(3 * (levels[0] - levels[1]).std(), rel=0.02)
    assert least_share(50, 50) == pytest.approx(least_share(100))


def test_a_mean_probability_varies_no_more_than_a_share():
    shares = np.random.default_rng(1).beta(0.1, 0.1, (20_000, 50)).mean(axis=1)
    assert shares.std() < 0.5 / np.sqrt(50)


@pytest.mark.parametrize(("ones", "others"), [(50, 200), (100, 150), (6, 10)])
def test_the_error_of_an_auc_is_that_of_scores_by_chance(ones, others):
    scores = torch.randn(ones + others, 4000, generator=torch.Generator().manual_seed(0))
    held = (torch.arange(ones + others) < ones)[:, None]
    spread = float(auc(scores, held).std())
    assert least_auc(ones, others) == pytest.approx(max(LEAST, 3 * 2**0.5 * spread), rel=0.05)


def test_the_best_of_some_is_as_rare_as_one():
    levels = 0.05 * np.random.default_rng(2).standard_normal((400_000, 2))
    change = levels[:, 0] - levels[:, 1]
    alone = np.mean(change >= least_change(0.05))
    best = np.mean(change.reshape(-1, 16).max(axis=1) >= least_change(0.05, among=16))
    assert alone == pytest.approx(0.00135, abs=0.0003)
    assert best == pytest.approx(0.00135, abs=0.0006)


@pytest.mark.parametrize(("make", "said"), [(lambda: least_share(0), "got 0"), (lambda: least_auc(3, 0), "3 and 0")])
def test_what_is_over_no_stimuli_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
