"""Measures of the regime against closed forms, brute force and torch.func."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

from lightning_emerge.measures.cka import debiased_alignment, debiased_cka
from lightning_emerge.measures.filters import turned_share
from lightning_emerge.measures.regime import effective_rank, mix_outputs, spread_stimuli, tangent_kernels, token_kernel


def sample(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernel_of(features: torch.Tensor) -> torch.Tensor:
    """(output, output_b, stimulus, stimulus_b) of features (stimulus, output, feature)."""
    return torch.einsum("iad,jbd->abij", features, features)


def make_network() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4))
    return network.eval(), torch.randn(6, 2, 5, 5)


@pytest.mark.parametrize("room", [10**6, 500, 1])
def test_kernels_are_products_of_torchs_jacobians_however_many_fit(room):
    network, images = make_network()
    weights = [network[0].weight, network[4].weight]
    found = tangent_kernels(lambda k: network(images[k : k + 1])[0], weights, len(images), room)
    named = {name: own.detach() for name, own in network.named_parameters()}
    jacobians = jacrev(lambda own: functional_call(network, own, (images,)))(named)
    for kernel, name in zip(found, ("0.weight", "4.weight"), strict=True):
        features = jacobians[name].flatten(2).double()
        torch.testing.assert_close(kernel, kernel_of(features - features.mean(dim=0)), rtol=1e-4, atol=1e-5)


def test_a_weight_that_outputs_do_not_depend_on_has_no_kernel():
    network, images = make_network()
    spare = nn.Parameter(torch.ones(2, 2))
    weights = [network[4].weight, spare]
    found = tangent_kernels(lambda k: network(images[k : k + 1])[0], weights, len(images))
    assert bool((found[1] == 0).all())
    assert debiased_alignment(found[1], found[1]).isnan()
    assert debiased_alignment(found[0], found[0]).item() == pytest.approx(1)


def test_the_alignment_is_of_what_rows_and_columns_of_different_stimuli_leave():
    apart = ~np.eye(6, dtype=bool)
    row, column = (np.eye(6)[own[apart]] for own in np.indices((6, 6)))
    sums = np.hstack([row, column])
    left = []
    for seed in (0, 1):
        cells = sample(2, 2, 6, 6, seed=seed).numpy()[:, :, apart].reshape(4, -1).T
        left.append(cells - sums @ np.linalg.lstsq(sums, cells)[0])
    expected = (left[0] * left[1]).sum() / np.linalg.norm(left[0]) / np.linalg.norm(left[1])
    found = debiased_alignment(*(sample(2, 2, 6, 6, seed=seed) for seed in (0, 1)))
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_of_one_output_it_is_the_cka_of_the_gradients():
    rows = [sample(9, 20, seed=seed) for seed in (0, 1)]
    grams = torch.stack([one @ one.T for one in rows])
    found = debiased_alignment(*(gram[None, None] for gram in grams))
    assert found.item() == pytest.approx(debiased_cka(grams)[0, 1].item())


def test_what_moves_an_output_for_all_stimuli_alike_does_not_count():
    one, other = sample(12, 3, 40, seed=0), sample(12, 3, 40, seed=1)
    shared = 30 * sample(1, 3, 40, seed=2)
    kernels = [kernel_of(own + shared) for own in (one, other)]
    assert debiased_alignment(*kernels).item() == pytest.approx(
        debiased_alignment(kernel_of(one), kernel_of(other)).item(), abs=1e-6
    )
    flat = [own.permute(2, 0, 3, 1).reshape(36, 36) for own in kernels]
    assert np.corrcoef(flat[0].flatten(), flat[1].flatten())[0, 1] > 0.9  # as it would be without centring


def test_unrelated_kernels_are_at_zero_and_half_shared_ones_at_a_half():
    unrelated, half = [], []
    for seed in range(0, 120, 3):
        one, other, shared = (sample(10, 2, 300, seed=seed + k) for k in range(3))
        unrelated.append(debiased_alignment(kernel_of(one), kernel_of(other)).item())
        half.append(debiased_alignment(kernel_of(one), kernel_of(one + shared)).item())
    for found, expected in ((unrelated, 0), (half, 0.5)):
        assert abs(np.mean(found) - expected) < 3.5 * np.std(found) / np.sqrt(len(found))


def test_few_stimuli_have_no_alignment():
    kernel = kernel_of(sample(3, 2, 5, seed=0))
    assert debiased_alignment(kernel, kernel).isnan()


def test_the_kernel_of_tokens_is_that_of_one_hot_features():
    labels = torch.tensor([0, 0, 1, 1, 1, 2])
    features = torch.einsum("it,ab->iabt", torch.eye(3)[labels], torch.eye(2)).flatten(2).double()
    found = token_kernel(labels, kernel_of(features))
    assert torch.equal(found, kernel_of(features))
    assert debiased_alignment(found, kernel_of(3 * features)).item() == pytest.approx(1)


def test_an_effective_rank_is_how_many_directions_there_are():
    rows = torch.linalg.qr(sample(20, 20, seed=0)).Q
    assert effective_rank(rows[:5].T.reshape(20, 5)).item() == pytest.approx(1)
    assert effective_rank((rows[:, :5] @ rows[:5]).view(20, 5, 2, 2)).item() == pytest.approx(5 / 20)
    assert effective_rank(rows[:, :1] @ rows[:1]).item() == pytest.approx(1 / 20, rel=1e-6)
    values = np.array([3.0, 1.0])
    shares = values / values.sum()
    expected = np.exp(-(shares * np.log(shares)).sum()) / 2
    assert effective_rank(torch.from_numpy(np.diag(values))).item() == pytest.approx(expected)
    assert effective_rank(torch.zeros(3, 4)).isnan()
    assert effective_rank(torch.full((3, 4), torch.nan)).isnan()


def test_filters_have_turned_beyond_an_angle():
    cosines = torch.tensor(np.cos(np.radians([0, 29, 31, 180])))
    assert turned_share(torch.cat([cosines, torch.tensor([torch.nan])]), 30.0).item() == 0.5
    assert turned_share(torch.tensor([torch.nan]), 30.0).isnan()


def test_many_outputs_are_mixed_so_that_their_kernel_is_on_average_the_mean():
    assert mix_outputs(5, 5) is None
    assert torch.equal(mix_outputs(9, 2), mix_outputs(9, 2))
    features = sample(8, 9, 5, seed=0)
    kernel = kernel_of(features)
    mixed = torch.stack([mix_outputs(9, 1, seed).double() for seed in range(2000)])
    found = torch.einsum("sma,abij,smb->ij", mixed, kernel, mixed) / len(mixed)
    torch.testing.assert_close(found, kernel.diagonal().mean(dim=-1), rtol=0.1, atol=0.2)


def test_stimuli_are_spread_over_tokens_and_exemplars():
    labels = torch.arange(250) % 5
    rows = spread_stimuli(labels, 10)
    assert torch.bincount(labels[rows]).tolist() == [2] * 5
    assert len(set(rows.tolist())) == 10
    assert rows.max() - rows.min() > 100
    assert sorted(spread_stimuli(labels[:7], 10).tolist()) == list(range(7))
