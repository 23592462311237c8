"""Layers that are called more than once, share their weight, or have their filters elsewhere: right, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from passed import run_bank
from torch import nn
from torch.nn.functional import cross_entropy, linear, relu
from torchvision.models import convnext_tiny, resnet18
from torchvision.ops import Permute

import lightning_emerge as le
from lightning_emerge.capture import (
    Firing,
    default_layers,
    find_leaves,
    find_weights,
    first_stimuli,
    open_network,
    refuse_filters,
)


def make_bank(*shape: int, size: int = 23) -> le.StimulusBank:
    images = torch.randn(size, *shape, generator=torch.Generator().manual_seed(1)).double()
    return le.StimulusBank(images, torch.arange(size) % 2, tuple(map(str, range(size))), ("a", "b"))


def refuse(network: nn.Module, bank: le.StimulusBank, layers: list[str], **asked: Any) -> dict[str, str]:
    """Layers of which some stimuli do not give what is asked for, each with why."""
    seen = run_bank(network, first_stimuli(bank, 3), layers, **asked)
    return {layer: str(error) for (_, layer), error in seen.troubles.items()}


def unfiltered(network: nn.Module, bank: le.StimulusBank, layers: list[str]) -> dict[str, str]:
    with refuse_filters(network, layers) as found:
        run_bank(network, first_stimuli(bank, 3), [])
    assert not any(layer._forward_hooks for layer in network.modules())
    return found


class Twice(nn.Module):
    """A convolution that is called twice, on its own output the second time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu(self.conv(self.relu(self.conv(images))))
        return self.fc(maps.mean(dim=(2, 3)))


class Tied(nn.Module):
    """Two linear maps with one weight; and its transpose, if asked for, which no module is called for."""

    def __init__(self, *, transposed: bool = False, embedded: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.fc, self.transposed = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2), transposed
        self.two.weight = self.one.weight
        if embedded:
            self.words = nn.Embedding(4, 4)
            self.words.weight = self.one.weight

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        rows = self.two(self.one(rows).tanh()).tanh()
        return self.fc(linear(rows, self.one.weight.T) if self.transposed else rows)


def mean_square(network: nn.Module, bank: le.StimulusBank, weight: nn.Parameter) -> torch.Tensor:
    """The mean square of each stimulus' gradient, one stimulus after the other."""
    return torch.stack(
        [
            torch.autograd.grad(cross_entropy(network(image[None]), label[None]), weight)[0].square()
            for image, label in zip(bank.images, bank.labels, strict=True)
        ]
    ).mean(dim=0)


@pytest.mark.parametrize(
    ("network", "layer", "shape"), [(Twice(), "conv", (3, 5, 5)), (Tied(), "one", (4,)), (Tied(), "two", (4,))]
)
def test_squares_are_of_the_sum_over_all_calls_with_the_weight(network, layer, shape):
    network, bank = network.double(), make_bank(*shape)
    expected = mean_square(network, bank, find_weights(network, [layer])[layer].sources[0])
    seen = run_bank(network, bank, [], squares=[layer])
    torch.testing.assert_close(seen.squares[layer], expected, rtol=1e-9, atol=1e-15)


def test_a_weight_that_is_used_beside_what_can_be_seen_is_refused_by_name():
    bank = make_bank(4)
    seen = run_bank(Tied(transposed=True).double(), bank, [], squares=["one", "fc"])
    assert set(seen.troubles) == {("squares", "one")}
    assert "'one' do not, as its weight is used elsewhere too" in str(seen.troubles["squares", "one"])
    with pytest.raises(ValueError, match="'one' is Linear and Linear and Embedding"):
        find_leaves(Tied(embedded=True), "one")


def test_a_weight_that_is_used_without_a_call_is_refused_before_it_has_a_gradient():
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.fc = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 2)
            nn.init.zeros_(self.fc.weight)  # so that nothing before it has one

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.fc(self.attention(rows, rows, rows)[0].mean(dim=1))

    network = Attends().double()
    for asked in ((["attention.out_proj"], ()), ((), ["attention.out_proj"])):
        refused = refuse(network, make_bank(5, 4), asked[0], squares=asked[1])
        assert "'attention.out_proj' was not reached" in refused["attention.out_proj"]


def test_rounding_does_not_look_like_another_use():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    bank = make_bank(64)
    for dtype in (torch.float32, torch.bfloat16):
        seen = run_bank(network.to(dtype), bank, [], squares=["0", "2"])
        assert all(float(square.sum()) > 0 for square in seen.squares.values())


def test_what_a_layer_gives_or_gets_in_several_calls_is_refused_by_name():
    network, bank = Twice().double(), make_bank(3, 5, 5)
    for asked in ({"layers": ["conv"]}, {"layers": [], "pooled": ["conv"]}, {"layers": [], "inputs": ["conv"]}):
        (error,) = run_bank(network, bank, **asked).troubles.values()
        assert "called once a pass; 'conv' is called 2 times" in str(error)
    refused = refuse(network, bank, ["conv", "relu", "fc"])
    assert set(refused) == {"conv", "relu"}
    with open_network(network, [], refused) as live:
        with pytest.raises(ValueError, match="'conv' is called 2 times"):
            live.respond("conv", bank.images)
        with pytest.raises(ValueError, match="'relu' is called 2 times"):
            live.intervene("relu", torch.zeros_like, bank.images)
        assert live.respond("fc", bank.images).shape == (23, 2)
        with open_network(network, []) as other, pytest.raises(ValueError, match="'relu' is called again"):
            other.intervene("relu", torch.zeros_like, bank.images)
        assert live.receptive_fields(["relu"], bank.images[0]) == {"relu": None}


def test_rows_that_are_no_stimuli_are_refused_by_name():
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.windows, self.fc = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.fc(self.windows(rows.flatten(0, 1)).unflatten(0, rows.shape[:2]).mean(dim=1))

    network, bank = Folded().double(), make_bank(6, 4)
    seen = run_bank(network, bank, ["windows"], squares=["windows"])
    told = {kind: str(error) for (kind, _), error in seen.troubles.items()}
    assert "a row for each stimulus; layer 'windows' gives (72, 4) for 12 stimuli" in told["activations"]
    assert "get a row for each stimulus; 'windows' gets others" in told["squares"]


# The axis of filters


class Sequence(nn.Module):
    """Positions first: embedded patches, a norm, linear maps, and one vector in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.act = nn.Conv2d(3, 6, 2, stride=2), nn.LayerNorm(6), nn.GELU()
        self.mix, self.fc = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = self.norm(self.patches(images).flatten(2).transpose(1, 2))
        return self.fc(self.act(self.mix(rows)).mean(dim=1))


def test_filters_of_maps_of_positions_are_refused_by_name():
    refused = unfiltered(Sequence().double(), make_bank(3, 8, 8), ["patches", "norm", "mix", "act", "fc"])
    assert set(refused) == {"norm", "mix", "act"}
    assert "'mix' has them elsewhere: it gives ('stimulus', 16, 6)" in refused["mix"]


def make_last() -> nn.Sequential:
    """Filters last, with as many filters as rows in the second layer."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), Permute([0, 2, 3, 1])),
        nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 8)),
        nn.ReLU(),
        nn.Sequential(nn.Linear(8, 5), Permute([0, 3, 1, 2])),
        nn.Flatten(),
        nn.Linear(5 * 64, 2),
    )


def test_filters_of_channels_last_networks_are_refused_by_name():
    refused = unfiltered(make_last().double(), make_bank(3, 10, 10), ["0", "1", "2", "3", "4", "5"])
    assert set(refused) == {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    ("network", "layers"),
    [
        (resnet18(), [*default_layers(resnet18()), "layer1", "layer2.0", "relu", "maxpool", "avgpool"]),
        (le.VGG(plan=[1, 2], width=2, head=[4], image_size=64), ["conv1_1", "conv1_1.relu", "pool1", "fc1", "fc2"]),
    ],
    ids=["resnet18", "vgg"],
)
def test_filters_of_convolutional_networks_are_their_second_axis(network, layers):
    assert unfiltered(network.double(), make_bank(3, 64, 64, size=3), layers) == {}


def test_a_convnext_has_those_of_its_convolutions_alone():
    network = convnext_tiny().double()
    layers = [layer for layer in default_layers(network) if layer.startswith(("features.0", "features.1.0", "classif"))]
    refused = unfiltered(network, make_bank(3, 32, 32, size=2), layers)
    assert {layer for layer in layers if layer not in refused} == {
        "features.0",
        "features.1.0.block.0",
        "classifier",
    }


# What fires


def relu_of(network: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the ReLU behind each layer of a ResNet's first two stages gives, by running it by hand."""
    found: dict[str, torch.Tensor] = {}
    maps = found["conv1"] = relu(network.bn1(network.conv1(images)))
    maps = network.maxpool(maps)
    for name in ("layer1.0", "layer1.1", "layer2.0", "layer2.1"):
        block = network.get_submodule(name)
        inner = found[f"{name}.conv1"] = relu(block.bn1(block.conv1(maps)))
        others = block.downsample(maps) if block.downsample else maps
        maps = found[f"{name}.conv2"] = relu(block.bn2(block.conv2(inner)) + others)
        if block.downsample:
            found[f"{name}.downsample"] = maps
    return found


@pytest.mark.parametrize("frozen", [False, True])
def test_channels_of_a_resnet_fire_behind_the_relu_that_follows(frozen):
    torch.manual_seed(0)
    network = resnet18(num_classes=3).train()
    for part in network.modules():  # so that some channels are dead
        if isinstance(part, nn.BatchNorm2d):
            part.bias.data = 3 * torch.randn_like(part.bias) - 3
            part.momentum = 0
    network.conv1.requires_grad_(not frozen)
    network.bn1.requires_grad_(not frozen)
    images = torch.randn(4, 3, 32, 32)
    firing = Firing(network, default_layers(network))
    network(images[:2])
    network(images[2:])
    firing.close()
    assert set(firing.fired) == set(default_layers(network)) - {"fc"}
    one, two = relu_of(network, images[:2]), relu_of(network, images[2:])
    for layer in one:
        expected = (one[layer] > 0).any(dim=(2, 3)).any(dim=0) | (two[layer] > 0).any(dim=(2, 3)).any(dim=0)
        assert torch.equal(firing.fired[layer], expected), layer
    assert 0.05 < torch.cat([*firing.fired.values()]).double().mean() < 0.95
    assert not any(part._forward_hooks for part in network.modules())


class Ahead(nn.Module):
    """A norm and a ReLU before the convolution, a linear map of positions, and ReLUs that are not modules."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(3, 4, 3)
        self.block = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3))
        self.places = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Dropout(0.1))
        self.hidden, self.smooth, self.fc = nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), nn.GELU()), nn.Linear(6, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.block(self.first(images))
        rows = self.places(maps.flatten(2).transpose(1, 2)).mean(dim=1)
        return self.fc(self.smooth(relu(self.hidden(rows))))


def test_a_relu_ahead_of_a_layer_is_not_its_own_and_channels_of_positions_are_last():
    network, images = Ahead().train(), torch.randn(2, 3, 7, 7)
    firing = Firing(network, default_layers(network))
    network(images)
    firing.close()
    assert set(firing.fired) == {"first", "places"}
    maps = network.block(network.first(images))
    rows = network.places[:2](maps.flatten(2).transpose(1, 2))
    assert torch.equal(firing.fired["places"], (rows > 0).any(dim=0).any(dim=0))
    assert torch.equal(firing.fired["first"], (network.block[:2](network.first(images)) > 0).any(dim=(0, 2, 3)))


def test_a_layer_that_is_called_twice_fires_in_either_call():
    network = Twice().float()
    with torch.no_grad():
        network.conv.bias += torch.tensor([-3.0, 3.0, 0.0])
    firing, images = Firing(network, ["conv"]), torch.randn(3, 3, 5, 5)
    network(images)
    one = relu(network.conv(images))
    two = relu(network.conv(one))
    firing.close()
    assert torch.equal(firing.fired["conv"], ((one > 0) | (two > 0)).any(dim=2).any(dim=2).any(dim=0))


# The last linear map


class Ends(nn.Module):
    def __init__(self, end: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.spare, self.end = nn.Linear(4, 2), nn.Linear(4, 2), end

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.spare(rows)
        out = self.fc(rows.tanh())
        self.spare(rows)
        return self.end(out)


def test_features_are_what_the_last_linear_map_gets():
    bank = make_bank(3, 32, 32)
    network = resnet18(num_classes=2).double()
    seen = run_bank(network, bank, [], features=True)
    last = network.fc
    with torch.no_grad():
        network.eval().fc = nn.Identity()
        expected = network(bank.images)
    torch.testing.assert_close(seen.features, expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(seen.outputs, last(expected).detach().float(), rtol=1e-5, atol=1e-6)
    assert torch.equal(seen.readout, last.weight)


@pytest.mark.parametrize("end", [lambda out: out, lambda out: out.float(), lambda out: out.view(-1, 2)])
def test_they_are_found_by_what_the_network_returns(end):
    network, bank = Ends(end).double(), make_bank(4)
    seen = run_bank(network, bank, [], features=True)
    assert torch.equal(seen.features, bank.images.tanh().float())
    assert torch.equal(seen.readout, network.fc.weight)


@pytest.mark.parametrize("end", [lambda out: out.softmax(dim=1), lambda out: out.mul_(2), lambda out: out + 1])
def test_a_network_that_returns_something_else_has_none(end):
    seen = run_bank(Ends(end).double(), make_bank(4), [], features=True)
    assert seen.features is None
    assert seen.readout is None
