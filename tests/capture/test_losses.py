"""Gradients of the loss that a network learns by, against torch's own; and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from passed import run_bank
from torch import nn
from torch.nn import functional as F

import lightning_emerge as le
from lightning_emerge.capture import find_layers, open_network

SIZE = 70


def rows(*shape: int) -> torch.Tensor:
    return torch.randn(SIZE, *shape, generator=torch.Generator().manual_seed(1)).double()


def bank_of(tokens: int, inputs: Any = None, **task: Any) -> le.StimulusBank:
    inputs = rows(6) if inputs is None else inputs
    return le.StimulusBank(
        inputs, torch.arange(SIZE) % tokens, tuple(map(str, range(SIZE))), tuple("abcd"[:tokens]), task=le.Task(**task)
    )


def mlp(outputs: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, outputs)).double()


class Learns(nn.Module):
    """An autoencoder whose loss is a method: it passes a second time, with a penalty beside."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls = mlp(6), 0
        self.logged: list[str] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.net(inputs)

    def log(self, name: str, value: torch.Tensor) -> None:
        self.logged.append(name)

    def learn(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        hidden = self.net[:2](inputs)
        loss = (self.net[2](hidden) - inputs).square().mean() + hidden.abs().mean() + targets.double().mean()
        self.log("loss", loss)
        return loss


def check(
    network: nn.Module, bank: le.StimulusBank, loss: Callable[[Any, torch.Tensor], torch.Tensor], layers: list[str]
) -> None:
    """Compares all gradients with those of a loss (inputs, positions) that is the mean over stimuli."""
    weights = [find_layers(network)[layer].get_parameter("weight") for layer in layers]
    seen = run_bank(network, bank, layers, gradients=layers, token_gradients=layers, squares=layers)
    assert not seen.troubles
    every = torch.arange(SIZE)
    for layer, expected in zip(layers, torch.autograd.grad(loss(bank.inputs, every), weights), strict=True):
        torch.testing.assert_close(seen.gradients[layer], expected)
    for token in range(len(bank.tokens)):
        own = (bank.labels == token).nonzero()[:, 0]
        found = torch.autograd.grad(loss(bank.inputs[own], own), weights)
        for layer, expected in zip(layers, found, strict=True):
            torch.testing.assert_close(seen.token_gradients[layer][token], expected)
    single = [torch.autograd.grad(loss(bank.inputs[at : at + 1], every[at : at + 1]), weights) for at in range(SIZE)]
    for number, layer in enumerate(layers):
        squares = torch.stack([each[number].square() for each in single]).mean(dim=0)
        torch.testing.assert_close(seen.squares[layer], squares)
    with open_network(network, layers, bank=bank) as live:
        torch.testing.assert_close(live.loss(every[:9]), loss(bank.inputs[:9], every[:9]) * 9)


@pytest.mark.parametrize("flat", [True, False])
def test_one_logit_of_two_tokens_learns_by_binary_cross_entropy(flat):
    network = nn.Sequential(*mlp(1), nn.Flatten(0) if flat else nn.Identity())
    bank = bank_of(2)

    def loss(inputs: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(network(inputs).flatten(), bank.labels[at].double())

    check(network, bank, loss, ["0", "2"])
    seen = run_bank(network, bank, [], features=True)
    torch.testing.assert_close(seen.outputs[:, 1], network(bank.inputs).flatten().float().detach())
    assert (seen.outputs[:, 0] == 0).all()


@pytest.mark.parametrize("own", [F.mse_loss, lambda outputs, targets: (outputs - targets).square().mean(dim=1)])
def test_an_autoencoder_learns_by_its_inputs(own):
    network = mlp(6)
    check(network, bank_of(3, loss=own, targets="inputs"), lambda x, _: F.mse_loss(network(x), x), ["0", "2"])


def test_a_regression_learns_by_targets_of_any_form():
    network, targets = mlp(2), {"at": rows(2), "weight": rows().abs()}
    bank = bank_of(3, loss=lambda out, to: (out - to["at"]).square().sum(dim=1) * to["weight"], targets=targets)

    def loss(inputs: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        return ((network(inputs) - targets["at"][at]).square().sum(dim=1) * targets["weight"][at]).mean()

    check(network, bank, loss, ["0", "2"])


def test_a_method_of_the_module_gives_the_loss_and_nobody_else_sees_its_pass():
    network, bank = Learns(), bank_of(3, loss="learn")

    def loss(inputs: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        return network.learn(inputs, bank.labels[at])

    check(network, bank, loss, ["0", "2"])
    network.logged.clear()
    plain = run_bank(network, bank, ["0"], features=True)
    before = network.calls
    seen = run_bank(network, bank, ["0"], features=True, gradients=["0"])
    assert network.calls - before == 3  # chunks
    assert not network.logged
    assert "log" not in vars(network)
    assert torch.equal(seen.activations["0"], plain.activations["0"])
    assert torch.equal(seen.features, plain.features)


def test_a_loss_that_samples_samples_the_same_each_time_and_leaves_the_streams_alone():
    def noisy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs - targets - torch.randn_like(targets)).square().mean()

    network, bank = mlp(6), bank_of(3, loss=noisy, targets="inputs")
    state = torch.get_rng_state()
    first, again = (run_bank(network, bank, [], gradients=["0"]).gradients["0"] for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"loss": lambda outputs, _: outputs}, r"one number a stimulus, or their mean; got \(24, 6\) for 24"),
        ({"loss": lambda *_: 0.5}, "got a float for 24"),
        ({"loss": F.cross_entropy, "outputs": "logits"}, "outputs='logits' is"),
        ({"loss": F.mse_loss}, "size of tensor|broadcast"),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_loss_that_does_not_fit_is_the_trouble_of_those_that_differentiate_it(task, words):
    seen = run_bank(mlp(6), bank_of(3, **task), ["0"], gradients=["0"])
    assert "0" in seen.activations
    assert [key for key in seen.troubles if key[0] == "gradients"] == [("gradients", "")]
    with pytest.raises((ValueError, RuntimeError), match=words):
        raise seen.troubles["gradients", ""]


def test_a_loss_asked_for_without_a_bank_is_refused():
    with open_network(mlp(3), ["0"]) as live, pytest.raises(ValueError, match="Images"):
        live.loss(torch.arange(2))
