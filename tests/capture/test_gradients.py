"""Gradients of the bank, of each token and of single stimuli."""

from __future__ import annotations

import pytest
import torch
from passed import run_bank
from small import count_hooks, make_bank, make_vgg
from torch import nn

import lightning_emerge as le
from lightning_emerge.capture import (
    default_layers,
    find_leaves,
    find_weights,
)


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_on_the_bank_are_those_of_its_mean_loss_and_leave_no_trace(frozen):
    network, bank = make_vgg(dropout=0.5, batch_norm=True), make_bank(70, 3, 8, 8)
    weights = {"conv1_1": network.conv1_1.conv.weight, "fc1": network.fc1.linear.weight}
    network.eval()
    loss = torch.nn.functional.cross_entropy(network(bank.images), bank.labels)
    expected = torch.autograd.grad(loss, list(weights.values()))
    network.train()
    weights["conv1_1"].requires_grad_(not frozen)
    seen = run_bank(network, bank, [], gradients=list(weights))
    for layer, gradient in zip(weights, expected, strict=True):
        torch.testing.assert_close(seen.gradients[layer], gradient, rtol=1e-4, atol=1e-7)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert weights["conv1_1"].requires_grad is not frozen
    assert network.training


def single_gradient(network: nn.Module, image: torch.Tensor, label: int, weight: torch.Tensor) -> torch.Tensor:
    loss = nn.functional.cross_entropy(network(image[None]), torch.tensor([label]))
    return torch.autograd.grad(loss, weight)[0].double()


class Odd(nn.Module):
    """Convolutions of several geometries, a batch norm, ReLUs in place, and a linear map over places."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.one = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.two = nn.Conv2d(4, 5, (3, 2), padding="same", dilation=(1, 2), bias=False)
        self.three = nn.Conv2d(5, 6, 3, padding=(0, 2))
        self.places = nn.Linear(6, 4)
        self.last = nn.Linear(4, 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu(self.norm(self.one(images)))
        maps = self.relu(self.three(self.relu(self.two(maps))))
        return self.last(self.places(maps.flatten(2).transpose(1, 2)).mean(dim=1))


@pytest.mark.parametrize("make", [make_vgg, Odd], ids=["vgg", "odd"])
def test_gradients_by_token_and_their_squares_are_those_of_single_stimuli(make):
    network, bank = make().double(), make_bank(41, 3, 8, 8)
    bank = le.StimulusBank(bank.images.double(), bank.labels, bank.ids, ("a", "b", "absent"))
    network(bank.images)  # statistics of the batch norm
    layers = list(default_layers(network))
    seen = run_bank(network, bank, [], gradients=layers, token_gradients=layers, squares=layers)
    assert count_hooks(network) == 0
    assert all(parameter.grad is None for parameter in network.parameters())
    network.eval()
    weights = find_weights(network, layers)
    for layer in layers:
        (weight,) = weights[layer].sources
        single = torch.stack(
            [single_gradient(network, *pair, weight) for pair in zip(bank.images, bank.labels.tolist(), strict=True)]
        )
        for token in (0, 1):
            mean = single[bank.labels == token].mean(dim=0)
            torch.testing.assert_close(seen.token_gradients[layer][token].double(), mean, rtol=1e-9, atol=1e-12)
        assert seen.token_gradients[layer][2].isnan().all()
        torch.testing.assert_close(seen.gradients[layer].double(), single.mean(dim=0), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(seen.squares[layer], single.square().mean(dim=0), rtol=1e-9, atol=1e-12)


def test_what_is_seen_does_not_depend_on_what_else_is_asked_for():
    network, bank = make_vgg(), make_bank(70, 3, 8, 8)
    layers = list(default_layers(network))
    alone, all_of_it = run_bank(network, bank, layers), run_bank(network, bank, layers, token_gradients=layers)
    assert torch.equal(alone.outputs, all_of_it.outputs)
    assert all(torch.equal(alone.activations[layer], all_of_it.activations[layer]) for layer in layers)


def test_layers_without_gradients_of_single_stimuli_are_refused():
    network = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 2))
    assert find_leaves(network, "2") == [network[2]]
    with pytest.raises(ValueError, match=r"without groups.*'0' is Conv2d"):
        find_leaves(network, "0")
