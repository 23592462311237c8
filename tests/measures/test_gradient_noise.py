"""Signal and noise of gradients: against stimuli taken one by one, and unbiased on draws from known distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_emerge.measures.gradient_noise import gradient_noise, noise_scale


def summarise(single: np.ndarray, tokens: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a look leaves of the gradients (stimulus, ...) of single stimuli, as many of each token."""
    means = single.reshape(tokens, -1, *single.shape[1:]).mean(axis=1)
    counts = torch.full((tokens,), len(single) // tokens)
    return torch.from_numpy(means), torch.from_numpy((single**2).mean(axis=0)), counts


def naive(single: np.ndarray) -> tuple[float, float]:
    """Squared mean gradient and variance without corrections for the number of stimuli."""
    return (single.mean(axis=0) ** 2).sum(), single.var(axis=0).sum()


def test_it_is_what_numpy_finds_stimulus_by_stimulus():
    single = np.random.default_rng(0).normal(0.3, 1, (11, 4, 3, 2, 2))
    found = gradient_noise(*summarise(single))
    variance = single.var(axis=0, ddof=1)
    signal = single.mean(axis=0) ** 2 - variance / 11
    assert found.variance.item() == pytest.approx(variance.sum(), rel=1e-12)
    assert found.signal.item() == pytest.approx(signal.sum(), rel=1e-12)
    # Over a variance that is estimated with 10 degrees of freedom, of which the inverse is too large by 10 / 8.
    assert found.gsnr.item() == pytest.approx((0.8 * single.mean(axis=0) ** 2 / variance - 1 / 11).mean(), rel=1e-12)
    assert noise_scale(found.signal, found.variance).item() == pytest.approx(variance.sum() / signal.sum())


@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("true_mean", [0.0, 0.1])
def test_signal_and_variance_are_unbiased_where_naive_ones_are_not(tokens, true_mean):
    random = np.random.default_rng(1)
    weights, stimuli, draws = 20, 20, 400
    spread = np.linspace(0.2, 2, weights) * np.linspace(0.5, 1.5, tokens)[:, None]
    centres = random.normal(0, 1, (tokens, weights))
    centres += true_mean - centres.mean(axis=0)
    truth = (weights * true_mean**2, (spread**2 + centres**2 - true_mean**2).mean(axis=0).sum())
    draw = random.normal(centres[:, None], spread[:, None], (draws, tokens, stimuli // tokens, weights))
    draw = draw.reshape(draws, stimuli, weights)
    noises = [gradient_noise(*summarise(single, tokens)) for single in draw]
    found = np.array([[noise.signal.item(), noise.variance.item()] for noise in noises])
    uncorrected = np.array([naive(single) for single in draw])

    def distance(estimates: np.ndarray) -> np.ndarray:
        """From the truth, in standard errors."""
        return np.abs(estimates.mean(axis=0) - truth) / (estimates.std(axis=0) / draws**0.5)

    assert (distance(found) < 3).all()
    assert (distance(uncorrected) > 3).all()
    regardless = np.array([gradient_noise(*summarise(single)).signal.item() for single in draw])
    assert (distance(np.stack([regardless, found[:, 1]], axis=1))[0] < 3) == (tokens == 1)


@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("true", [0.0, 0.25])
def test_gsnr_of_normal_draws_is_unbiased(true, tokens):
    random = np.random.default_rng(2)
    draw = random.normal(true**0.5, 1, (200, 20, 500))
    found = np.array([gradient_noise(*summarise(single, tokens)).gsnr.item() for single in draw])
    assert abs(found.mean() - true) < 3 * found.std(ddof=1) / len(found) ** 0.5


def test_gsnr_of_noise_that_most_stimuli_lack_is_hardly_lifted():
    random = np.random.default_rng(3)
    draw = random.normal(0, 1, (100, 40, 500)) * (random.uniform(size=(100, 40, 500)) < 0.2)
    found = np.array([gradient_noise(*summarise(single, 5)).gsnr.item() for single in draw])
    assert abs(found.mean()) < 1 / 40**2


def test_fewer_than_four_stimuli_have_no_gsnr():
    found = gradient_noise(*summarise(np.random.default_rng(4).normal(size=(3, 5))))
    assert found.gsnr.isnan()
    assert found.variance.isfinite()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_weights_with_the_same_gradient_for_all_stimuli_are_left_out(dtype):
    mean = torch.tensor([0.0, 0.1, 0.3, 1.0]).to(dtype)
    square = mean.double().square()
    square[:2] = torch.tensor([0.0, 0.1**2])  # 0.1 is rounded in `mean`, and not here
    square[2:] *= 5
    found = gradient_noise(mean[None], square, torch.tensor([10]))
    # s^2 is 4 mean^2 * 10 / 9, so that the ratio is 7 / 9 of 9 / 40, less 1 / 10.
    assert found.gsnr.item() == pytest.approx(7 / 40 - 1 / 10)
    none = gradient_noise(mean[None, :2], square[:2], torch.tensor([10]))
    assert none.gsnr.isnan()
    assert none.variance.item() == pytest.approx(0, abs=1e-3)


def test_tokens_without_stimuli_do_not_count():
    means, square = torch.tensor([[1.0, 2.0], [torch.nan] * 2, [3.0, 0.0]]), torch.tensor([9.0, 7.0]).double()
    with_it = gradient_noise(means, square, torch.tensor([4, 0, 2]))
    without = gradient_noise(means[[0, 2]], square, torch.tensor([4, 2]))
    assert with_it == without
    assert with_it.signal.isfinite()


@pytest.mark.parametrize("counts", [[1], [1, 1, 1]])
def test_single_stimuli_have_no_variance(counts):
    found = gradient_noise(torch.ones(len(counts), 3), torch.ones(3).double(), torch.tensor(counts))
    assert all(value.isnan() for value in (found.signal, found.variance, found.gsnr))


def test_a_network_that_is_not_finite_has_no_noise():
    means, square = torch.tensor([[1.0, torch.nan]]), torch.tensor([2.0, torch.nan]).double()
    found = gradient_noise(means, square, torch.tensor([5]))
    assert all(value.isnan() for value in (found.signal, found.variance, found.gsnr))


@pytest.mark.parametrize(("signal", "expected"), [(4.0, 0.5), (0.0, np.nan), (-1.0, np.nan), (np.nan, np.nan)])
def test_a_signal_that_noise_hides_has_no_noise_scale(signal, expected):
    scale = noise_scale(torch.tensor(signal), torch.tensor(2.0))
    assert scale.item() == pytest.approx(expected, nan_ok=True)
