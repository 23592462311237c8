"""GradientNoiseProbe in a look at a network with batch norm, against its stimuli taken one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from passed import run_bank
from torch.nn.functional import cross_entropy

import lightning_emerge as le
from lightning_emerge.capture import find_weights


def make_capture(network: torch.nn.Module, bank: le.StimulusBank) -> le.Capture:
    layers = le.capture.default_layers(network)
    seen = run_bank(network, bank, [], token_gradients=layers, squares=layers)
    return le.Capture(5, layers, bank, token_gradients=seen.token_gradients, gradient_squares=seen.squares)


def single_gradients(network: torch.nn.Module, bank: le.StimulusBank, layer: str) -> np.ndarray:
    (weight,) = find_weights(network, [layer])[layer].sources
    rows = []
    for image, label in zip(bank.images, bank.labels, strict=True):
        loss = cross_entropy(network(image[None]), label[None])
        rows.append(torch.autograd.grad(loss, weight)[0].double().flatten().numpy())
    return np.stack(rows)


def estimate(single: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variance and squared mean of each weight's gradient, from deviations from the means of tokens."""
    n, tokens = len(single), np.unique(labels)
    means = np.stack([single[labels == token].mean(axis=0) for token in tokens])
    expected = means[np.searchsorted(tokens, labels)]
    mean, k = single.mean(axis=0), len(tokens)
    within = ((single - expected) ** 2).sum(axis=0) / (n - k)
    between = ((expected - mean) ** 2).mean(axis=0)
    return between + within * (n - k + 1) / n, mean**2 - within / n


def test_it_is_what_stimuli_one_by_one_give():
    torch.manual_seed(0)
    network = le.VGG(plan=[1, 1], width=4, head=[8], image_size=8, batch_norm=True)
    labels = (torch.arange(43) % 12).clamp(max=4)  # most of one token, so that there is a signal
    images = torch.randn(43, 3, 8, 8) + torch.randn(3, 8, 8)
    network(images)  # statistics of the batch norm
    bank = le.StimulusBank(images, labels, tuple(map(str, range(43))), tuple("abcde"))
    found = {one.name: one for one in le.GradientNoiseProbe().measure(make_capture(network, bank))}
    network.eval()
    signals, variances = [], []
    layers = found["gsnr"].axes[0].labels
    for k, layer in enumerate(layers):
        single = single_gradients(network, bank, layer)
        variance, signal = estimate(single, labels.numpy())
        varies = variance > 0
        excess = 2 / 42 * single.mean(axis=0)[varies] ** 2  # of the inverse of an estimated variance
        expected = ((signal[varies] - excess) / variance[varies]).mean()
        assert found["gsnr"].values[k] == pytest.approx(expected, rel=1e-4)
        assert found["gradient_signal"].values[k] == pytest.approx(signal.sum(), rel=1e-4)
        assert found["gradient_variance"].values[k] == pytest.approx(variance.sum(), rel=1e-4)
        assert found["noise_scale"].values[k] == pytest.approx(variance.sum() / signal.sum(), rel=1e-4)
        signals.append(signal.sum())
        variances.append(variance.sum())
    assert found["noise_scale_total"].values == pytest.approx(sum(variances) / sum(signals), rel=1e-4)
    assert found["noise_scale_total"].axes == ()


def test_stimuli_that_differ_in_sign_alone_are_noise_and_no_signal():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False))
    torch.nn.init.zeros_(network[1].weight)
    images = torch.ones(20, 1, 2, 2)
    images[::2] *= -1  # the same number of each in both tokens, so that the gradients of each token cancel
    labels = torch.arange(20) // 2 % 2
    bank = le.StimulusBank(images, labels, tuple(map(str, range(20))), ("a", "b"))
    found = {one.name: one.values for one in le.GradientNoiseProbe().measure(make_capture(network, bank))}
    within = 0.25 * 20 / 18
    assert found["gradient_variance"] == pytest.approx(8 * within * 19 / 20)
    assert found["gradient_signal"] == pytest.approx(-8 * within / 20)
    assert found["gsnr"] == pytest.approx(-1 / 19)
    assert np.isnan(found["noise_scale"]).all()
    assert np.isnan(found["noise_scale_total"])


def test_layers_without_gradients_of_single_stimuli_are_refused_before_training():
    network = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, groups=2), torch.nn.Flatten(), torch.nn.Linear(16, 2))
    with pytest.raises(ValueError, match="without groups"):
        le.GradientNoiseProbe(layers=["0"]).check(network)
