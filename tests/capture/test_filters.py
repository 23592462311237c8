"""Filters that are elsewhere than on the second axis are refused by name."""

from __future__ import annotations

import pytest
import torch
from small import make_doubles, unfiltered
from torch import nn
from torchvision.models import convnext_tiny, resnet18
from torchvision.ops import Permute

import lightning_emerge as le
from lightning_emerge.capture import (
    default_layers,
)


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
    refused = unfiltered(Sequence().double(), make_doubles(3, 8, 8), ["patches", "norm", "mix", "act", "fc"])
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
    refused = unfiltered(make_last().double(), make_doubles(3, 10, 10), ["0", "1", "2", "3", "4", "5"])
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
    assert unfiltered(network.double(), make_doubles(3, 64, 64, size=3), layers) == {}


def test_a_convnext_has_those_of_its_convolutions_alone():
    network = convnext_tiny().double()
    layers = [layer for layer in default_layers(network) if layer.startswith(("features.0", "features.1.0", "classif"))]
    refused = unfiltered(network, make_doubles(3, 32, 32, size=2), layers)
    assert {layer for layer in layers if layer not in refused} == {
        "features.0",
        "features.1.0.block.0",
        "classifier",
    }
