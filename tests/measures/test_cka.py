"""CKA against closed forms and naive sums, on planted and unrelated layers and on an untrained VGG."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from passed import run_bank

import lightning_emerge as le
from lightning_emerge.capture import default_layers
from lightning_emerge.measures.cka import debiased_cka, debiased_hsic
from lightning_emerge.measures.geometry import layer_geometry

PROPERTY = settings(max_examples=8, deadline=None, derandomize=True, database=None)


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def grams(*layers: torch.Tensor) -> torch.Tensor:
    return torch.stack([layer_geometry(rows).gram for rows in layers])


def biased_cka(one: torch.Tensor, other: torch.Tensor) -> float:
    """Linear CKA by Kornblith et al. 2019, equation 4, on whole features."""
    x, y = (rows - rows.mean(dim=0) for rows in (one, other))
    return float((x.T @ y).norm() ** 2 / (x.T @ x).norm() / (y.T @ y).norm())


def test_the_unbiased_estimate_is_songs_sum_over_different_stimuli():
    k, leg = (draw(seed, 7, 3) @ draw(seed, 7, 3).T for seed in (2, 3))
    k, leg = k.numpy(), leg.numpy()
    sums = np.zeros(3)
    for i, j, q, r in permutations(range(7), 4):
        sums += k[i, j] * leg[i, j], k[i, j] * leg[q, r], k[i, j] * leg[i, q]
    expected = (sums[0] + sums[1] - 2 * sums[2]) / (7 * 6 * 5 * 4)
    found = debiased_hsic(torch.from_numpy(np.stack([k, leg])))
    assert found[0, 1].item() == pytest.approx(expected, rel=1e-9)


def test_unrelated_layers_are_alike_only_to_the_biased_one():
    pairs = [(draw(seed, 30, 500), draw(seed + 1, 30, 500)) for seed in range(100, 160, 2)]
    debiased = [debiased_cka(grams(*pair))[0, 1].item() for pair in pairs]
    assert np.mean([biased_cka(*pair) for pair in pairs]) > 0.9
    assert abs(np.mean(debiased)) < 3 * np.std(debiased) / np.sqrt(30)


def test_a_layer_that_holds_half_of_another_is_half_alike():
    shared, noise = draw(4, 400, 3000), draw(5, 400, 3000)
    # Covariances of d features are I, 2 I and I between the two, so the ratio is d / sqrt(d * 4 d).
    assert debiased_cka(grams(shared, shared + noise))[0, 1].item() == pytest.approx(0.5, abs=0.02)


@given(seed=st.integers(0, 2**31), scale=st.floats(0.001, 1000))
@PROPERTY
def test_rotation_scale_and_order_do_not_count(seed, scale):
    one, other = draw(seed, 12, 9), draw(seed + 1, 12, 5)
    turn, _ = torch.linalg.qr(draw(seed + 2, 9, 9))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(12))
    found = debiased_cka(grams((one @ turn * scale + 7)[order], other[order]))
    torch.testing.assert_close(found, debiased_cka(grams(one, other)), rtol=0, atol=1e-9)


def test_many_stimuli_of_two_directions_have_the_cka_of_whole_features():
    one, other = draw(6, 4000, 2), draw(7, 4000, 2) + draw(6, 4000, 2)
    assert debiased_cka(grams(one, other))[0, 1].item() == pytest.approx(biased_cka(one, other), abs=1e-3)


def test_a_dead_layer_and_one_that_answers_alike_are_like_nothing_and_leave_the_others_alone():
    found = debiased_cka(grams(draw(8, 9, 5), torch.zeros(9, 5), draw(9, 9, 5), torch.full((9, 5), 0.3)))
    assert found[[1, 3]].isnan().all()
    torch.testing.assert_close(found[[0, 2]][:, [0, 2]], debiased_cka(grams(draw(8, 9, 5), draw(9, 9, 5))))


def test_three_stimuli_are_too_few_to_be_unbiased():
    assert debiased_cka(grams(draw(10, 3, 5), draw(11, 3, 5))).isnan().all()


@pytest.mark.parametrize("seed", range(3))
def test_an_untrained_vgg_has_a_value_for_every_pair_of_layers(seed):
    torch.manual_seed(seed)
    network = le.VGG(image_size=32)
    images, count = torch.rand(24, 3, 32, 32, generator=torch.Generator().manual_seed(seed)), 24
    bank = le.StimulusBank(images, torch.arange(count) % 4, tuple(map(str, range(count))), ("a", "b", "c", "d"))
    layers = default_layers(network)
    seen = run_bank(network, bank, layers).activations
    stacked = grams(*(rows.flatten(1) for rows in seen.values()))
    exact = grams(*(rows.flatten(1).double() for rows in seen.values()))
    found = debiased_cka(stacked)
    assert found.shape == (len(layers), len(layers))
    np.testing.assert_allclose(found, debiased_cka(exact), rtol=0, atol=1e-5)
