"""CurvatureProbe on networks whose Hessian is known, and in a fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import lightning_emerge as le
from lightning_emerge.capture import open_network


def look(network: nn.Module, probe: le.CurvatureProbe, bank: le.StimulusBank) -> dict[str, np.ndarray]:
    layers = probe.check(network)
    with open_network(network, layers, bank=bank) as live:
        capture = le.Capture(3, layers, bank, network=live)
        return {found.name: found.values for found in probe.measure(capture)}


def make_linear(images: torch.Tensor) -> tuple[nn.Module, le.StimulusBank]:
    """A linear classifier of two tokens at zero: its Hessian is 1/4 [[1, -1], [-1, 1]] times the mean of x x'."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 2, bias=False))
    nn.init.zeros_(network[1].weight)
    labels = torch.arange(len(images)) % 2
    return network, le.StimulusBank(images, labels, tuple(map(str, range(len(images)))), ("a", "b"))


def test_a_linear_classifier_has_its_closed_form():
    network, bank = make_linear(torch.diag(torch.tensor([4.0, 2.0, 1.0, 1.0])).view(4, 1, 2, 2))
    found = look(network, le.CurvatureProbe(eigenvalues=2, vectors=200), bank)
    # The eigenvalues of [[1, -1], [-1, 1]] / 4 are 1/2 and 0, those of the mean of x x' are 4, 1, 1/4, 1/4.
    np.testing.assert_allclose(found["hessian_eigenvalue"], [2, 0.5], rtol=1e-5)
    assert abs(found["hessian_trace"] - 2.75) < 3 * found["hessian_trace_error"]
    np.testing.assert_allclose(found["hessian_layer_trace"], [found["hessian_trace"]])


def test_layers_add_up_and_are_seen_jointly():
    torch.manual_seed(0)
    network = le.VGG(plan=[1, 1], width=2, head=[4], image_size=8, batch_norm=True)
    images = torch.randn(40, 3, 8, 8)
    bank = le.StimulusBank(images, torch.arange(40) % 5, tuple(map(str, range(40))), tuple("abcde"))
    found = look(network, le.CurvatureProbe(), bank)
    assert found["hessian_layer_trace"].shape == (4,)
    assert found["hessian_layer_trace"].sum() == pytest.approx(float(found["hessian_trace"]))
    single = [
        look(network, le.CurvatureProbe(layers=[layer]), bank)["hessian_eigenvalue"][0]
        for layer in le.CurvatureProbe().check(network)
    ]
    assert found["hessian_eigenvalue"][0] > max(single)
    again = look(network, le.CurvatureProbe(), bank)
    assert all(np.array_equal(found[name], again[name]) for name in found)
    other = look(network, le.CurvatureProbe(seed=1), bank)
    assert other["hessian_trace"] != found["hessian_trace"]
    np.testing.assert_allclose(other["hessian_eigenvalue"], found["hessian_eigenvalue"], rtol=1e-3)


class Attends(nn.Module):
    """A small classifier of tokens by attention, in one way or another."""

    def __init__(self, *, whole: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(2, 1, batch_first=True) if whole else nn.Linear(2, 6, bias=False)
        self.first, self.last = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = self.first(images[:, 0])
        if isinstance(self.attention, nn.MultiheadAttention):
            rows = self.attention(rows, rows, rows, need_weights=False)[0]
        else:
            rows = nn.functional.scaled_dot_product_attention(*self.attention(rows).chunk(3, dim=-1))
        return self.last(rows.mean(dim=1))


@pytest.mark.parametrize("whole", [True, False])
def test_attention_has_the_hessian_that_is_taken_entry_by_entry(whole):
    torch.manual_seed(0)
    network, images = Attends(whole=whole), torch.randn(8, 1, 3, 2)
    bank = le.StimulusBank(images, torch.arange(8) % 2, tuple(map(str, range(8))), ("a", "b"))
    layers = ["first", "last"] if whole else ["first", "attention", "last"]
    found = look(network, le.CurvatureProbe(eigenvalues=2, vectors=400, layers=layers), bank)
    named = {f"{layer}.weight": network.get_submodule(layer).weight.detach() for layer in layers}

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = flat.split([weight.numel() for weight in named.values()])
        used = {name: part.view_as(named[name]) for name, part in zip(named, parts, strict=True)}
        with sdpa_kernel(SDPBackend.MATH):
            outputs = torch.func.functional_call(network, used, (images,))
        return nn.functional.cross_entropy(outputs, bank.labels)

    start = torch.cat([weight.flatten() for weight in named.values()])
    hessian = torch.autograd.functional.hessian(loss, start)
    largest = torch.linalg.eigvalsh(hessian).flip(0)[:2]
    np.testing.assert_allclose(found["hessian_eigenvalue"], largest, rtol=1e-3)
    assert abs(found["hessian_trace"] - float(hessian.trace())) < 4 * found["hessian_trace_error"]


def test_a_network_that_diverged_is_nan_and_does_not_fail():
    network, bank = make_linear(torch.ones(4, 1, 2, 2))
    nn.init.constant_(network[1].weight, torch.nan)
    found = look(network, le.CurvatureProbe(), bank)
    assert all(np.isnan(values).all() for values in found.values())


@pytest.mark.parametrize(
    "arguments", [{"eigenvalues": 0}, {"eigenvalues": 4, "iterations": 3}, {"vectors": 1}], ids=str
)
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="vectors at least 2; got"):
        le.CurvatureProbe(**arguments)


def test_a_layer_without_a_weight_is_refused_before_training():
    with pytest.raises(ValueError, match="'pool1' holds 0"):
        le.CurvatureProbe(layers=["pool1"]).check(le.VGG(plan=[1], width=2, head=[], image_size=8))


def test_it_looks_seldom_unless_told_otherwise():
    assert [step for step in range(100) if le.CurvatureProbe().schedule(step)] == [0, 1, 2, 5, 10, 22, 46]
    assert le.CurvatureProbe(schedule=le.At([7])).schedule(7)


def test_a_function_without_a_second_derivative_is_refused_in_words():
    network = nn.Sequential(nn.Linear(4, 5), nn.Hardsigmoid(), nn.Linear(5, 3))
    bank = le.StimulusBank(torch.randn(6, 4), torch.arange(6) % 3, tuple("abcdef"), tuple("xyz"))
    with pytest.raises(ValueError, match=r"second derivatives.*hardsigmoid_backward.*Leave CurvatureProbe out"):
        le.look(network, bank, [le.CurvatureProbe()])
