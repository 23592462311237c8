"""Which channels are ever above zero behind their ReLU."""

from __future__ import annotations

import pytest
import torch
from passed import run_bank
from small import Twice, count_hooks, make_bank, make_mlp, make_vgg
from torch import nn
from torch.nn.functional import relu
from torchvision.models import resnet18

from lightning_emerge.capture import (
    Firing,
    default_layers,
    open_network,
)


class TestFiring:
    def test_a_channel_that_is_never_above_zero_has_not_fired(self):
        network = make_vgg(width=4)
        with torch.no_grad():
            network.conv1_1.conv.weight[2] = 0
            network.conv1_1.conv.bias[2] = -1
        firing = Firing(network, ["conv1_1", "fc1", "fc2"])
        with torch.no_grad():  # as in validation
            network(torch.full((1, 3, 8, 8), 9.0))
        assert firing.fired == {}
        batches = [torch.randn(4, 3, 8, 8) for _ in range(2)]
        for images in batches:
            network(images)
        fired = firing.agree()
        firing.close()
        assert count_hooks(network) == 0
        assert set(fired) == {"conv1_1", "fc1"}  # fc2 has no ReLU
        units = network.fc1(
            network.average(
                network.pool2(network.conv2_2(network.conv2_1(network.pool1(network.conv1_1(torch.cat(batches))))))
            )
        )
        assert torch.equal(fired["fc1"], (units > 0).any(dim=0))
        assert fired["conv1_1"].tolist()[2] is False

    def test_what_cannot_be_told_of_a_layer_does_not_reach_training(self):
        """Sequences of many lengths, complex numbers: nothing is raised in a training step."""
        torch.manual_seed(0)

        class Waves(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.relu = nn.ReLU()

            def forward(self, rows: torch.Tensor) -> torch.Tensor:
                return torch.complex(self.relu(rows), rows)

        layers = nn.ModuleDict({"long": nn.Sequential(nn.Linear(3, 3), nn.ReLU()), "waves": Waves()})
        firing = Firing(layers, ["long", "waves"])
        made = [layers["long"](torch.rand(2, length, 3)) for length in (4, 5, 4)]
        for rows in made:
            layers["waves"](rows)
        fired = firing.agree()
        assert list(fired) == ["long"]
        assert torch.equal(fired["long"], (torch.cat(made, dim=1) > 0).any(dim=0).any(dim=0))
        firing.close()
        assert count_hooks(layers) == 0

    def test_what_fires_while_others_look_does_not_count(self):
        network = make_mlp()
        firing = Firing(network, ["0"])
        run_bank(network, make_bank(9, 4), ["0"], gradients=["0"])
        with open_network(network, ["0"]) as live:
            live(torch.randn(9, 4))
            network(torch.randn(9, 4))
        assert firing.agree() == {}
        rows = torch.randn(2, 4)
        network(rows)
        assert torch.equal(firing.agree()["0"], (network[0](rows) > 0).any(dim=0))
        firing.close()

    def test_compiled_modules_are_left_out(self):
        network = make_vgg()
        network.conv1_1 = torch.compile(network.conv1_1, backend="eager")
        firing = Firing(network, ["conv1_1", "fc1"])
        network(torch.randn(2, 3, 8, 8))
        assert firing.agree() == {}


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
