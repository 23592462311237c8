"""The weight in use, of layers that make it of other parameters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from passed import run_bank
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrizations, prune
from torch.nn.utils import spectral_norm as hooked_spectral_norm
from torch.nn.utils import weight_norm as hooked_weight_norm

import lightning_emerge as le
from lightning_emerge.capture import (
    default_layers,
    describe_convolution,
    find_layers,
    find_weights,
    open_network,
)


def prune_twice(layer: nn.Module) -> nn.Module:
    prune.l1_unstructured(layer, "weight", 0.3)
    return prune.random_unstructured(layer, "weight", 0.4)


KINDS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": lambda layer: layer,
    "weight_norm": hooked_weight_norm,
    "weight_norm as parametrisation": parametrizations.weight_norm,
    "spectral_norm": hooked_spectral_norm,
    "spectral_norm as parametrisation": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "pruned twice": prune_twice,
}
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")


def make(kind: str) -> nn.Sequential:
    torch.manual_seed(0)
    convolution, last = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
    network = nn.Sequential(
        KINDS[kind](convolution), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), KINDS[kind](last)
    )
    network.train()
    for _ in range(3):  # spectral norms iterate in training mode
        network(torch.randn(2, 3, 6, 6))
    with torch.no_grad():  # what an optimizer does: the weight in use is not made anew before the next call
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def unwrapped(network: nn.Sequential) -> nn.Sequential:
    """The same network with its weights in use as plain parameters, made by running it."""
    stale = {number: vars(network[number]).get("weight") for number in (0, 4)}
    with torch.no_grad():
        network.eval()(torch.zeros(2, 3, 6, 6, dtype=network[4].bias.dtype))
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    for number in (0, 4):
        plain[number].weight.data = network[number].weight.detach().clone()
        plain[number].bias.data = network[number].bias.detach().clone()
        if stale[number] is not None:
            network[number].weight = stale[number]
    network.train()
    return plain.eval()


def make_bank(size: int = 37) -> le.StimulusBank:
    images = torch.randn(size, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return le.StimulusBank(images, torch.arange(size) % 3, tuple(map(str, range(size))), ("a", "b", "c"))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_the_module_computes_with_and_reading_changes_nothing(kind):
    network = make(kind)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    plain, stream = unwrapped(network), torch.get_rng_state()
    assert default_layers(network) == ("0", "4")
    weights = find_weights(network, ["0", "4"])
    for layer, weight in weights.items():
        torch.testing.assert_close(weight.read(), plain[int(layer)].weight.detach())
        assert weight.derived is (kind != "plain")
        assert weight.dim == weight.read().dim()
    assert [*find_layers(network)] == ["0", "1", "2", "3", "4"]
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(part.training for part in network.modules())
    assert torch.equal(torch.get_rng_state(), stream)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_on_the_bank_are_with_respect_to_it(kind, frozen):
    network, bank = make(kind).double(), make_bank()
    bank = le.StimulusBank(bank.images.double(), bank.labels, bank.ids, bank.tokens)
    plain = unwrapped(network)
    network.requires_grad_(not frozen)
    hooks = [[*part._forward_pre_hooks.values()] for part in network.modules()]
    layers = ["0", "4"]
    seen = run_bank(network, bank, [], gradients=layers, token_gradients=layers, squares=layers)
    for layer in layers:
        weight = plain[int(layer)].weight
        single = torch.stack(
            [
                torch.autograd.grad(cross_entropy(plain(image[None]), label[None]), weight)[0]
                for image, label in zip(bank.images, bank.labels, strict=True)
            ]
        )
        close = {"rtol": 1e-4, "atol": 1e-7}
        torch.testing.assert_close(seen.gradients[layer], single.mean(dim=0), **close)
        torch.testing.assert_close(seen.squares[layer], single.square().mean(dim=0), **close)
        for token in range(3):
            torch.testing.assert_close(
                seen.token_gradients[layer][token], single[bank.labels == token].mean(dim=0), **close
            )
    assert [[*part._forward_pre_hooks.values()] for part in network.modules()] == hooks
    assert all(parameter.requires_grad is not frozen for parameter in network.parameters())
    network(bank.images)  # in training mode, made anew as before


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_of_a_look_is_differentiated_by_it(kind):
    network, images = make(kind), make_bank().images
    plain = unwrapped(network)
    expected = torch.autograd.grad(plain(images).square().sum(), plain[0].weight)[0]
    with open_network(network, ["0", "4"]) as live:
        weight = live.parameters(["0"])["0"]
        found = torch.autograd.grad(live(images).square().sum(), weight, create_graph=True)[0]
        torch.autograd.grad(found.sum(), weight)
    torch.testing.assert_close(found.detach(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_convolution_is_described_without_reading_its_weight(kind):
    network = make(kind)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    made = describe_convolution(network, "0")
    assert torch.equal(made.shift, network[0].bias.detach())
    assert made.scale.tolist() == [1] * 4
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_what_is_pruned_while_a_network_trains_is_seen():
    network = make("plain")
    weight = find_weights(network, ["0"])["0"]
    before = weight.read().clone()
    prune.l1_unstructured(network[0], "weight", 54)
    assert int((weight.read() == 0).sum()) == 54
    prune.remove(network[0], "weight")
    assert int((weight.read() == 0).sum()) == 54
    assert int((before == 0).sum()) == 0


@pytest.mark.parametrize("groups", [1, 2])
def test_filters_of_a_transposed_convolution_come_first(groups):
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 6, 3, groups=groups)
    weight = find_weights(nn.Sequential(layer), ["0"])["0"]
    rows = weight.by_filter(weight.read())
    assert rows.shape == (6, 4 // groups, 3, 3)
    images = torch.randn(1, 4, 5, 5)
    filters = layer(images)
    with torch.no_grad():
        for number in range(6):
            mine = number // (6 // groups)
            own = images[:, mine * (4 // groups) : (mine + 1) * (4 // groups)]
            made = nn.functional.conv_transpose2d(own, rows[number][:, None]) + layer.bias[number]
            torch.testing.assert_close(made[:, 0], filters[:, number].detach(), rtol=1e-4, atol=1e-5)


def test_gradients_of_a_transposed_convolution_have_its_filters_first():
    torch.manual_seed(0)
    network = nn.Sequential(nn.ConvTranspose2d(3, 5, 2), nn.Flatten(), nn.Linear(5 * 49, 3))
    bank = make_bank()
    seen = run_bank(network, bank, [], gradients=["0"], token_gradients=["0"])
    expected = torch.autograd.grad(cross_entropy(network(bank.images), bank.labels), network[0].weight)[0]
    torch.testing.assert_close(seen.gradients["0"], expected.transpose(0, 1), rtol=1e-4, atol=1e-6)
    assert seen.token_gradients["0"].shape == (3, 5, 3, 2, 2)


def test_filters_of_a_map_that_holds_its_inputs_first_are_its_columns():
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    network = nn.Sequential(Conv1D(3, 5), nn.ReLU(), nn.Linear(3, 2))  # three outputs of five inputs
    assert network[0].weight.shape == (5, 3)
    bank = le.StimulusBank(torch.randn(6, 5), torch.arange(6) % 2, tuple("abcdef"), ("x", "y"))
    found = le.look(network, bank, [le.FilterProbe(), le.TokenGradientProbe()])
    norms = found.filter_norm.sel(layer="0").values
    assert norms[:3] == pytest.approx(network[0].weight.norm(dim=0).tolist(), rel=1e-6)
