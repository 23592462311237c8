"""Comparisons of RDMs against rsatoolbox, SciPy and closed forms; intervals that hold zero as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
import rsatoolbox
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, pearsonr, spearmanr

from lightning_emerge.measures.compare import (
    COMPARISONS,
    bootstrap_interval,
    bures,
    kendall_tau_a,
    pearson,
    spearman,
    whitened_cosine,
)
from lightning_emerge.measures.geometry import layer_geometry
from lightning_emerge.measures.rdm import correlation_rdm, euclidean_rdm

PROPERTY = settings(max_examples=8, deadline=None, derandomize=True, database=None)
SEED = st.integers(0, 2**31)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
IN_TOOLBOX = {
    "pearson": "corr",
    "cosine": "cosine",
    "spearman": "spearman",
    "kendall_tau_a": "tau-a",
    "whitened_cosine": "cosine_cov",
    "bures": "bures",
}
OVER_PAIRS = ("pearson", "cosine", "spearman", "kendall_tau_a")


def rdms(seed: int, count: int, stimuli: int, features: int = 20, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """RDMs of responses that share a part, so that they are alike to some degree."""
    random = np.random.default_rng(seed)
    shared = random.normal(size=(stimuli, features))
    rows = torch.from_numpy(shared + random.normal(size=(count, stimuli, features)))
    return torch.stack([euclidean_rdm(layer_geometry(row)) for row in rows]).to(dtype)


def binary(stimuli: int, tokens: int) -> torch.Tensor:
    labels = torch.arange(stimuli) % tokens
    return (labels[:, None] != labels[None, :]).double()


def toolbox(first: torch.Tensor, second: torch.Tensor, name: str) -> np.ndarray:
    one, other = (rsatoolbox.rdm.RDMs(stack.double().numpy()) for stack in (first, second))
    return rsatoolbox.rdm.compare(one, other, method=IN_TOOLBOX[name])


def cases(dtype: torch.dtype) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    doubled = torch.arange(16) % 8
    copies = rdms(2, 3, 8, dtype=dtype)[:, doubled][:, :, doubled]
    return {
        "random": (rdms(1, 3, 15, dtype=dtype), rdms(1, 2, 15, 7, dtype=dtype)),
        "tied": (rdms(3, 2, 15, dtype=dtype), torch.stack([binary(15, 3), binary(15, 5)]).to(dtype)),
        "duplicates": (copies[:2], copies[2:]),
        "one feature": (rdms(4, 2, 9, 1, dtype=dtype), rdms(5, 2, 9, 1, dtype=dtype)),
        "three stimuli": (rdms(6, 2, 3, dtype=dtype), rdms(7, 2, 3, dtype=dtype)),
    }


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", cases(torch.float64))
@pytest.mark.parametrize("name", IN_TOOLBOX)
def test_they_are_the_toolboxs(name, case, dtype):
    first, second = cases(dtype)[case]
    tolerance = 1e-7 if name == "bures" and dtype == torch.float64 else TOLERANCE[dtype]  # roots of zero eigenvalues
    np.testing.assert_allclose(COMPARISONS[name](first, second), toolbox(first, second, name), rtol=0, atol=tolerance)


def test_one_pair_of_stimuli_has_a_direction_and_no_correlation():
    first, second = rdms(8, 2, 2), rdms(9, 3, 2)
    for name in ("cosine", "whitened_cosine", "bures"):
        np.testing.assert_allclose(COMPARISONS[name](first, second), toolbox(first, second, name), atol=1e-7)
    for name in ("pearson", "spearman", "kendall_tau_a"):
        assert COMPARISONS[name](first, second).isnan().all()


@pytest.mark.parametrize(
    ("name", "scipys"), [("pearson", pearsonr), ("spearman", spearmanr)], ids=["pearson", "spearman"]
)
def test_pairs_without_a_distance_are_left_out(name, scipys):
    first, second = rdms(10, 2, 12), rdms(11, 2, 12)
    first[0, 3] = first[0, :, 3] = torch.nan
    second[1, 5, 7] = second[1, 7, 5] = torch.nan
    upper = np.triu_indices(12, 1)
    for (a, b), value in np.ndenumerate(COMPARISONS[name](first, second).numpy()):
        x, y = first[a].numpy()[upper], second[b].numpy()[upper]
        known = np.isfinite(x + y)
        assert value == pytest.approx(scipys(x[known], y[known]).statistic, abs=1e-12)


def test_tau_without_ties_or_missing_pairs_is_scipys_and_with_them_that_of_what_is_known():
    first, second = rdms(12, 1, 14), rdms(13, 1, 14)
    first[0, 2] = first[0, :, 2] = torch.nan
    keep = [k for k in range(14) if k != 2]
    x, y = (rdm[0][keep][:, keep].numpy()[np.triu_indices(13, 1)] for rdm in (first, second))
    assert kendall_tau_a(first, second).item() == pytest.approx(kendalltau(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("name", ["whitened_cosine", "bures"])
def test_a_stimulus_without_distances_is_left_out(name):
    first, second = rdms(14, 2, 10), rdms(15, 1, 10)
    expected = COMPARISONS[name](first[:, 1:, 1:], second[:, 1:, 1:])
    first[:, 0] = first[:, :, 0] = torch.nan
    torch.testing.assert_close(COMPARISONS[name](first, second), expected)


@pytest.mark.parametrize("name", IN_TOOLBOX)
def test_a_dead_layer_is_like_nothing(name):
    found = COMPARISONS[name](torch.full((1, 6, 6), torch.nan), rdms(16, 2, 6))
    assert found.shape == (1, 2)
    assert found.isnan().all()


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_distances_that_do_not_vary_correlate_with_nothing(name):
    even = 0.1 * (1 - torch.eye(7, dtype=torch.float64))[None]
    assert COMPARISONS[name](even, rdms(17, 1, 7)).isnan().all()


def test_whitened_cosine_is_the_cosine_under_the_covariance_of_distances():
    # The covariance of the distances of unrelated patterns is (C C')^2, C being the contrasts between stimuli.
    first, second = rdms(18, 1, 7), rdms(19, 1, 7)
    upper = np.triu_indices(7, 1)
    contrasts = np.eye(7)[upper[0]] - np.eye(7)[upper[1]]
    weight = np.linalg.inv((contrasts @ contrasts.T) ** 2)
    x, y = first[0].numpy()[upper], second[0].numpy()[upper]
    expected = x @ weight @ y / np.sqrt((x @ weight @ x) * (y @ weight @ y))
    assert whitened_cosine(first, second).item() == pytest.approx(expected, abs=1e-9)


def test_bures_is_the_best_cosine_over_rotations():
    random = np.random.default_rng(20)
    one, other = (random.normal(size=(9, 4)) for _ in range(2))
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    best = np.linalg.svd(one.T @ other, compute_uv=False).sum() / np.linalg.norm(one) / np.linalg.norm(other)
    first, second = (euclidean_rdm(layer_geometry(torch.from_numpy(rows)))[None] for rows in (one, other))
    assert bures(first, second).item() == pytest.approx(best, abs=1e-7)


@pytest.mark.parametrize("name", IN_TOOLBOX)
@given(seed=SEED, scale=st.floats(0.01, 100))
@PROPERTY
def test_order_and_scale_do_not_count_and_equals_are_alike(name, seed, scale):
    first, second = rdms(seed, 2, 8), rdms(seed + 1, 2, 8)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(8))
    found = COMPARISONS[name](first[:, order][:, :, order] * scale, second[:, order][:, :, order])
    torch.testing.assert_close(found, COMPARISONS[name](first, second), rtol=0, atol=1e-7)
    torch.testing.assert_close(COMPARISONS[name](first, first).diagonal(), torch.ones(2).double(), rtol=0, atol=1e-7)


@given(seed=SEED)
@PROPERTY
def test_ranks_do_not_know_what_grows_with_the_distance(seed):
    first, second = rdms(seed, 1, 8), rdms(seed + 1, 1, 8)
    for comparison in (spearman, kendall_tau_a):
        torch.testing.assert_close(comparison(first.exp(), second), comparison(first, second))


def test_stacks_of_stacks_are_compared_each_with_its_own():
    first, second = rdms(21, 6, 9).reshape(3, 2, 9, 9), rdms(22, 3, 9).reshape(3, 1, 9, 9)
    for comparison in COMPARISONS.values():
        found = comparison(first, second)
        assert found.shape == (3, 2, 1)
        torch.testing.assert_close(found[1], comparison(first[1], second[1]))


def unrelated(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(2, 14, 30, generator=generator, dtype=torch.float64)
    return correlation_rdm(rows[0])[None], correlation_rdm(rows[1])[None]


@pytest.mark.slow
@pytest.mark.parametrize("comparison", [pearson, spearman])
def test_intervals_of_pure_noise_hold_zero_as_often_as_they_say(comparison):
    held = []
    for seed in range(400):
        low, high = bootstrap_interval(*unrelated(seed), comparison, samples=80, seed=seed)
        held.append(bool(low <= 0 <= high))
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


def test_intervals_of_noisy_copies_lie_about_what_many_stimuli_say():
    random = np.random.default_rng(23)

    def noisy(stimuli: int) -> tuple[torch.Tensor, torch.Tensor]:
        signal = random.normal(size=(stimuli, 30))
        stacks = (torch.from_numpy(signal + random.normal(size=signal.shape)) for _ in range(2))
        first, second = (correlation_rdm(rows)[None] for rows in stacks)
        return first, second

    truth = pearson(*noisy(1500)).item()
    bounds = [bootstrap_interval(*noisy(25), pearson, samples=80, seed=k) for k in range(200)]
    assert np.mean([low.item() <= truth <= high.item() for low, high in bounds]) == pytest.approx(0.95, abs=0.04)
    assert np.mean([low.item() > 0 for low, _ in bounds]) > 0.9


@pytest.mark.parametrize("name", IN_TOOLBOX)
def test_an_interval_is_the_same_for_the_same_seed_and_holds_the_estimate(name):
    first, second = rdms(24, 2, 9), rdms(25, 3, 9)
    low, high = bootstrap_interval(first, second, COMPARISONS[name], samples=20)
    again, _ = bootstrap_interval(first, second, COMPARISONS[name], samples=20)
    assert torch.equal(low, again)
    estimate = COMPARISONS[name](first, second)
    assert ((low <= estimate) & (estimate <= high)).all()
