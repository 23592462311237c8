"""Couplings against autograd, NumPy and SciPy; planted ones are found, and random weights have none."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from couplings import INPUTS, SIGNS, Scenario, plant, rates
from passed import run_bank
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, pad

import lightning_emerge as le
from lightning_emerge.capture import describe_convolution
from lightning_emerge.measures.chance import benjamini_hochberg, exceedance
from lightning_emerge.measures.coupling import (
    KINDS,
    RATE,
    count_edges,
    couple,
    coupling_strengths,
    kernel_strengths,
    shuffle_kernels,
    spread_stimuli,
)
from lightning_emerge.records import Convolution


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(filters: int, *, rectified: bool = True, **changes: object) -> Convolution:
    made = Convolution((1, 1), (1, 1), (1, 1, 1, 1), torch.ones(filters), torch.zeros(filters), rectified)
    return replace(made, **changes)


def smooth_inputs(seed: int, stimuli: int, filters: int, side: int, *, mixed: bool = False) -> torch.Tensor:
    """Activities as of a layer with a ReLU, independent of each other or mixed."""
    random = seeded(seed)
    rows = avg_pool2d(torch.randn(stimuli, filters, side, side, generator=random), 3, 1, 1)
    mix = torch.eye(filters) + (0.5 * torch.randn(filters, filters, generator=random) if mixed else 0)
    return torch.einsum("oi,niyx->noyx", mix, rows).relu()


def random_kernels(seed: int, filters: int, inputs: int, side: int = 3) -> torch.Tensor:
    return torch.randn(filters, inputs, side, side, generator=seeded(seed)) * (2 / (inputs * side**2)) ** 0.5


# What is measured


@pytest.mark.parametrize(
    "made",
    [
        plain(4),
        plain(4, rectified=False),
        plain(4, stride=(2, 2)),
        plain(4, dilation=(2, 1), padding=(1, 1, 2, 2)),
        plain(4, padding=(0, 0, 0, 0)),
        plain(4, scale=torch.tensor([1.0, -2.0, 0.5, 3.0]), shift=torch.tensor([0.1, -0.2, 0.3, -0.1])),
    ],
    ids=["plain", "linear", "strided", "dilated", "unpadded", "after batch norm"],
)
def test_effective_coupling_is_input_times_gradient_of_the_summed_output(made):
    inputs, weight = smooth_inputs(0, 7, 3, 8), random_kernels(1, 4, 3)
    found = couple(inputs, weight, made)
    leaves = inputs.double().requires_grad_()
    rows = conv2d(pad(leaves, made.padding), weight.double(), None, made.stride, 0, made.dilation)
    rows = rows * made.scale[:, None, None] + made.shift[:, None, None]
    rows = rows.relu() if made.rectified else rows
    for number in range(4):
        gradient = torch.autograd.grad(rows[:, number].sum(), leaves, retain_graph=True)[0]
        expected = (gradient * leaves).sum(dim=(0, 2, 3)) / rows[:, 0].numel()
        torch.testing.assert_close(found.effective[number], expected.detach(), rtol=1e-4, atol=1e-6)


def test_over_inputs_effective_couplings_add_up_to_the_mean_output_without_the_shift():
    inputs, weight = smooth_inputs(0, 7, 3, 8), random_kernels(1, 4, 3)
    mean = conv2d(inputs, weight, padding=1).relu().mean(dim=(0, 2, 3))
    torch.testing.assert_close(couple(inputs, weight, plain(4)).effective.sum(dim=1).float(), mean)


def test_correlations_are_those_within_places():
    inputs, weight = smooth_inputs(0, 40, 3, 5), random_kernels(1, 4, 3)
    inputs = inputs + torch.rand(3, 5, 5, generator=seeded(2))  # what a place has in common is left out
    found = couple(inputs, weight, plain(4))
    a, b = (rows.double().numpy() for rows in (inputs, conv2d(inputs, weight, padding=1).relu()))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    expected = np.corrcoef(*(rows.transpose(1, 0, 2, 3).reshape(len(rows[0]), -1) for rows in (b, a)))[:4, 4:]
    np.testing.assert_allclose(found.activation, expected, rtol=1e-4, atol=1e-5)


def test_inputs_of_a_strided_convolution_are_averaged_over_its_places():
    inputs, weight = smooth_inputs(0, 40, 3, 8), random_kernels(1, 4, 3)
    found = couple(inputs, weight, plain(4, stride=(2, 2)))
    a, b = avg_pool2d(inputs, 2).double().numpy(), conv2d(inputs, weight, stride=2, padding=1).relu().double().numpy()
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    expected = (a[:, 1] * b[:, 2]).sum() / np.sqrt((a[:, 1] ** 2).sum() * (b[:, 2] ** 2).sum())
    assert float(found.activation[2, 1]) == pytest.approx(expected, rel=1e-4)


def test_chunks_do_not_matter(monkeypatch):
    inputs, weight = smooth_inputs(0, 7, 3, 8), random_kernels(1, 4, 3)
    whole = couple(inputs, weight, plain(4))
    monkeypatch.setattr("lightning_emerge.measures.coupling._ROOM", 1)
    single = couple(inputs, weight, plain(4))
    torch.testing.assert_close(single.activation, whole.activation, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(single.effective, whole.effective, rtol=1e-5, atol=1e-6)


# The null


def test_each_filter_keeps_its_weights_in_another_order():
    weight = random_kernels(0, 4, 3)
    drawn = shuffle_kernels(weight, 5, seeded(0))
    assert drawn.shape == (5, 4, 3, 3, 3)
    for draw in drawn:
        assert torch.equal(draw.flatten(1).sort().values, weight.flatten(1).sort().values)
        assert (draw == weight).float().mean() < 0.2
    assert torch.equal(drawn, shuffle_kernels(weight, 5, seeded(0)))
    assert not torch.equal(drawn, shuffle_kernels(weight, 5, seeded(1)))


def test_stimuli_are_chosen_evenly_from_each_token():
    labels = torch.arange(60) % 3
    chosen = spread_stimuli(labels, 12)
    assert labels[chosen].bincount().tolist() == [4, 4, 4]
    assert len(set(chosen.tolist())) == 12
    assert torch.equal(spread_stimuli(labels, 60), torch.arange(60))
    assert torch.equal(spread_stimuli(labels, 99), torch.arange(60))


@pytest.mark.parametrize("count", [2, 5, 12])
def test_no_token_is_left_out_however_many_or_rare_there_are(count):
    labels = torch.cat([torch.arange(10).repeat_interleave(6), torch.tensor([10])])
    chosen = spread_stimuli(labels, count)
    assert labels[chosen].bincount().tolist() == [1] * 11


# What is found


def planted(seed: int, inputs: int, filters: int, times: float, *, mixed: bool = False):
    """Random kernels, of which one in twenty is larger and of one sign; what is found, and where they are."""
    weight = random_kernels(seed, filters, inputs)
    where = torch.rand(filters, inputs, generator=seeded(1000 + seed)) < 0.05
    weight[where] = times * weight[where].abs()
    rows = smooth_inputs(seed, 50, inputs, 12, mixed=mixed)
    strengths, least, _ = coupling_strengths(rows, weight, plain(filters), seeded(0))
    return {kind: count_edges(strengths[k], least[k], kind) for k, kind in enumerate(KINDS)}, where


@pytest.mark.parametrize(("inputs", "filters"), [(16, 32), (32, 32), (64, 64)])
@pytest.mark.parametrize("mixed", [False, True], ids=["independent", "mixed"])
def test_planted_couplings_are_found_among_random_ones(inputs, filters, mixed):
    right, found, there = (dict.fromkeys(KINDS, 0) for _ in range(3))
    for seed in range(4):
        edges, where = planted(seed, inputs, filters, 4, mixed=mixed)
        for kind, own in edges.items():
            right[kind] += int((own & where).sum())
            found[kind] += int(own.sum())
            there[kind] += int(where.sum())
    for kind in KINDS:
        assert right[kind] >= 0.9 * found[kind], kind
        assert right[kind] >= 0.9 * there[kind], kind


# Rates of false discoveries, and power. Each draw estimates its strengths and thresholds; the seeds are 0, 1, ...


def test_no_more_than_the_rate_of_random_kernels_is_found():
    """All that is found there is false, so that one layer in 20 may have any at all."""
    for signs in SIGNS:
        for kind, found in rates(Scenario(16, 0, signs), 80).items():
            assert found.kept, (signs, kind, found)


@pytest.mark.parametrize(("size", "draws", "least"), [(16, 15, 0.35), pytest.param(64, 4, 0.3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("share", [0.05, 0.2])
def test_what_counts_was_planted_but_for_the_rate(share, inputs, size, draws, least):
    for signs, biases in product(SIGNS, (False, True)):
        for kind, found in rates(Scenario(size, share, signs, inputs, biases), draws).items():
            assert found.kept, (signs, biases, kind, found)
            if kind == "weight":
                assert found.power > 0.6, (signs, biases, found)
            elif signs == "one sign":
                assert found.power > (0.15 if biases else least), (inputs, found)


@pytest.mark.slow
def test_the_null_of_kernels_is_not_too_light_without_those_that_count():
    def by_weight(scenario: Scenario, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        _, weight, where, _ = plant(scenario, seed)
        strengths, least = kernel_strengths(weight, torch.ones_like(where), 21, seeded(seed))
        return {"weight": count_edges(strengths, least, "weight")}, where

    found = rates(Scenario(64, 0.05, "mixed signs"), 60, by_weight)["weight"]
    assert found.false <= RATE, found
    assert found.power > 0.9


def test_a_correlation_cannot_claim_an_edge():
    """Against the null of effects most of what it finds is false: why it is recorded as it is, and no more."""

    def by_correlation(scenario: Scenario, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        inputs, weight, where, made = plant(scenario, seed)
        drawn = shuffle_kernels(weight, 8, seeded(seed))
        seen = [couple(inputs, own, made).activation for own in (weight, *drawn)]
        null = torch.stack(seen[1:]).flatten(0, 1)
        sizes, chances = (((own - null.mean(dim=0)) / null.std(dim=0)).abs() for own in (seen[0], null))
        chosen = benjamini_hochberg(exceedance(sizes.flatten(), chances.flatten()), 0.05)
        return {"activation": chosen.view(where.shape)}, where

    (found,) = rates(Scenario(32, 0.05, inputs="tuned to tokens"), 8, by_correlation).values()
    assert found.false > 0.3


def test_the_correlation_comes_as_it_is():
    inputs, weight = smooth_inputs(0, 30, 16, 8), random_kernels(1, 24, 16)
    _, _, together = coupling_strengths(inputs, weight, plain(24), seeded(0))
    torch.testing.assert_close(together, couple(inputs, weight, plain(24)).activation.float())
    assert float(together.abs().max()) <= 1


def test_a_kernel_of_the_same_size_without_order_is_not_found_by_weight_and_one_of_one_sign_by_effect():
    weight = random_kernels(0, 32, 32)
    weight[3, 5] = weight[3, 5].abs().mean()
    strengths, _, _ = coupling_strengths(smooth_inputs(0, 50, 32, 12), weight, plain(32), seeded(0))
    assert abs(float(strengths[0, 3, 5])) < 2
    assert float(strengths[1, 3, 5]) > 2.5


def test_an_inhibiting_kernel_is_seen_by_weight_and_hardly_by_effect_as_it_silences_where_it_is_active():
    weight = random_kernels(0, 32, 32)
    weight[3, 5] = -4 * weight[3, 5].abs()
    strengths, _, together = coupling_strengths(smooth_inputs(0, 50, 32, 12), weight, plain(32), seeded(0))
    assert float(strengths[0, 3, 5]) > 5
    assert abs(float(strengths[1, 3, 5])) < 3
    assert float(together[3, 5]) == float(together[3].min())


def test_an_untrained_network_has_no_more_edges_than_the_rate():
    """Over 20 networks: all edges are false there, so that one in 20 pairs of layers may have any at all."""
    data = le.TokenDataModule(val_exemplars=2, test_exemplars=2, bank_exemplars=6, image_size=16)
    data.setup("fit")
    bank, possible = data.stimulus_bank(), 0
    shares: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for seed in range(20):
        torch.manual_seed(seed)
        network = le.VGG(plan=[2, 2], width=12, head=[], image_size=16)
        layers = ["conv1_2", "conv2_1", "conv2_2"]
        seen = run_bank(network, bank, [], inputs=layers)
        for layer in layers:
            weight = network.get_submodule(layer)[0].weight.detach()
            made = describe_convolution(network, layer)
            strengths, least, _ = coupling_strengths(seen.inputs[layer], weight, made, seeded(0))
            possible += int(strengths[0].isfinite().sum())
            for k, kind in enumerate(KINDS):
                shares[kind].append(float(count_edges(strengths[k], least[k], kind).float().mean()))
    assert possible > 15_000
    for kind, own in shares.items():
        some = sum(share > 0 for share in own)
        assert np.mean(own) <= 0.005, kind
        assert some <= 0.05 * len(own) + 2 * (0.05 * 0.95 * len(own)) ** 0.5, kind


def test_labels_of_filters_do_not_matter():
    inputs, weight = smooth_inputs(0, 30, 32, 8), random_kernels(1, 24, 32)
    made = plain(24, shift=torch.linspace(-0.1, 0.1, 24))
    order = torch.randperm(24, generator=seeded(3))
    here = couple(inputs, weight, made)
    there = couple(inputs, weight[order], replace(made, shift=made.shift[order]))
    torch.testing.assert_close(there.effective, here.effective[order], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(there.activation, here.activation[order], rtol=1e-4, atol=1e-6)
    turned = torch.randperm(32, generator=seeded(4))
    again = couple(inputs[:, turned], weight[:, turned], made)
    torch.testing.assert_close(again.effective, here.effective[:, turned], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(again.activation, here.activation[:, turned], rtol=1e-4, atol=1e-6)


def test_relabelled_filters_have_the_edges_that_they_had():
    edges, where = planted(0, 32, 32, 4)
    weight = random_kernels(0, 32, 32)
    weight[where] = 4 * weight[where].abs()
    order = torch.randperm(32, generator=seeded(3))
    rows = smooth_inputs(0, 50, 32, 12)
    strengths, least, _ = coupling_strengths(rows, weight[order], plain(32), seeded(0))
    for k, kind in enumerate(KINDS):  # other orders are drawn, so that those at the threshold may differ
        again = count_edges(strengths[k], least[k], kind)
        assert (again == edges[kind][order]).float().mean() > 0.99


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_scales_of_inputs_and_filters_do_not_matter(scale):
    inputs, weight = smooth_inputs(0, 30, 16, 8), random_kernels(1, 16, 16)
    expected, _, _ = coupling_strengths(inputs, weight, plain(16), seeded(0))
    inputs, weight = inputs.clone(), weight.clone()
    inputs[:, 2] *= scale
    weight[:, 2] /= scale
    found = couple(inputs, weight, plain(16))
    torch.testing.assert_close(
        found.effective, couple(smooth_inputs(0, 30, 16, 8), random_kernels(1, 16, 16), plain(16)).effective
    )
    louder, _, _ = coupling_strengths(
        smooth_inputs(0, 30, 16, 8), scale * random_kernels(1, 16, 16), plain(16), seeded(0)
    )
    torch.testing.assert_close(louder, expected, rtol=1e-3, atol=1e-3)


def test_how_a_batch_norm_and_the_weights_before_it_share_a_filters_size_does_not_matter():
    inputs, weight = smooth_inputs(0, 30, 16, 8), random_kernels(1, 16, 16)
    norm = nn.BatchNorm2d(16).eval()
    norm.running_var.uniform_(0.5, 2, generator=seeded(2))
    layer = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), norm, nn.ReLU())
    layer[0].weight.data = weight
    network = nn.Sequential(layer, nn.Flatten()).eval()
    before, rows = describe_convolution(network, "0"), layer(inputs)
    factor = torch.logspace(-2, 0, 16)
    layer[0].weight.data = weight * factor[:, None, None, None]
    norm.running_var.mul_(factor**2)
    norm.weight.data = ((norm.running_var + norm.eps) / (norm.running_var / factor**2 + norm.eps)).sqrt() / factor
    torch.testing.assert_close(layer(inputs), rows, rtol=1e-3, atol=1e-4)
    expected, _, _ = coupling_strengths(inputs, weight, before, seeded(0))
    found, _, _ = coupling_strengths(inputs, layer[0].weight.detach(), describe_convolution(network, "0"), seeded(0))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_silent_inputs_dead_filters_and_kernels_without_variety_have_no_edges():
    inputs, weight = smooth_inputs(0, 30, 16, 8), random_kernels(1, 16, 16)
    inputs[:, 2] = 0
    made = plain(16, shift=torch.where(torch.arange(16) == 5, -1e3, 0.0))
    strengths, _, _ = coupling_strengths(inputs, weight, made, seeded(0))
    assert strengths[:, :, 2].isnan().all()
    assert strengths[:, 5].isnan().all()
    assert strengths.isfinite().sum().tolist() == len(KINDS) * 15 * 15
    same, least, _ = coupling_strengths(inputs, torch.ones_like(weight), plain(16), seeded(0))
    assert same[0].isnan().all()
    assert least[0].isnan()


def test_kernels_of_one_weight_have_effects_and_no_strength_of_their_own():
    inputs, weight = smooth_inputs(0, 30, 16, 8), random_kernels(1, 16, 16, side=1)
    weight[3, 5] = 4 * weight.abs().max()
    strengths, least, _ = coupling_strengths(inputs, weight, plain(16, padding=(0, 0, 0, 0)), seeded(0))
    assert strengths[0].isnan().all()
    assert least[0].isnan()
    assert strengths[1].isfinite().all()
    assert float(strengths[1, 3, 5]) == float(strengths[1].max())


@pytest.mark.parametrize("filters", [16, 64, 128])
def test_a_single_strong_kernel_is_found_by_weight(filters):
    weight = random_kernels(0, filters, filters)
    weight[3, 5] *= 4
    strengths, least, _ = coupling_strengths(smooth_inputs(0, 4, filters, 4), weight, plain(filters), seeded(0))
    assert count_edges(strengths[0], least[0], "weight").nonzero().tolist() == [[3, 5]]


def test_all_counts_that_is_as_strong_as_the_threshold():
    strengths, least = kernel_strengths(random_kernels(0, 8, 8), torch.ones(8, 8, dtype=torch.bool), 4, seeded(0))
    assert least.isnan()
    assert not count_edges(strengths, least, "weight").any()
    sizes = torch.tensor([[-3.0, 2.0], [3.0, torch.nan]])
    assert count_edges(sizes, torch.tensor(3.0), "weight").tolist() == [[False, False], [True, False]]
    assert count_edges(sizes, torch.tensor(3.0), "effective").tolist() == [[True, False], [True, False]]
