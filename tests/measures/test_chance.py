"""P-values, ranges and discoveries against their definitions and SciPy's tests."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import permutation_test

from lightning_emerge.measures.chance import benjamini_hochberg, exceedance, middle_range, p_value


def test_a_permutation_test_of_all_orders_is_scipys():
    x, y = np.random.default_rng(3).normal(size=(2, 6))
    y = y + x
    orders = torch.tensor([x[list(order)] @ y for order in permutations(range(6))], dtype=torch.float64)
    expected = permutation_test(
        (x,), lambda own: own @ y, permutation_type="pairings", n_resamples=np.inf, alternative="greater"
    )
    assert p_value(orders[0], orders).item() == pytest.approx(expected.pvalue)
    assert 1 / 720 < expected.pvalue < 0.5


def test_what_differs_by_rounding_alone_is_as_large_and_what_is_less_is_not():
    among = torch.tensor([0.3, 0.1 + 0.2, 0.3 - 1e-9, 0.1], dtype=torch.float64)
    assert p_value(among[1], among) == 0.5
    assert p_value(among[[1, 3]], among.expand(2, 4)).tolist() == [0.5, 1]


def test_the_range_in_the_middle_is_numpys_quantiles():
    values = np.random.default_rng(0).normal(size=333)
    low, high = middle_range(torch.from_numpy(values))
    assert [low.item(), high.item()] == pytest.approx(np.quantile(values, [0.025, 0.975]).tolist(), rel=1e-14)
    assert [end.item() for end in middle_range(torch.arange(11.0), 0.5)] == [2.5, 7.5]


def test_p_values_count_what_is_as_large():
    p = exceedance(torch.tensor([0.5, 2.0, 9.0]), torch.tensor([3.0, 1.0, 2.0]))
    assert p.tolist() == [1, 0.75, 0.25]


@pytest.mark.parametrize("seed", range(5))
def test_discoveries_are_those_of_the_largest_p_value_below_its_line(seed):
    random = np.random.default_rng(seed)
    p = np.concatenate([random.random(80), random.random(20) ** 6])
    below = [value for rank, value in enumerate(sorted(p), start=1) if value * len(p) <= 0.05 * rank]
    found = benjamini_hochberg(torch.from_numpy(p), 0.05)
    assert below
    assert found.tolist() == [value <= below[-1] for value in p]


def test_nothing_is_discovered_where_nothing_is_small():
    assert not benjamini_hochberg(torch.full((5,), 0.2), 0.05).any()
    assert benjamini_hochberg(torch.zeros(0), 0.05).tolist() == []
