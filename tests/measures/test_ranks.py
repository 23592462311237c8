"""Ranks against SciPy's, with ties and with values that are missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from lightning_emerge.measures.ranks import mean_ranks


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_they_are_scipys_with_ties_and_missing_values(dtype):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 8, (3, 5, 40)).astype(float)
    values[rng.random(values.shape) < 0.2] = np.nan
    found = mean_ranks(torch.from_numpy(values).to(dtype))
    assert found.dtype == torch.float64
    np.testing.assert_array_equal(found, rankdata(values, axis=-1, nan_policy="omit"))


def test_the_infinite_are_first_and_last_and_missing_values_do_not_tie_with_them():
    values = torch.tensor([torch.inf, 1.0, torch.nan, -torch.inf, torch.nan, torch.inf])
    assert mean_ranks(values).nan_to_num(-1).tolist() == [3.5, 2, -1, 1, -1, 3.5]
