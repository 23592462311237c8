"""Correlation RDMs against SciPy, closed forms, planted clusters and a null."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from lightning_emerge.measures.rdm import correlation_rdm, token_distances

PROPERTY = settings(max_examples=25, deadline=None, derandomize=True, database=None)
SEED = st.integers(0, 2**32 - 1)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


def draw(seed: int, stimuli: int, features: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(stimuli, features))).to(dtype)


def scipy_rdm(features: torch.Tensor) -> np.ndarray:
    return squareform(pdist(features.double().numpy(), "correlation"))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize(("stimuli", "features"), [(2, 2), (2, 300), (25, 40), (60, 7)])
def test_it_is_scipys_correlation_distance(stimuli, features, offset, dtype):
    rows = draw(stimuli, stimuli, features, dtype) + offset
    rdm = correlation_rdm(rows)
    assert rdm.dtype == dtype
    np.testing.assert_allclose(rdm, scipy_rdm(rows), rtol=0, atol=TOLERANCE[dtype])


def test_phases_of_a_wave_have_the_distance_of_their_cosine():
    phase = torch.tensor([0.0, torch.pi / 6, torch.pi / 2, torch.pi, 2.0], dtype=torch.float64)
    time = 2 * torch.pi * torch.arange(32, dtype=torch.float64) / 32
    rdm = correlation_rdm(torch.sin(time[None, :] + phase[:, None]))
    torch.testing.assert_close(rdm, 1 - torch.cos(phase[:, None] - phase[None, :]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_duplicates_lie_at_zero_and_mirror_images_at_two(dtype):
    rows = draw(3, 4, 30, dtype)
    rdm = correlation_rdm(torch.cat([rows, rows, -rows]))
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(rdm[:4, 4:8].diagonal(), torch.zeros(4, dtype=dtype), rtol=0, atol=tolerance)
    torch.testing.assert_close(rdm[:4, 8:].diagonal(), torch.full((4,), 2, dtype=dtype), rtol=0, atol=tolerance)
    assert rdm.max() <= 2


@pytest.mark.parametrize("level", [0.0, 1.0, -3.7, 1e6, 1e-30, 0.1])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_stimulus_without_a_pattern_has_no_distance_at_all(level, dtype):
    rows = draw(4, 5, 37, dtype)
    rows[2] = level
    expected = scipy_rdm(rows)
    expected[2] = expected[:, 2] = np.nan
    np.testing.assert_allclose(correlation_rdm(rows), expected, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rounding_is_no_pattern(dtype):
    rows = draw(4, 5, 37, dtype)
    rows[2] = 0.1
    rows[2, ::3] = torch.nextafter(rows[2, 0], torch.tensor(1, dtype=dtype))
    assert correlation_rdm(rows)[2].isnan().all()


def test_one_feature_is_no_pattern():
    assert correlation_rdm(draw(5, 4, 1)).isnan().all()


def test_a_dead_layer_has_no_distances():
    assert correlation_rdm(torch.zeros(3, 8)).isnan().all()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_very_small_and_very_large_responses_keep_their_distances(scale):
    rows = draw(6, 6, 20, torch.float32)
    torch.testing.assert_close(correlation_rdm(rows * scale), correlation_rdm(rows), rtol=0, atol=1e-5)


def test_it_is_symmetric_to_the_last_bit_which_scipys_squareform_asks_for():
    rdms = {size: correlation_rdm(draw(7, size, 33, torch.float32)) for size in range(2, 40)}
    assert [size for size, rdm in rdms.items() if not torch.equal(rdm, rdm.T)] == []


@given(seed=SEED, stimuli=st.integers(2, 12), features=st.integers(2, 30))
@PROPERTY
def test_distances_lie_between_zero_and_two_and_are_zero_to_oneself(seed, stimuli, features):
    rdm = correlation_rdm(draw(seed, stimuli, features, torch.float32))
    assert (rdm.diagonal() == 0).all()
    assert ((rdm >= 0) & (rdm <= 2)).all()


@given(seed=SEED)
@PROPERTY
def test_permuted_stimuli_permute_the_matrix(seed):
    rows = draw(seed, 7, 9)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(7))
    torch.testing.assert_close(correlation_rdm(rows[order]), correlation_rdm(rows)[order][:, order])


@given(seed=SEED, scale=st.floats(0.01, 100), shift=st.floats(-100, 100))
@PROPERTY
def test_gain_and_offset_of_a_stimulus_do_not_count_and_its_sign_mirrors(seed, scale, shift):
    rows = draw(seed, 5, 12)
    changed = rows.clone()
    changed[0] = changed[0] * scale + shift
    changed[1] = -changed[1] * scale
    expected = correlation_rdm(rows)
    expected[1] = 2 - expected[1]
    expected[:, 1] = 2 - expected[:, 1]
    expected[1, 1] = 0
    torch.testing.assert_close(correlation_rdm(changed), expected, rtol=0, atol=1e-9)


def test_token_distances_are_means_over_pairs():
    values = np.random.default_rng(0).uniform(0, 2, (9, 9))
    rdm = (values + values.T) / 2
    rdm[4] = rdm[:, 4] = np.nan
    labels = [0, 2, 1, 0, 0, 1, 1, 2, 0]
    pairs = [(i, j) for i in range(9) for j in range(i) if 4 not in (i, j)]
    within, between = token_distances(torch.from_numpy(rdm), torch.tensor(labels))
    assert within.item() == pytest.approx(np.mean([rdm[i, j] for i, j in pairs if labels[i] == labels[j]]))
    assert between.item() == pytest.approx(np.mean([rdm[i, j] for i, j in pairs if labels[i] != labels[j]]))


@pytest.mark.parametrize(("labels", "missing"), [([0, 0, 0], "between"), ([0, 1, 2], "within")])
def test_without_such_a_pair_there_is_no_mean(labels, missing):
    means = token_distances(correlation_rdm(draw(8, 3, 10)), torch.tensor(labels))
    found = dict(zip(("within", "between"), means, strict=True))
    assert found.pop(missing).isnan()
    assert next(iter(found.values())).isfinite()


def test_planted_clusters_are_nearer_within_and_a_null_is_not():
    labels = torch.arange(60) % 5
    noise, centres = draw(9, 60, 200), draw(10, 5, 200)
    within, between = token_distances(correlation_rdm(centres[labels] + noise), labels)
    # Signal and noise have equal variance: half of the pattern is shared within a token.
    assert within.item() == pytest.approx(0.5, abs=0.03)
    assert between.item() == pytest.approx(1, abs=0.08)
    within, between = token_distances(correlation_rdm(noise), labels)
    assert (within / between).item() == pytest.approx(1, abs=0.02)
