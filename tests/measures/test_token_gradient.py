"""The gradients of tokens: cosines, norms and conflicts by hand and against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_emerge.measures.token_gradient import conflict_share, token_cosines, token_norms

NAN = float("nan")


def test_cosines_and_norms_are_those_by_hand():
    gradients = torch.tensor([[[3.0, 4.0]], [[4.0, -3.0]], [[-6.0, -8.0]], [[1.0, 0.0]]], dtype=torch.float64)
    assert token_norms(gradients).tolist() == [5, 5, 10, 1]
    expected = [[1, 0, -1, 0.6], [0, 1, 0, 0.8], [-1, 0, 1, -0.6], [0.6, 0.8, -0.6, 1]]
    np.testing.assert_allclose(token_cosines(gradients), expected, atol=1e-15)


@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=20, deadline=None, derandomize=True, database=None)
def test_cosines_are_numpys_symmetric_and_free_of_scale(seed, dtype):
    values = np.random.default_rng(seed).normal(size=(4, 3, 2, 2))
    gradients = torch.from_numpy(values).to(dtype)
    flat = gradients.double().numpy().reshape(4, -1)
    sizes = np.linalg.norm(flat, axis=1)
    cosines = token_cosines(gradients)
    np.testing.assert_allclose(cosines, flat @ flat.T / np.outer(sizes, sizes), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(token_norms(gradients), sizes, rtol=1e-12)
    assert torch.equal(cosines, cosines.T)
    assert cosines.diagonal().tolist() == [1] * 4
    scale = torch.tensor([1e-20, 1.0, 1e10, 3.0])[:, None, None, None]
    np.testing.assert_allclose(token_cosines(gradients * scale), cosines, atol=1e-6)


@pytest.mark.parametrize("bad", [0.0, NAN, float("inf")])
def test_a_token_without_a_gradient_has_no_cosine_and_the_others_keep_theirs(bad):
    gradients = torch.tensor([[1.0, 0.0], [bad, bad], [-1.0, 0.0]])
    cosines = token_cosines(gradients)
    assert cosines[1].isnan().all()
    assert cosines[:, 1].isnan().all()
    assert cosines[0, 2] == -1
    assert conflict_share(cosines) == 1
    np.testing.assert_equal(token_norms(gradients)[1].item(), abs(bad))


@pytest.mark.parametrize(
    ("pairs", "share"),
    [([-0.1, 0.2, 0.3], 1 / 3), ([-1, -1, -1], 1), ([0, 0, 0], 0), ([-0.5, NAN, 0.5], 0.5), ([NAN] * 3, NAN)],
)
def test_conflicts_are_pairs_below_zero_each_counted_once(pairs, share):
    a, b, c = pairs
    cosines = torch.tensor([[1, a, b], [a, 1, c], [b, c, 1]], dtype=torch.float64)
    assert conflict_share(cosines).item() == pytest.approx(share, nan_ok=True)


def test_a_single_token_has_no_pairs():
    cosines = token_cosines(torch.ones(1, 3))
    assert cosines.tolist() == [[1]]
    assert conflict_share(cosines).isnan()
